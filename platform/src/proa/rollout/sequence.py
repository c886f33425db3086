"""Intervals that stay true however often one looks: a confidence sequence instead of an interval.

The controller looks at every tick. A fixed 95 % interval looked at a hundred times excludes the
truth far more often than 5 % of the time; these exclude it, at any look, with 5 % at most.

Widths: the normal-mixture boundary of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52
(2024), theorem 2.2 and appendix B.2 (where it is tightest). It replaces the normal quantile in
the score interval of a share (Wilson, JASA 22, 1927), in the order-statistic interval of a
quantile, and in the delta-method interval of a ratio of means. Two releases are compared by MOVER
(Zou and Donner, Statistics in Medicine 27, 2008; for shares it is Newcombe's method 10, 1998).
Asymptotic: trusted from ten units on. Distribution functions: Howard and Ramdas, "Sequential
estimation of quantiles with applications to A/B testing and best-arm identification", Bernoulli 28
(2022), corollary 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proa.ledger.tally import Sums, quantile

__all__ = [
    "ALPHA",
    "Interval",
    "apart",
    "boundary",
    "difference",
    "latency_ratio",
    "mean_of",
    "mean_ratio",
    "resolvable",
]

ALPHA: Final = 0.05
"""Both sides together, over all looks."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and where the truth lies."""

    estimate: float
    low: float
    high: float


def boundary(count: float, sharpest: float) -> float:
    """How many standard errors wide the interval is on either side after `count` observations.

    Args:
        sharpest: the count at which it shall be tightest (3.03 standard errors).
    """
    tuned = -2 * math.log(ALPHA) + math.log(1 - 2 * math.log(ALPHA))
    time = max(count, 1.0) / max(sharpest, 1.0) * tuned
    return math.sqrt(2 * (time + 1) / time * math.log(math.sqrt(time + 1) / ALPHA))


def difference(one: Sums, other: Sums, sharpest: float) -> Interval:
    """By how much a share is higher in `one`."""
    width = boundary(one.effective, sharpest)
    p1, low1, high1 = _share(one, width)
    p2, low2, high2 = _share(other, width)
    return Interval(
        p1 - p2,
        p1 - p2 - math.hypot(p1 - low1, high2 - p2),
        p1 - p2 + math.hypot(high1 - p1, p2 - low2),
    )


def _share(sums: Sums, width: float) -> tuple[float, float, float]:
    n, p, z2 = sums.effective, sums.mean, width * width
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = width * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return p, max(0.0, centre - half), min(1.0, centre + half)


def mean_of(one: Sums, sharpest: float) -> Interval:
    """The mean of a figure."""
    half = boundary(one.effective, sharpest) * one.standard_error
    return Interval(one.mean, one.mean - half, one.mean + half)


def mean_ratio(one: Sums, other: Sums, sharpest: float) -> Interval:
    """How many times the mean of `other` the mean of `one` is; both are positive."""
    width = boundary(one.effective, sharpest)
    middle = math.log(one.mean / other.mean)
    half = width * math.hypot(one.standard_error / one.mean, other.standard_error / other.mean)
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def resolvable(units: float) -> float | None:
    """The highest of p95, p90, p75 and p50 whose interval so many units can bound, if any."""
    width = boundary(units, units)
    for share in (0.95, 0.9, 0.75, 0.5):
        if share + width * math.sqrt(share * (1 - share) / max(units, 1.0)) < 1:
            return share
    return None


def latency_ratio(
    one: tuple[Mapping[int, int], Sums],
    other: tuple[Mapping[int, int], Sums],
    *,
    share: float,
    sharpest: float,
) -> Interval:
    """How many times the quantile of `other` the quantile of `one` is.

    Args:
        one, other: a latency histogram and its `log_latency` sums, whose design effect is used
            (that of a tail's indicator is smaller: the careful side).
        share: which quantile, 0 to 1.
    """
    width = boundary(one[1].effective, sharpest)
    q1, low1, high1 = _quantile(*one, share, width)
    q2, low2, high2 = _quantile(*other, share, width)
    middle = q1 - q2
    return Interval(
        math.exp(middle),
        math.exp(middle - math.hypot(q1 - low1, high2 - q2)),
        math.exp(min(middle + math.hypot(high1 - q1, q2 - low2), 700.0)),
    )


def _quantile(
    latency: Mapping[int, int], sums: Sums, share: float, width: float
) -> tuple[float, float, float]:
    """A quantile's logarithm and its bounds: order statistics around its rank."""
    half = width * math.sqrt(share * (1 - share) / sums.effective)
    shares = (share, share - half, share + half)
    middle, low, high = (math.log(quantile(latency, one)) for one in shares)
    return middle, -math.inf if share - half <= 0 else low, high


def apart(one: tuple[Mapping[int, int], float], other: tuple[Mapping[int, int], float]) -> Interval:
    """The Kolmogorov-Smirnov distance of two histograms over the same bins.

    Args:
        one, other: bin → count, and how many independent values they are.
    """
    bins = sorted(one[0].keys() | other[0].keys())
    totals = [max(sum(histogram.values()), 1) for histogram, _ in (one, other)]
    far = sum1 = sum2 = 0.0
    for bucket in bins:
        sum1 += one[0].get(bucket, 0) / totals[0]
        sum2 += other[0].get(bucket, 0) / totals[1]
        far = max(far, abs(sum1 - sum2))
    radius = sum(_uniform_radius(count) for _, count in (one, other))
    return Interval(far, max(0.0, far - radius), min(1.0, far + radius))


def _uniform_radius(count: float) -> float:
    count = max(count, 1.0)
    inner = math.log(math.log(math.e * count)) if count > 1 else 0.0
    return 0.85 * math.sqrt((inner + 0.8 * math.log(1612 / (ALPHA / 2))) / count)
