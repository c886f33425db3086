"""How a model's canary is run: steps, how much must be seen, how long, how worse is too worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from proa.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Policy:
    """A canary's settings.

    Attributes:
        steps: weights of the challenger in percent, rising; none means no canary.
        minimum_calls: user calls the challenger must have answered in a step before it is judged.
        max_seconds: how long one step may stay inconclusive before the weight goes back to 0.
        error_margin: by how much the challenger's error ratio may exceed the champion's.
        latency_ratio: by what factor its p95 latency may exceed the champion's.
        warm_seconds: how long the previous release stays running after a promotion.
    """

    steps: tuple[int, ...] = field(default=(10, 50))
    minimum_calls: int = 30
    max_seconds: float = 900.0
    error_margin: float = 0.05
    latency_ratio: float = 1.5
    warm_seconds: float = 1800.0

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `parse_policy` reads."""
        return {**asdict(self), "steps": list(self.steps)}


def parse_policy(value: Mapping[str, Any]) -> Policy:
    """Read a policy; missing keys take their defaults.

    Raises:
        InvalidInput: an unknown key, a wrong type or a value out of range.
    """
    known = {item.name for item in fields(Policy)}
    for key in value:
        if key not in known:
            raise InvalidInput(
                f"rollout policy: {key} is not a key; expected one of {', '.join(sorted(known))}",
                param=key,
            )
    steps = value.get("steps", Policy().steps)
    if not isinstance(steps, list | tuple) or not all(
        isinstance(step, int) and not isinstance(step, bool) and 1 <= step <= 99 for step in steps
    ):
        raise InvalidInput(f"rollout policy: steps = {steps!r}: expected whole percents 1 to 99")
    if list(steps) != sorted(set(steps)):
        raise InvalidInput(f"rollout policy: steps = {steps!r}: expected rising weights")
    numbers: dict[str, Any] = {}
    for key, item in value.items():
        if key == "steps":
            continue
        if isinstance(item, bool) or not isinstance(item, int | float) or not item >= 0:
            raise InvalidInput(f"rollout policy: {key} = {item!r}: expected a number from 0")
        numbers[key] = int(item) if key == "minimum_calls" else float(item)
    return Policy(steps=tuple(steps), **numbers)
