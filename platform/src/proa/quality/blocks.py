"""Intervals by block: a day's rows hang together, so the day is what is counted.

The standard error of an AUC of flights is 0.0043 by row and 0.0166 by day: an interval by row is
four times too narrow and alarms on nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from proa.quality.scores import ScoreCounts, pair_counts

__all__ = ["AucTable", "Interval", "auc_interval", "difference", "ratio_interval", "student_t"]

_NORMAL: Final = NormalDist()
_RESAMPLES: Final = 400


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and where it may lie.

    Attributes:
        value: None when nothing defines it.
        low, high: None with fewer than two blocks.
        se: standard error over blocks.
        rows, blocks: behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    se: float | None
    rows: int
    blocks: int

    def within(self, least: float, most: float) -> Interval:
        """The same, its ends no further than a figure can go; `se` says how sure it is still."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(least, self.low), high=min(most, self.high))


def student_t(probability: float, degrees: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees, else the Cornish-Fisher expansion
    (Abramowitz and Stegun 26.7.5; within 1 % of the true value from 3 degrees at 97.5 %)."""
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        twice = 2 * probability - 1
        return twice * math.sqrt(2 / (1 - twice * twice))
    z = _NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms)))


def ratio_interval(
    tops: Sequence[float],
    bottoms: Sequence[float],
    *,
    confidence: float = 0.95,
    rows: int | None = None,
) -> Interval:
    """The ratio of two sums over blocks, with the t interval of its linearized variance.

    Args:
        tops, bottoms: one sum per block (a day's wrong rows and its rows, say).
        rows: how many rows are behind it; the sum of `bottoms` by default.

    Source: Cochran, "Sampling Techniques" (1977), 6.4: the ratio estimator of clusters.
    """
    top, bottom = np.asarray(tops, dtype=float), np.asarray(bottoms, dtype=float)
    kept = bottom > 0
    top, bottom = top[kept], bottom[kept]
    count = len(bottom)
    size = int(bottom.sum()) if rows is None else rows
    if not count:
        return Interval(None, None, None, None, size, 0)
    value = math.fsum(top) / math.fsum(bottom)
    if count < 2:
        return Interval(value, None, None, None, size, count)
    spread = float(((top - value * bottom) ** 2).sum())
    se = math.sqrt(count / (count - 1) * spread) / float(bottom.sum())
    reach = student_t(1 - (1 - confidence) / 2, count - 1) * se
    return Interval(value, value - reach, value + reach, se, size, count)


class AucTable:
    """ROC AUC over stretches of blocks, by a bootstrap of whole blocks; the same every time.

    Args:
        days: in order.
        longest: of the stretches that will be asked for; all of them by default.
    """

    def __init__(self, days: Sequence[ScoreCounts], *, longest: int | None = None) -> None:
        self._pairs = pair_counts(days, band=longest)
        self._yes = np.array([day.positives for day in days], dtype=float)
        self._no = np.array([day.negatives for day in days], dtype=float)

    def interval(
        self, start: int = 0, end: int | None = None, *, confidence: float = 0.95
    ) -> Interval:
        """The blocks start … end; a t interval of as many degrees as there are blocks, since a
        percentile of few is too narrow. Bounds lie in 0 … 1."""
        end = len(self._yes) if end is None else end
        kept = start + np.flatnonzero((self._yes + self._no)[start:end])
        yes, no, count = self._yes[kept], self._no[kept], len(kept)
        ordered = self._pairs[np.ix_(kept, kept)]
        rows, pairs = int(yes.sum() + no.sum()), yes.sum() * no.sum()
        if not pairs:
            return Interval(None, None, None, None, rows, count)
        value = float(ordered.sum() / pairs)
        if count < 2:
            return Interval(value, None, None, None, rows, count)
        drawn = _drawn(count)
        pairs = (drawn @ yes) * (drawn @ no)
        some = pairs > 0
        resampled = np.einsum("ru,ru->r", drawn @ ordered, drawn)[some] / pairs[some]
        if len(resampled) < _RESAMPLES // 2:
            return Interval(value, None, None, None, rows, count)
        se = float(resampled.std(ddof=1)) * math.sqrt(count / (count - 1))
        reach = student_t(1 - (1 - confidence) / 2, count - 1) * se
        found = Interval(value, value - reach, value + reach, se, rows, count)
        return found.within(0.0, 1.0)


def auc_interval(days: Sequence[ScoreCounts], *, confidence: float = 0.95) -> Interval:
    """ROC AUC over all of these blocks, as `AucTable.interval`."""
    return AucTable(days).interval(confidence=confidence)


@lru_cache(maxsize=128)
def _drawn(count: int) -> NDArray[np.float64]:
    """How often each block is drawn in each resample, (resamples, count)."""
    random = np.random.Generator(np.random.PCG64(0))
    even = np.full(count, 1 / count)
    return random.multinomial(count, even, size=_RESAMPLES).astype(np.float64)


def difference(now: Interval, then: Interval, *, confidence: float = 0.95) -> Interval:
    """`now` minus `then`, of different blocks; bounds are None when either has none."""
    rows, blocks = now.rows, now.blocks
    if now.value is None or then.value is None:
        return Interval(None, None, None, None, rows, blocks)
    value = now.value - then.value
    if now.se is None or then.se is None:
        return Interval(value, None, None, None, rows, blocks)
    se = math.hypot(now.se, then.se)
    degrees = max(1, min(now.blocks, then.blocks) - 1)
    reach = student_t(1 - (1 - confidence) / 2, degrees) * se
    return Interval(value, value - reach, value + reach, se, rows, blocks)
