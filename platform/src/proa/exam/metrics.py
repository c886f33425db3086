"""Metrics of an exam, equal to scikit-learn's, in a form that can be resampled in one product.

Almost every metric is a function of sums over rows, so its bootstrap needs only the sums per
unit. ROC AUC is a ratio of pair counts; with few units the counts of pairs between units are
enough (`pairs`), with many the rows are weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows of one side, aligned.

    Attributes:
        label: shape (n,); 0/1 for binary, the class's index for multiclass, else the true value.
            For llm it is unused.
        value: shape (n,); the probability, the prediction or, for llm, 1 where a task passed;
            multiclass: shape (n, k), a probability per class.
        decision: shape (n,); 0/1 or the class's index, NaN where the model takes no decision.
        answered: shape (n,); 1 where there was an answer, else 0.
    """

    label: Array
    value: Array
    decision: Array
    answered: Array

    def rows(self, index: NDArray[Any]) -> Answers:
        """The rows at `index` (positions or a mask)."""
        return Answers(
            self.label[index], self.value[index], self.decision[index], self.answered[index]
        )


@dataclass(frozen=True, slots=True)
class OfSums:
    """A metric that is `finish` of the sums of `terms` (n rows by k terms) over rows."""

    terms: Callable[[Answers], Array]
    finish: Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class OfPairs:
    """ROC AUC: the share of (positive, negative) pairs in the right order, ties for a half."""


Metric = OfSums | OfPairs


def _mean_of(row: Callable[[Answers], Array]) -> OfSums:
    def terms(answers: Answers) -> Array:
        values = row(answers)
        return np.column_stack([values, np.ones_like(values)])

    return OfSums(terms, lambda sums: _ratio(sums[..., 0], sums[..., 1]))


def _ratio(top: Array, bottom: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(bottom > 0, top / bottom, np.nan))


def _zero_ratio(top: Array, bottom: Array) -> Array:
    """As scikit-learn: 0 where precision or recall has nothing to divide by."""
    return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))


def _log_loss(answers: Answers) -> Array:
    if answers.value.ndim == 2:
        total = answers.value.sum(axis=1)
        chosen = answers.value[np.arange(len(answers.label)), answers.label.astype(int)] / total
        return np.asarray(-np.log(np.clip(chosen, _EPS, 1 - _EPS)))
    p = np.clip(answers.value, _EPS, 1 - _EPS)
    return -(answers.label * np.log(p) + (1 - answers.label) * np.log1p(-p))


def _confusion(answers: Answers) -> Array:
    truth, decided = answers.label > 0.5, answers.decision > 0.5
    return np.column_stack([truth & decided, ~truth & decided, truth & ~decided]).astype(float)


def _gap(answers: Answers) -> Array:
    ones = np.ones_like(answers.label)
    return np.column_stack([answers.value - answers.label, ones])


def _squares(answers: Answers) -> Array:
    y = answers.label
    return np.column_stack([(answers.value - y) ** 2, y, y**2, np.ones_like(y)])


def _r2(sums: Array) -> Array:
    spread = sums[..., 2] - sums[..., 1] ** 2 / np.maximum(sums[..., 3], 1)
    return 1 - _ratio(sums[..., 0], spread)


_CALIBRATION_GAP = OfSums(_gap, lambda sums: np.abs(_ratio(sums[..., 0], sums[..., 1])))
_ACCURACY = _mean_of(lambda answers: (answers.decision == answers.label).astype(float))

BINARY: Mapping[str, Metric] = {
    "roc_auc": OfPairs(),
    "log_loss": _mean_of(_log_loss),
    "brier": _mean_of(lambda answers: (answers.value - answers.label) ** 2),
    "calibration_gap": _CALIBRATION_GAP,
    "accuracy": _ACCURACY,
    "precision": OfSums(_confusion, lambda s: _zero_ratio(s[..., 0], s[..., 0] + s[..., 1])),
    "recall": OfSums(_confusion, lambda s: _zero_ratio(s[..., 0], s[..., 0] + s[..., 2])),
    "f1": OfSums(
        _confusion, lambda s: _zero_ratio(2 * s[..., 0], 2 * s[..., 0] + s[..., 1] + s[..., 2])
    ),
}
MULTICLASS: Mapping[str, Metric] = {"log_loss": _mean_of(_log_loss), "accuracy": _ACCURACY}
REGRESSION: Mapping[str, Metric] = {
    "mae": _mean_of(lambda answers: np.abs(answers.value - answers.label)),
    "mse": _mean_of(lambda answers: (answers.value - answers.label) ** 2),
    "rmse": OfSums(_squares, lambda sums: np.sqrt(_ratio(sums[..., 0], sums[..., 3]))),
    "r2": OfSums(_squares, _r2),
    "calibration_gap": _CALIBRATION_GAP,
}
LLM: Mapping[str, Metric] = {
    "passed": _mean_of(lambda answers: answers.value),
    "answered": _mean_of(lambda answers: answers.answered),
}


def metrics_of(kind: str, task: str | None) -> Mapping[str, Metric]:
    """The metrics that fit a kind and task, by name; none for a task without metrics yet.

    `calibration_gap` is |mean of predictions − mean of labels|.
    """
    if kind == "llm":
        return LLM
    by_task = {"binary": BINARY, "anomaly": BINARY, "multiclass": MULTICLASS}
    by_task |= {"regression": REGRESSION, "forecasting": REGRESSION}
    return by_task.get(task or "", {})


def measure(metric: Metric, answers: Answers) -> float:
    """The metric over all rows; NaN where it is not defined (no rows, one class only)."""
    if len(answers.label) == 0:
        return float("nan")
    if isinstance(metric, OfPairs):
        units = np.zeros(len(answers.label), dtype=np.int64)
        counts = np.ones((1, 1))
        return float(auc_of_counts(pairs(answers, units, 1), counts)[0])
    return float(metric.finish(metric.terms(answers).sum(axis=0)))


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
    return _ratio(top, (counts @ found.positives) * (counts @ found.negatives))


def auc_of_weights(answers: Answers, weights: Array) -> Array:
    """AUC when row i is taken `weights[r, i]` times, for each r: O(r · n) after one sort."""
    order = np.argsort(answers.value, kind="stable")
    value, positive = answers.value[order], answers.label[order] > 0.5
    starts = np.flatnonzero(np.r_[True, value[1:] != value[:-1]])
    taken = weights[:, order]
    high = np.add.reduceat(taken * positive, starts, axis=1)
    low = np.add.reduceat(taken * ~positive, starts, axis=1)
    below = np.cumsum(low, axis=1) - low / 2
    return _ratio((high * below).sum(axis=1), high.sum(axis=1) * low.sum(axis=1))
