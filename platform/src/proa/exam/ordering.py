"""Metrics of the order that scores put rows in: ROC AUC, average precision and their kin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proa.exam.answers import Answers, Array, OfWeights, ratio


@dataclass(frozen=True, slots=True)
class Pairs:
    """`ordered[u, v]`: pairs of a positive of unit u and a negative of v in the right order."""

    ordered: Array
    positives: Array
    negatives: Array


def pairs(answers: Answers, units: NDArray[np.int64], count: int) -> Pairs:
    """Count ordered pairs between each two of `count` units: O(count · n log n)."""
    positive = answers.label > 0.5
    scores, owners = answers.value[positive], units[positive]
    ordered = np.zeros((count, count))
    for unit in range(count):
        negatives = np.sort(answers.value[~positive & (units == unit)])
        below = np.searchsorted(negatives, scores, side="left")
        through = np.searchsorted(negatives, scores, side="right")
        ordered[:, unit] = np.bincount(owners, weights=(below + through) / 2, minlength=count)
    return Pairs(
        ordered,
        np.bincount(owners, minlength=count).astype(float),
        np.bincount(units[~positive], minlength=count).astype(float),
    )


def auc_of_counts(found: Pairs, counts: Array) -> Array:
    """AUC when unit u is taken `counts[r, u]` times, for each r."""
    top = np.einsum("ru,ru->r", counts @ found.ordered, counts)
    return ratio(top, (counts @ found.positives) * (counts @ found.negatives))


def auc_of_weights(answers: Answers, weights: Array) -> Array:
    """AUC when row i is taken `weights[r, i]` times, for each r: O(r · n) after one sort."""
    high, low = _runs(answers, weights)
    # runs come from the highest score down: a positive beats what comes later
    later = low.sum(axis=1, keepdims=True) - np.cumsum(low, axis=1) + low / 2
    return ratio((high * later).sum(axis=1), high.sum(axis=1) * low.sum(axis=1))


def _runs(answers: Answers, weights: Array) -> tuple[Array, Array]:
    """Weights of positives and negatives by distinct score, the highest first: (r, runs) each."""
    order = np.argsort(-answers.value, kind="stable")
    value, positive = answers.value[order], answers.label[order] > 0.5
    starts = np.flatnonzero(np.r_[True, value[1:] != value[:-1]])
    taken = weights[:, order]
    return (
        np.add.reduceat(taken * positive, starts, axis=1),
        np.add.reduceat(taken * ~positive, starts, axis=1),
    )


def _average_precision(answers: Answers, weights: Array) -> Array:
    high, low = _runs(answers, weights)
    hits = np.cumsum(high, axis=1)
    precision = ratio(hits, hits + np.cumsum(low, axis=1))
    return ratio(np.nansum(high * precision, axis=1), hits[:, -1])


AVERAGE_PRECISION = OfWeights(_average_precision)


def precision_at(count: int) -> OfWeights:
    """The share of positives among the `count` rows with the highest scores; equal scores that
    do not all fit share the places. NaN with fewer rows than that."""

    def of(answers: Answers, weights: Array) -> Array:
        high, low = _runs(answers, weights)
        size = high + low
        before = np.cumsum(size, axis=1) - size
        share = np.clip(count - before, 0, size)
        hits = np.divide(high * share, size, out=np.zeros_like(high), where=size > 0)
        return np.where(size.sum(axis=1) >= count, hits.sum(axis=1) / count, np.nan)

    return OfWeights(of)


def recall_at_false_alarms(rate: float) -> OfWeights:
    """The highest recall of a threshold that alarms on at most `rate` of the negatives."""

    def of(answers: Answers, weights: Array) -> Array:
        high, low = _runs(answers, weights)
        alarms = np.cumsum(low, axis=1)
        allowed = alarms <= rate * low.sum(axis=1, keepdims=True) * (1 + 1e-12)
        found = ratio((high * allowed).sum(axis=1), high.sum(axis=1))
        return np.where(low.sum(axis=1) > 0, found, np.nan)

    return OfWeights(of)
