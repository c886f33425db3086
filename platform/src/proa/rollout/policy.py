"""How a model's canary is run: steps, how much must be seen, how long, how worse is too worse.

The defaults come from the power analysis in `tests/bench/canary.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from proa.errors import InvalidInput

__all__ = ["Policy", "Shadow", "parse_policy"]


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the step at weight 0 must have seen: every number that is not 0 must be reached.

    Attributes:
        units: units whose calls the challenger answered unseen.
        seconds: how long it did so.
        labels: shadow answers whose truth is known; then the truth decides.
    """

    units: int = 0
    seconds: float = 0.0
    labels: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """A canary's settings.

    Attributes:
        steps: weights of the challenger in percent, rising; none means no canary.
        minimum_units: units (entities, users, conversations) the challenger must have served in a
            step before it may pass; also what the sequential test is sharpest at.
        max_seconds: how long one step may stay inconclusive.
        on_inconclusive: then `abort` sets the weight to 0, `hold` keeps it until a person decides
            or enough has been seen.
        error_margin: by how much the challenger's error ratio may exceed the champion's.
        latency_ratio: by what factor its p95 latency may exceed the champion's.
        latency_floor_ms: a difference of p95 below this is felt by nobody.
        share_margin: the same as `error_margin` for answers cut by length, refusals, guard hits
            and refused requests (4xx).
        tokens_ratio: by what factor, either way, the mean of an answer's tokens may differ.
        distribution_margin: how far apart the distributions of predictions may be
            (Kolmogorov-Smirnov distance, 0 to 1).
        baseline_seconds: how far back the champion's own baseline reaches from the first step.
        warm_seconds: how long the previous release stays running after a promotion.
        shadow: a first step at weight 0 (classic models); None means none.
    """

    steps: tuple[int, ...] = field(default=(10, 50))
    minimum_units: int = 200
    max_seconds: float = 900.0
    on_inconclusive: Literal["abort", "hold"] = "abort"
    error_margin: float = 0.03
    latency_ratio: float = 1.25
    latency_floor_ms: float = 5.0
    share_margin: float = 0.05
    tokens_ratio: float = 1.5
    distribution_margin: float = 0.2
    baseline_seconds: float = 3600.0
    warm_seconds: float = 1800.0
    shadow: Shadow | None = None

    @property
    def weights(self) -> tuple[int, ...]:
        """The weight of every step, the shadow's 0 included."""
        return self.steps if self.shadow is None else (0, *self.steps)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `parse_policy` reads."""
        return {**asdict(self), "steps": list(self.steps)}


_LOW: Mapping[str, float] = {"latency_ratio": 1.0, "tokens_ratio": 1.0}
_HIGH: Mapping[str, float] = dict.fromkeys(("error_margin", "share_margin"), 1.0) | {
    "distribution_margin": 1.0
}
_WHOLE = frozenset({"minimum_units", "units", "labels"})


def parse_policy(value: Mapping[str, Any]) -> Policy:
    """Read a policy; missing keys take their defaults.

    `shadow` may be a number of units or an object with `units`, `seconds`, `labels`.

    Raises:
        InvalidInput: an unknown key, a wrong type or a value out of range.
    """
    _check_keys(value, Policy, "rollout policy")
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key == "steps":
            found[key] = _steps(item)
        elif key == "shadow":
            found[key] = _shadow(item)
        elif key == "on_inconclusive":
            if item not in ("abort", "hold"):
                raise InvalidInput(
                    f"rollout policy: on_inconclusive = {item!r}: expected abort or hold", param=key
                )
            found[key] = item
        else:
            found[key] = _number(key, item, "rollout policy")
    policy = Policy(**found)
    if policy.shadow is not None and not policy.steps:
        raise InvalidInput("rollout policy: shadow needs steps after it", param="shadow")
    return policy


def _check_keys(value: Mapping[str, Any], kind: Any, where: str) -> None:
    known = [item.name for item in fields(kind)]
    for key in value:
        if key not in known:
            hint = "; its name is minimum_units now" if key == "minimum_calls" else ""
            raise InvalidInput(
                f"{where}: {key} is not a key; expected one of {', '.join(sorted(known))}{hint}",
                param=str(key),
            )


def _steps(steps: Any) -> tuple[int, ...]:
    if not isinstance(steps, list | tuple) or not all(
        isinstance(step, int) and not isinstance(step, bool) and 1 <= step <= 99 for step in steps
    ):
        raise InvalidInput(
            f"rollout policy: steps = {steps!r}: expected whole percents 1 to 99", param="steps"
        )
    if list(steps) != sorted(set(steps)):
        raise InvalidInput(
            f"rollout policy: steps = {steps!r}: expected rising weights", param="steps"
        )
    return tuple(steps)


def _shadow(value: Any) -> Shadow | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        value = {"units": value}
    _check_keys(value, Shadow, "rollout policy: shadow")
    found: dict[str, Any] = {key: _number(key, item, "shadow") for key, item in value.items()}
    shadow = Shadow(**found)
    if not (shadow.units or shadow.seconds or shadow.labels):
        raise InvalidInput(
            "rollout policy: shadow is empty: expected units, seconds or labels above 0",
            param="shadow",
        )
    return shadow


def _number(key: str, item: Any, where: str) -> int | float:
    low, high = _LOW.get(key, 0.0), _HIGH.get(key, math.inf)
    good = isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item)
    if not good or not low <= item <= high or (key in _WHOLE and item != int(item)):
        most = "" if high == math.inf else f" to {high:g}"
        what = "a whole number" if key in _WHOLE else "a number"
        raise InvalidInput(
            f"{where}: {key} = {item!r}: expected {what} from {low:g}{most}", param=key
        )
    return int(item) if key in _WHOLE else float(item)
