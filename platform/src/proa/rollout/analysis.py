"""The analysis of one canary step: exact counts in, one of three values out.

Calls are counted by the gateways, per release, from the moment the step's weights were in force.
Intervals: Newcombe's hybrid score interval for a difference of proportions (Statistics in
Medicine 17, 1998, method 10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from proa.rollout.policy import Policy

Value = Literal["pass", "fail", "inconclusive"]
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Counts:
    """What one release did in a step: calls, errors (5xx and broken streams), p95 in ms."""

    calls: int
    errors: int
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """A step's verdict and the sentence that explains it."""

    value: Value
    reason: str


def analyse(challenger: Counts | None, champion: Counts | None, policy: Policy) -> Analysis:
    """Judge a step. Missing counts and too few calls are inconclusive, never a pass.

    Fails when the challenger's error ratio is above the champion's by more than the margin with
    95 % confidence. Passes when it has enough calls and its observed error ratio and p95 latency
    are within the margins; anything between waits for more calls.
    """
    if challenger is None or champion is None:
        return Analysis("inconclusive", "the gateway's counts are missing")
    low = _excess_errors(challenger, champion)
    if low is not None and low > policy.error_margin:
        return Analysis(
            "fail",
            f"errors {challenger.errors}/{challenger.calls} against "
            f"{champion.errors}/{champion.calls}: worse by more than {policy.error_margin:.0%}",
        )
    if challenger.calls < policy.minimum_calls:
        return Analysis("inconclusive", f"{challenger.calls} of {policy.minimum_calls} calls seen")
    if _ratio(challenger) > _ratio(champion) + policy.error_margin:
        return Analysis("inconclusive", f"error ratio {_ratio(challenger):.1%} may be too high")
    if _too_slow(challenger, champion, policy):
        return Analysis(
            "fail",
            f"p95 {challenger.p95_ms:.1f} ms against {champion.p95_ms:.1f} ms: more than "
            f"{policy.latency_ratio:g} times",
        )
    return Analysis("pass", f"{challenger.calls} calls, {challenger.errors} errors")


def _ratio(counts: Counts) -> float:
    return counts.errors / counts.calls if counts.calls else 0.0


def _too_slow(challenger: Counts, champion: Counts, policy: Policy) -> bool:
    """Below 10 ms a ratio says nothing about what a user feels, so a floor of 10 ms is added."""
    if challenger.p95_ms is None or champion.p95_ms is None:
        return False
    if champion.calls < policy.minimum_calls:
        return False
    return challenger.p95_ms > champion.p95_ms * policy.latency_ratio + 10.0


def _excess_errors(challenger: Counts, champion: Counts) -> float | None:
    """Lower 95 % bound of the difference of error ratios; None without calls on either side."""
    if not challenger.calls or not champion.calls:
        return None
    p1, p2 = _ratio(challenger), _ratio(champion)
    low1, _ = wilson(challenger.errors, challenger.calls)
    _, high2 = wilson(champion.errors, champion.calls)
    return p1 - p2 - math.sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (JASA 22, 1927)."""
    p, z2 = successes / trials, _Z * _Z
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)
