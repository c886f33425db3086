"""Metrics of a ranking, each the mean over queries; `label` is the relevance, `value` the score.

Equal scores: NDCG and recall take the mean over the orders that are possible (as scikit-learn's
`ndcg_score`), average precision cuts them together (as `average_precision_score`), and the
reciprocal rank takes the worst order, so that a model which scores everything alike gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proa.exam.answers import Answers, Array, OfSums, ratio

_Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Rows by query and then by score, the highest first.

    Attributes:
        label: relevance; `place`: 0, 1, … within the query; `query`: its number, 0, 1, ….
        run: number of the run of equal scores within one query, over all queries.
        first: one row of each query, in the answers' own order.
    """

    label: Array
    place: _Index
    query: _Index
    run: _Index
    first: _Index

    @property
    def queries(self) -> int:
        return len(self.first)

    def by_query(self, values: Any) -> Array:
        return np.asarray(
            np.bincount(self.query, weights=values, minlength=self.queries), dtype=np.float64
        )

    def mean_of_run(self, values: Array) -> Array:
        count = np.bincount(self.run)
        return np.asarray((np.bincount(self.run, weights=values) / count)[self.run])


def _ranked(answers: Answers, score: Array) -> _Ranked:
    group = answers.fact("group")
    order = np.lexsort((-score, group))
    group, score = group[order], score[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    query = np.cumsum(np.r_[False, group[1:] != group[:-1]])
    fresh = np.r_[True, (group[1:] != group[:-1]) | (score[1:] != score[:-1])]
    return _Ranked(
        answers.label[order],
        np.arange(len(order)) - starts[query],
        query.astype(np.int64),
        np.cumsum(fresh) - 1,
        order[starts],
    )


def _mean_by_query(value: Any) -> OfSums:
    """The mean of `value(answers)`, one figure per query, laid on one row of each query."""

    def terms(answers: Answers) -> Array:
        found = np.zeros((len(answers.label), 2))
        if np.isfinite(answers.fact("group")).all():
            figures, first = value(answers)
            found[first, 0], found[first, 1] = figures, 1.0
        return found

    return OfSums(terms, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def ndcg(cut: int | None = None) -> OfSums:
    """Normalized discounted cumulative gain of the first `cut` rows, or of all."""

    def value(answers: Answers) -> tuple[Array, _Index]:
        found, best = _ranked(answers, answers.value), _ranked(answers, answers.label)
        gain = found.by_query(found.mean_of_run(found.label) * _discount(found.place, cut))
        ideal = best.by_query(best.label * _discount(best.place, cut))
        return np.divide(gain, ideal, out=np.zeros_like(gain), where=ideal > 0), found.first

    return _mean_by_query(value)


def _discount(place: _Index, cut: int | None) -> Array:
    kept = np.ones(len(place)) if cut is None else (place < cut).astype(float)
    return np.asarray(kept / np.log2(place + 2))


def recall_at(cut: int) -> OfSums:
    """The share of a query's relevant rows that stand among its first `cut`."""

    def value(answers: Answers) -> tuple[Array, _Index]:
        found = _ranked(answers, answers.value)
        relevant = (found.label > 0).astype(float)
        hits = found.by_query(found.mean_of_run(relevant) * (found.place < cut))
        total = found.by_query(relevant)
        return np.divide(hits, total, out=np.zeros_like(hits), where=total > 0), found.first

    return _mean_by_query(value)


def _average_precision(answers: Answers) -> tuple[Array, _Index]:
    found = _ranked(answers, answers.value)
    relevant = (found.label > 0).astype(float)
    total = found.by_query(relevant)
    before = np.cumsum(relevant) - np.cumsum(total)[found.query] + total[found.query]
    last = np.flatnonzero(np.r_[found.run[1:] != found.run[:-1], True])[found.run]
    precision = before[last] / (found.place[last] + 1)
    figures = found.by_query(relevant * precision)
    return np.divide(figures, total, out=np.zeros_like(figures), where=total > 0), found.first


def _reciprocal_rank(answers: Answers) -> tuple[Array, _Index]:
    found = _ranked(answers, answers.value)
    relevant = (found.label > 0).astype(float)
    starts = np.flatnonzero(np.r_[True, found.run[1:] != found.run[:-1]])
    size, hits = np.bincount(found.run), np.bincount(found.run, weights=relevant)
    rank = found.place[starts] + size - hits + 1
    figures = np.zeros(found.queries)
    np.maximum.at(figures, found.query[starts], np.where(hits > 0, 1 / rank, 0.0))
    return figures, found.first


MAP = _mean_by_query(_average_precision)
MRR = _mean_by_query(_reciprocal_rank)
