"""The paired block bootstrap: whole units are resampled, the same ones for both sides.

The interval is the expanded percentile interval (Hesterberg, "What Teachers Should Know About the
Bootstrap", The American Statistician 69, 2015, §5.3): percentiles are moved outwards so that with
few units it is as wide as a t interval; the plain one covers too little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from proa.exam.metrics import (
    Answers,
    Array,
    Metric,
    OfPairs,
    auc_of_counts,
    auc_of_weights,
    measure,
    pairs,
)

_CELLS = 4_000_000
_PAIR_UNITS = 400
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion, with its interval; NaN bounds where there is none."""

    candidate: float
    champion: float
    value: float
    low: float
    high: float
    units: int


def difference(
    metric: Metric,
    candidate: Answers,
    champion: Answers,
    *,
    units: NDArray[np.int64],
    confidence: float,
    resamples: int,
    seed: int,
) -> Difference:
    """The difference of a metric between two sides that answered the same rows.

    Args:
        candidate, champion: aligned row by row.
        units: shape (n,), each row's unit as 0 … k−1.
        confidence: two-sided, 0.95 for a 95 % interval.
        seed: equal seeds give equal intervals.
    """
    count = int(units.max()) + 1 if len(units) else 0
    first, second = measure(metric, candidate), measure(metric, champion)
    value = first - second
    if count < 2 or math.isnan(value):
        return Difference(first, second, value, math.nan, math.nan, count)
    samples = np.concatenate(
        [
            _resampled(metric, candidate, units, counts)
            - _resampled(metric, champion, units, counts)
            for counts in _counts(count, resamples, seed, rows=len(units))
        ]
    )
    samples = samples[np.isfinite(samples)]
    if len(samples) < resamples // 2:
        return Difference(first, second, value, math.nan, math.nan, count)
    tail = expanded_tail(confidence, count)
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Difference(first, second, value, float(low), float(high), count)


def expanded_tail(confidence: float, units: int) -> float:
    """The share cut off each end so that `units` blocks give the width of a t interval."""
    t = student_t(1 - (1 - confidence) / 2, units - 1)
    return _NORMAL.cdf(-math.sqrt(units / (units - 1)) * t)


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


def _counts(units: int, resamples: int, seed: int, *, rows: int) -> Iterator[Array]:
    """How often each unit is drawn, in batches that keep memory flat."""
    random = np.random.Generator(np.random.PCG64(seed))
    widest = max(units, rows if units > _PAIR_UNITS else units)
    batch = max(1, min(resamples, _CELLS // widest))
    even = np.full(units, 1 / units)
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        yield random.multinomial(units, even, size=size).astype(np.float64)


def _resampled(metric: Metric, answers: Answers, units: NDArray[np.int64], counts: Array) -> Array:
    number = counts.shape[1]
    if isinstance(metric, OfPairs):
        if number <= _PAIR_UNITS:
            return auc_of_counts(pairs(answers, units, number), counts)
        return auc_of_weights(answers, counts[:, units])
    terms = metric.terms(answers)
    sums = np.column_stack(
        [np.bincount(units, weights=terms[:, k], minlength=number) for k in range(terms.shape[1])]
    )
    return metric.finish(counts @ sums)
