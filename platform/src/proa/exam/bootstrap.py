"""The paired block bootstrap: whole units are resampled, the same ones for both sides.

The interval is the expanded percentile interval (Hesterberg, "What Teachers Should Know About the
Bootstrap", The American Statistician 69, 2015, §5.3): percentiles are moved outwards so that with
few units it is as wide as a t interval; the plain one covers too little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proa.exam.answers import Answers, Array, Metric, OfPairs, OfSums, OfWeights
from proa.exam.metrics import measure
from proa.exam.ordering import auc_of_counts, auc_of_weights, pairs
from proa.quality.blocks import student_t

_CELLS = 4_000_000
_PAIR_UNITS = 400
_TAIL_SAMPLES = 5
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion, with its interval; NaN bounds where there is none.

    As a ratio, `value`, `low` and `high` are those of log(candidate / champion).
    """

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
    as_ratio: bool = False,
) -> Difference:
    """The difference of a metric between two sides that answered the same rows.

    Args:
        candidate, champion: aligned row by row.
        units: shape (n,), each row's unit as 0 … k−1.
        confidence: two-sided, 0.95 for a 95 % interval.
        seed: equal seeds give equal intervals.
        as_ratio: compare logarithms, for metrics that are positive (a latency).
    """
    scale = np.log if as_ratio else _same
    first, second = measure(metric, candidate), measure(metric, champion)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(scale(np.float64(first)) - scale(np.float64(second)))
    candidate, champion, units = _counted(metric, candidate, champion, units)
    count = int(units.max()) + 1 if len(units) else 0
    if count < 2 or not math.isfinite(value):
        return Difference(first, second, math.nan, math.nan, math.nan, count)
    mine, theirs = _resampler(metric, candidate, units), _resampler(metric, champion, units)
    rows = len(units) if _weighs_rows(metric, count) else count
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = np.concatenate(
            [
                scale(mine(counts)) - scale(theirs(counts))
                for counts in _counts(count, resamples, seed, rows=rows)
            ]
        )
    samples = samples[np.isfinite(samples)]
    if len(samples) < resamples // 2:
        return Difference(first, second, value, math.nan, math.nan, count)
    tail = expanded_tail(confidence, count)
    if tail * len(samples) < _TAIL_SAMPLES:
        # so far out the resamples are too few for a quantile: the t interval of the same spread
        reach = student_t(1 - (1 - confidence) / 2, count - 1) * float(samples.std(ddof=1))
        reach *= math.sqrt(count / (count - 1))
        return Difference(first, second, value, value - reach, value + reach, count)
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Difference(first, second, value, float(low), float(high), count)


def _same(values: Any) -> Any:
    return values


def _counted(
    metric: Metric, candidate: Answers, champion: Answers, units: NDArray[np.int64]
) -> tuple[Answers, Answers, NDArray[np.int64]]:
    """The rows that the metric counts on both sides, their units numbered again without gaps."""
    if isinstance(metric, OfWeights) and metric.rows is not None:
        kept = metric.rows(candidate) & metric.rows(champion)
        candidate, champion, units = candidate.rows(kept), champion.rows(kept), units[kept]
    _, numbered = np.unique(units, return_inverse=True)
    return candidate, champion, numbered.astype(np.int64)


def expanded_tail(confidence: float, units: int) -> float:
    """The share cut off each end so that `units` blocks give the width of a t interval."""
    t = student_t(1 - (1 - confidence) / 2, units - 1)
    return _NORMAL.cdf(-math.sqrt(units / (units - 1)) * t)


def _weighs_rows(metric: Metric, units: int) -> bool:
    return isinstance(metric, OfWeights) or (isinstance(metric, OfPairs) and units > _PAIR_UNITS)


def _counts(units: int, resamples: int, seed: int, *, rows: int) -> Iterator[Array]:
    """How often each unit is drawn, in batches that keep memory flat."""
    batch = max(1, min(resamples, _CELLS // max(units, rows)))
    if batch == resamples:
        yield _drawn(units, resamples, seed)
        return
    random = np.random.Generator(np.random.PCG64(seed))
    even = np.full(units, 1 / units)
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        yield random.multinomial(units, even, size=size).astype(np.float64)


@lru_cache(maxsize=2)
def _drawn(units: int, resamples: int, seed: int) -> Array:
    """The same draws serve every metric and slice of one verdict."""
    random = np.random.Generator(np.random.PCG64(seed))
    found = random.multinomial(units, np.full(units, 1 / units), size=resamples)
    counts: Array = found.astype(np.float64)
    counts.flags.writeable = False
    return counts


def _resampler(
    metric: Metric, answers: Answers, units: NDArray[np.int64]
) -> Callable[[Array], Array]:
    """The metric as a function of how often each unit is drawn, (r, units) to (r,); what does not
    depend on the draw is worked out once."""
    number = int(units.max()) + 1
    if isinstance(metric, OfSums):
        terms = metric.terms(answers)
        columns = [np.bincount(units, weights=column, minlength=number) for column in terms.T]
        sums = np.column_stack(columns)
        return lambda counts: metric.finish(counts @ sums)
    if isinstance(metric, OfWeights):
        return lambda counts: metric.of(answers, counts[:, units])
    views = metric.views(answers)
    if number > _PAIR_UNITS:
        return lambda counts: _mean([auc_of_weights(view, counts[:, units]) for view in views])
    found = [pairs(view, units, number) for view in views]
    return lambda counts: _mean([auc_of_counts(one, counts) for one in found])


def _mean(values: list[Array]) -> Array:
    return np.asarray(np.mean(values, axis=0))
