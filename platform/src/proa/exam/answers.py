"""Answers as arrays, and the four forms in which a metric can be resampled fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Positions = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows of one side, aligned.

    Attributes:
        label: shape (n,); 0/1 for binary and anomaly, the class's index for multiclass, the
            relevance for ranking, else the true value. For llm it is unused.
        value: shape (n,); the probability, the prediction, the score or, for llm, the share of a
            task's runs that passed; multiclass: shape (n, k), a probability per class.
        decision: shape (n,); 0/1 or the class's index, NaN where the model takes no decision.
        answered: shape (n,); 1 where there was an answer, else 0.
        facts: further figures by name, shape (n,) each, NaN where a row has none: `latency_ms`,
            `ttft_ms`, `tokens_in`, `tokens_out`, `baseline`, `scale`, `lower`, `upper`,
            `score:NAME`, and `group`, the number of the row's query.
    """

    label: Array
    value: Array
    decision: Array
    answered: Array
    facts: Mapping[str, Array] = field(default_factory=dict)

    def rows(self, index: Positions) -> Answers:
        """The rows at `index` (positions or a mask)."""
        return Answers(
            self.label[index],
            self.value[index],
            self.decision[index],
            self.answered[index],
            {name: values[index] for name, values in self.facts.items()},
        )

    def fact(self, name: str) -> Array:
        """A fact, NaN everywhere when no row has it."""
        found = self.facts.get(name)
        return np.full(len(self.label), np.nan) if found is None else found


@dataclass(frozen=True, slots=True)
class OfSums:
    """A metric that is `finish` of the sums of `terms` (n rows by k terms) over rows."""

    terms: Callable[[Answers], Array]
    finish: Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class OfPairs:
    """ROC AUC: the share of (positive, negative) pairs in the right order, ties for a half; the
    mean over `views`, one per class of a multiclass model."""

    views: Callable[[Answers], list[Answers]] = lambda answers: [answers]


@dataclass(frozen=True, slots=True)
class OfWeights:
    """A metric of the order of rows: `of(answers, weights)` for weights of shape (r, n), r values.

    `rows` are the rows that count; the others are left out before anything is weighted.
    """

    of: Callable[[Answers, Array], Array]
    rows: Callable[[Answers], NDArray[np.bool_]] | None = None


Metric = OfSums | OfPairs | OfWeights


def ratio(top: Array, bottom: Array) -> Array:
    """NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(bottom > 0, top / bottom, np.nan))


def zero_ratio(top: Array, bottom: Array) -> Array:
    """As scikit-learn: 0 where precision or recall has nothing to divide by."""
    return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))


def mean_of(row: Callable[[Answers], Array]) -> OfSums:
    """The mean of a figure of each row; rows where it is NaN do not count."""

    def terms(answers: Answers) -> Array:
        values = row(answers)
        known = np.isfinite(values)
        return np.column_stack([np.where(known, values, 0.0), known.astype(float)])

    return OfSums(terms, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def mean_of_fact(name: str) -> OfSums:
    """The mean of a fact over the rows that have it."""
    return mean_of(lambda answers: answers.fact(name))


def quantile_of_fact(name: str, share: float) -> OfWeights:
    """The smallest value that `share` of the rows with this fact do not exceed."""

    def of(answers: Answers, weights: Array) -> Array:
        values = answers.fact(name)
        order = np.argsort(values, kind="stable")
        through = np.cumsum(weights[:, order], axis=1)
        total = through[:, -1]
        # a hair's breadth of tolerance: 0.95 of 20 rows is the 19th, not the 20th
        place = (through < share * total[:, None] * (1 - 1e-12)).sum(axis=1)
        found = values[order][np.minimum(place, len(values) - 1)]
        return np.asarray(np.where(total > 0, found, np.nan))

    return OfWeights(of, lambda answers: np.isfinite(answers.fact(name)))
