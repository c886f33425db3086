"""How large the story is told: the whole of it for people, a small one for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from proa.rollout.policy import Policy


@dataclass(frozen=True, slots=True)
class Spring:
    """The replay of a spring.

    Attributes:
        start, end: local days, whole ones.
        flights: asked for, a day.
        flights_a_call: of one hour; one while there is a canary, which counts units.
        days_after: days after the promotion that are still lived.
    """

    start: str = "2013-04-01"
    end: str = "2013-07-01"
    flights: int = 200
    flights_a_call: int = 6
    days_after: int = 28


@dataclass(frozen=True, slots=True)
class Scale:
    """Settings of one telling.

    Attributes:
        classic, llm: overrides of the projects' proa.yaml.
        again: overrides of the classic project's later releases, whose search may be short.
        calls: users that each canary step must serve.
        error_margin: by how much a canary's error ratio may exceed the champion's; so few users
            cannot show less.
        steps: weights of the canaries in percent.
        classic_pace, llm_pace: background calls at once while a rollout goes on.
        every: of the language model's golden tasks, every nth question of a suite is asked.
        spring: the replay that ends in a retraining.
    """

    classic: Mapping[str, str] = field(default_factory=dict)
    llm: Mapping[str, str] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=lambda: {"train.trials": "5"})
    calls: int = 40
    llm_calls: int = 12
    error_margin: float = 0.45
    steps: tuple[int, ...] = (20, 50)
    classic_pace: int = 4
    llm_pace: int = 4
    every: int = 4
    spring: Spring = field(default_factory=Spring)

    def canary(self, calls: int) -> Policy:
        """How a canary is judged by so few users on a busy machine; a new prompt may say more."""
        return Policy(
            steps=self.steps,
            minimum_units=calls,
            error_margin=self.error_margin,
            latency_ratio=6.0,
            tokens_ratio=4.0,
            share_margin=0.3,
        )

    @property
    def by_itself(self) -> dict[str, str]:
        """Overrides for what the platform does unasked, as text: its run and its canary."""
        policy = self.canary(self.calls)
        return {
            "retrain.set": json.dumps(dict(self.again)),
            "rollout.steps": str(list(policy.steps)),
            "rollout.minimum_units": str(policy.minimum_units),
            "rollout.error_margin": str(policy.error_margin),
            "rollout.latency_ratio": str(policy.latency_ratio),
            "rollout.share_margin": str(policy.share_margin),
            # made because the probabilities were not true: its own are meant to be others
            "rollout.distribution_margin": "0.5",
        }


FULL = Scale()
TEST = Scale(
    classic={"train.trials": "2"},
    again={"train.trials": "2"},
    calls=15,
    llm_calls=5,
    error_margin=0.65,
    steps=(50,),
    spring=Spring(flights_a_call=20, days_after=7),
)
