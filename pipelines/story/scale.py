"""How large the story is told: the whole of it for people, a small one for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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


FULL = Scale()
TEST = Scale(
    classic={"train.trials": "2"},
    again={"train.trials": "2"},
    calls=15,
    llm_calls=5,
    error_margin=0.65,
    steps=(50,),
)
