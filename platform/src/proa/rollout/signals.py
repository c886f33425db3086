"""What a canary is judged by: one comparison of two tallies per signal, none of them a verdict yet.

`errors` and `latency` must be shown to be within their margins; the others are guardrails, which
only stop what is shown to be beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from proa.ledger.tally import Sums, Tally, quantile
from proa.rollout.policy import Policy
from proa.rollout.sequence import (
    Interval,
    apart,
    difference,
    latency_ratio,
    mean_ratio,
    resolvable,
)

__all__ = ["Comparison", "Signal", "signals_of"]

Direction = Literal["within", "beyond", "unsure"]
_FEWEST: Final = 10
"""Units on both sides below which no interval is trusted."""
_NOISE: Final = 0.87
"""How far apart two samples of one distribution are on average (Kolmogorov's: sqrt(pi/2) ln 2)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two tallies held against each other.

    Attributes:
        interval: of a difference (shares, distributions) or a ratio (latency, tokens).
        margin: what it is held against, in the same unit.
        place: where the truth is shown to be.
        worse: shown to be worse at all, and the estimate lies beyond the margin.
        shift: how far the estimate lies from "no change", on the scale that margins add up on.
    """

    interval: Interval
    margin: float
    place: Direction
    worse: bool
    shift: float


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing to compare.

    Attributes:
        primary: the pass needs it shown to be within its margin.
        read: the value that people are shown; NaN where nothing was reported.
        compare: the two tallies and by how much the margin is widened; None without enough data.
    """

    name: str
    primary: bool
    read: Callable[[Tally], float]
    compare: Callable[[Tally, Tally, float], Comparison | None]


def signals_of(kind: str, policy: Policy) -> Iterator[Signal]:
    """The signals of a model's kind, the primary ones first."""
    margin = policy.error_margin
    yield _share("errors", policy, margin, primary=True)
    share = resolvable(policy.minimum_units)
    if share is not None:
        yield _latency(policy, share)
    yield _share("rejected", policy, policy.share_margin)
    if kind == "classic":
        yield _predictions(policy)
        return
    yield _tokens(policy)
    for name in ("length_stops", "refusals", "guard_hits"):
        yield _share(name, policy, policy.share_margin)


def _enough(*sides: Sums) -> bool:
    return all(side.units >= _FEWEST for side in sides)


def _place(low: float, high: float, bound: float) -> Direction:
    return "beyond" if low > bound else "within" if high < bound else "unsure"


def _share(name: str, policy: Policy, margin: float, *, primary: bool = False) -> Signal:
    def compare(one: Tally, other: Tally, more: float) -> Comparison | None:
        if not _enough(one.of(name), other.of(name)):
            return _certain(one.of(name), other.of(name), margin) if primary else None
        found = difference(one.of(name), other.of(name), policy.minimum_units)
        bound = margin + more
        place = _place(found.low, found.high, bound)
        worse = found.low > 0 and found.estimate > bound
        return Comparison(found, bound, place, worse, found.estimate)

    return Signal(name, primary, lambda tally: tally.of(name).mean, compare)


def _certain(one: Sums, other: Sums, margin: float) -> Comparison | None:
    """Below ten units a wide margin can still be held by the arithmetic of so few."""
    if not one.units or not other.units:
        return None
    found = difference(one, other, one.effective)
    place: Direction = "within" if found.high < margin else "unsure"
    return Comparison(found, margin, place, found.estimate > margin, found.estimate)


def _latency(policy: Policy, share: float) -> Signal:
    """A quantile of good answers; "no difference" includes what nobody feels."""

    def compare(one: Tally, other: Tally, more: float) -> Comparison | None:
        sums = one.of("log_latency"), other.of("log_latency")
        if not _enough(*sums):
            return None
        found = latency_ratio(
            (one.latency, sums[0]),
            (other.latency, sums[1]),
            share=share,
            sharpest=policy.minimum_units,
        )
        there = quantile(other.latency, share)
        bound = max(policy.latency_ratio, 1 + policy.latency_floor_ms / there) * math.exp(more)
        place = _place(found.low, found.high, bound)
        worse = found.low > 1 and found.estimate > bound
        return Comparison(found, bound, place, worse, math.log(found.estimate))

    name = f"latency_p{share * 100:.0f}_ms"
    return Signal(name, True, lambda tally: quantile(tally.latency, share), compare)


def _tokens(policy: Policy) -> Signal:
    """The mean of an answer's tokens: too few is as suspicious as too many."""

    def compare(one: Tally, other: Tally, more: float) -> Comparison | None:
        sums = one.of("tokens_out"), other.of("tokens_out")
        if not _enough(*sums) or not other.of("tokens_out").mean > 0:
            return None
        if not sums[0].mean > 0:
            nothing = Interval(0.0, 0.0, 0.0)
            return Comparison(nothing, policy.tokens_ratio, "beyond", True, -math.inf)
        found = mean_ratio(*sums, policy.minimum_units)
        bound = policy.tokens_ratio * math.exp(more)
        shift = math.log(found.estimate)
        low, high = math.log(found.low), math.log(found.high)
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        place = _place(nearest, max(abs(low), abs(high)), math.log(bound))
        worse = nearest > 0 and abs(shift) > math.log(bound)
        return Comparison(found, bound, place, worse, shift)

    return Signal("tokens_out", False, lambda tally: tally.of("tokens_out").mean, compare)


def _predictions(policy: Policy) -> Signal:
    """The distribution of predictions; rows of one unit are taken to be all alike."""

    def compare(one: Tally, other: Tally, more: float) -> Comparison | None:
        sums = one.of("predictions"), other.of("predictions")
        if not _enough(*sums):
            return None
        counts = [_clusters(side) for side in sums]
        found = apart((one.predictions, counts[0]), (other.predictions, counts[1]))
        bound = policy.distribution_margin + more
        noise = _NOISE * math.sqrt(sum(1 / count for count in counts))
        place = _place(found.low, found.high, bound)
        return Comparison(found, bound, place, found.estimate > bound + noise, found.estimate)

    def read(tally: Tally) -> float:
        """The median bin."""
        total, seen = sum(tally.predictions.values()), 0
        for bucket in sorted(tally.predictions):
            seen += tally.predictions[bucket]
            if seen * 2 >= total:
                return float(bucket)
        return math.nan

    return Signal("predictions", False, read, compare)


def _clusters(rows: Sums) -> float:
    """`total` is rows here, `squares` of a unit's rows."""
    return rows.total**2 / rows.squares if rows.squares else 1.0
