"""Metrics of an exam by kind and task, equal to scikit-learn's where it has them.

Almost every metric is a function of sums over rows, so its bootstrap needs only the sums per
unit. ROC AUC is a ratio of pair counts; with few units the counts of pairs between units are
enough, with many the rows are weighted. Quantiles and metrics of order weight the rows.

A name may carry a figure: `ndcg@10`, `recall@5`, `pinball@0.9`, `precision@100`,
`recall_at_fpr@0.01`, `score:groundedness`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from proa.exam import ordering, ranking
from proa.exam.answers import (
    Answers,
    Array,
    Metric,
    OfPairs,
    OfSums,
    OfWeights,
    mean_of,
    mean_of_fact,
    quantile_of_fact,
    ratio,
    zero_ratio,
)

_EPS = float(np.finfo(np.float64).eps)
_BINS = 10


def _log_loss(answers: Answers) -> Array:
    if answers.value.ndim == 2:
        total = answers.value.sum(axis=1)
        chosen = answers.value[np.arange(len(answers.label)), answers.label.astype(int)] / total
        return np.asarray(-np.log(np.clip(chosen, _EPS, 1 - _EPS)))
    p = np.clip(answers.value, _EPS, 1 - _EPS)
    return -(answers.label * np.log(p) + (1 - answers.label) * np.log1p(-p))


def _brier(answers: Answers) -> Array:
    truth = np.eye(answers.value.shape[1])[answers.label.astype(int)]
    return np.asarray(((answers.value - truth) ** 2).sum(axis=1))


def _confusion(answers: Answers) -> Array:
    """True positives, false positives, false negatives, and a one where decisions are taken."""
    truth, decided = answers.label > 0.5, answers.decision > 0.5
    taken = np.full(len(truth), np.isfinite(answers.decision).any())
    return np.column_stack([truth & decided, ~truth & decided, truth & ~decided, taken]).astype(
        float
    )


def _decided(top: Callable[[Array], Array], bottom: Callable[[Array], Array]) -> OfSums:
    """A ratio of confusion counts; NaN for a model that takes no decisions."""

    def finish(sums: Array) -> Array:
        return np.where(sums[..., 3] > 0, zero_ratio(top(sums), bottom(sums)), np.nan)

    return OfSums(_confusion, finish)


def _correct(answers: Answers) -> Array:
    right = (answers.decision == answers.label).astype(float)
    return np.where(np.isfinite(answers.decision).any(), right, np.nan)


def _classes(answers: Answers) -> Array:
    """Per class: true positives, false positives, false negatives, side by side."""
    classes = np.arange(answers.value.shape[1])
    truth = answers.label[:, None] == classes
    decided = answers.decision[:, None] == classes
    return np.hstack([truth & decided, ~truth & decided, truth & ~decided]).astype(float)


def _macro_f1(sums: Array) -> Array:
    hits, alarms, misses = np.split(sums, 3, axis=-1)
    seen = hits + alarms + misses > 0
    score = zero_ratio(2 * hits, 2 * hits + alarms + misses)
    return ratio(score.sum(axis=-1), seen.sum(axis=-1))


def _balanced(sums: Array) -> Array:
    hits, _, misses = np.split(sums, 3, axis=-1)
    return ratio(zero_ratio(hits, hits + misses).sum(axis=-1), (hits + misses > 0).sum(axis=-1))


def _one_against_rest(answers: Answers) -> list[Answers]:
    return [
        Answers(
            (answers.label == k).astype(float),
            answers.value[:, k],
            answers.decision,
            answers.answered,
        )
        for k in range(answers.value.shape[1])
    ]


def _gap(answers: Answers) -> Array:
    return np.column_stack([answers.value - answers.label, np.ones_like(answers.label)])


def _bins(answers: Answers) -> Array:
    """Confidence minus truth in the bin of its confidence (ten of equal width), and a one."""
    if answers.value.ndim == 2:
        said, true = answers.value.max(axis=1), answers.value.argmax(axis=1) == answers.label
    else:
        said, true = answers.value, answers.label
    place = np.clip((said * _BINS).astype(int), 0, _BINS - 1)
    found = np.zeros((len(said), _BINS + 1))
    found[np.arange(len(said)), place] = said - true
    found[:, _BINS] = 1.0
    return found


def _squares(answers: Answers) -> Array:
    y = answers.label
    return np.column_stack([(answers.value - y) ** 2, y, y**2, np.ones_like(y)])


def _r2(sums: Array) -> Array:
    spread = sums[..., 2] - sums[..., 1] ** 2 / np.maximum(sums[..., 3], 1)
    return 1 - ratio(sums[..., 0], spread)


def _error(answers: Answers) -> Array:
    return np.abs(answers.value - answers.label)


def _of_total(top: Callable[[Answers], Array], bottom: Callable[[Answers], Array]) -> OfSums:
    def terms(answers: Answers) -> Array:
        return np.nan_to_num(np.column_stack([top(answers), bottom(answers)]))

    return OfSums(terms, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def _smape(answers: Answers) -> Array:
    spread = np.abs(answers.value) + np.abs(answers.label)
    return zero_ratio(2 * _error(answers), spread)


def _covered(answers: Answers) -> Array:
    lower, upper = answers.fact("lower"), answers.fact("upper")
    inside = ((lower <= answers.label) & (answers.label <= upper)).astype(float)
    return np.where(np.isfinite(lower) & np.isfinite(upper), inside, np.nan)


def _pinball(quantile: float) -> OfSums:
    def row(answers: Answers) -> Array:
        missed = answers.label - answers.value
        return np.maximum(quantile * missed, (quantile - 1) * missed)

    return mean_of(row)


_CALIBRATION_GAP = OfSums(_gap, lambda sums: np.abs(ratio(sums[..., 0], sums[..., 1])))
_ECE = OfSums(_bins, lambda sums: ratio(np.abs(sums[..., :_BINS]).sum(axis=-1), sums[..., _BINS]))
_ACCURACY = mean_of(_correct)
_LATENCY: Mapping[str, Metric] = {
    "latency_p50": quantile_of_fact("latency_ms", 0.5),
    "latency_p95": quantile_of_fact("latency_ms", 0.95),
}
_DECISIONS: Mapping[str, Metric] = {
    "precision": _decided(lambda s: s[..., 0], lambda s: s[..., 0] + s[..., 1]),
    "recall": _decided(lambda s: s[..., 0], lambda s: s[..., 0] + s[..., 2]),
    "f1": _decided(lambda s: 2 * s[..., 0], lambda s: 2 * s[..., 0] + s[..., 1] + s[..., 2]),
}

BINARY: Mapping[str, Metric] = {
    "roc_auc": OfPairs(),
    "average_precision": ordering.AVERAGE_PRECISION,
    "log_loss": mean_of(_log_loss),
    "brier": mean_of(lambda answers: (answers.value - answers.label) ** 2),
    "calibration_gap": _CALIBRATION_GAP,
    "ece": _ECE,
    "accuracy": _ACCURACY,
    **_DECISIONS,
    **_LATENCY,
}
MULTICLASS: Mapping[str, Metric] = {
    "log_loss": mean_of(_log_loss),
    "brier": mean_of(_brier),
    "accuracy": _ACCURACY,
    "balanced_accuracy": OfSums(_classes, _balanced),
    "macro_f1": OfSums(_classes, _macro_f1),
    "roc_auc_ovr": OfPairs(_one_against_rest),
    "ece": _ECE,
    **_LATENCY,
}
REGRESSION: Mapping[str, Metric] = {
    "mae": mean_of(_error),
    "mse": mean_of(lambda answers: (answers.value - answers.label) ** 2),
    "rmse": OfSums(_squares, lambda sums: np.sqrt(ratio(sums[..., 0], sums[..., 3]))),
    "r2": OfSums(_squares, _r2),
    "calibration_gap": _CALIBRATION_GAP,
    "coverage": mean_of(_covered),
    "interval_width": mean_of(lambda answers: answers.fact("upper") - answers.fact("lower")),
    **_LATENCY,
}
FORECASTING: Mapping[str, Metric] = {
    **REGRESSION,
    "mase": mean_of(lambda answers: _error(answers) / answers.fact("scale")),
    "relative_mae": _of_total(
        _error, lambda answers: np.abs(answers.fact("baseline") - answers.label)
    ),
    "smape": mean_of(_smape),
    "wape": _of_total(_error, lambda answers: np.abs(answers.label)),
    "bias": _of_total(
        lambda answers: answers.value - answers.label, lambda answers: np.abs(answers.label)
    ),
}
RANKING: Mapping[str, Metric] = {
    "ndcg": ranking.ndcg(),
    "mrr": ranking.MRR,
    "map": ranking.MAP,
    **_LATENCY,
}
ANOMALY: Mapping[str, Metric] = {
    "roc_auc": OfPairs(),
    "average_precision": ordering.AVERAGE_PRECISION,
    **_DECISIONS,
    **_LATENCY,
}
LLM: Mapping[str, Metric] = {
    "passed": mean_of(lambda answers: answers.value),
    "answered": mean_of(lambda answers: answers.answered),
    "ttft_p50": quantile_of_fact("ttft_ms", 0.5),
    "ttft_p95": quantile_of_fact("ttft_ms", 0.95),
    "tokens_in_mean": mean_of_fact("tokens_in"),
    "tokens_out_mean": mean_of_fact("tokens_out"),
    **_LATENCY,
}
_BY_TASK = {
    "binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION,
    "forecasting": FORECASTING, "ranking": RANKING, "anomaly": ANOMALY,
}  # fmt: skip
SIGNED = ("bias", "coverage")
"""Metrics that are best in the middle: a floor bounds them, they cannot be compared."""


def _whole(make: Callable[[int], Metric]) -> Callable[[str], Metric | None]:
    return lambda text: make(int(text)) if text.isdigit() and int(text) > 0 else None


def _share(make: Callable[[float], Metric]) -> Callable[[str], Metric | None]:
    def read(text: str) -> Metric | None:
        try:
            return make(float(text)) if 0 < float(text) < 1 else None
        except ValueError:
            return None

    return read


_PINBALL = {"pinball": _share(_pinball)}
_WITH_FIGURE: Mapping[str, Mapping[str, Callable[[str], Metric | None]]] = {
    "regression": _PINBALL,
    "forecasting": _PINBALL,
    "ranking": {"ndcg": _whole(ranking.ndcg), "recall": _whole(ranking.recall_at)},
    "anomaly": {
        "precision": _whole(ordering.precision_at),
        "recall_at_fpr": _share(ordering.recall_at_false_alarms),
    },
}


def metrics_of(kind: str, task: str | None) -> Mapping[str, Metric]:
    """The metrics that fit a kind and task, by name; without those whose name carries a figure.

    `calibration_gap` is |mean of predictions − mean of labels|; `ece` the expected calibration
    error over ten bins of equal width (multiclass: of the class that was chosen).
    """
    return LLM if kind == "llm" else _BY_TASK.get(task or "", {})


def metric_named(kind: str, task: str | None, name: str) -> Metric | None:
    """One metric, its figure read from its name; None when the task has no such metric."""
    plain = metrics_of(kind, task).get(name)
    if plain is not None:
        return plain
    if kind == "llm":
        head, _, rest = name.partition(":")
        return mean_of_fact(name) if head == "score" and rest else None
    head, _, rest = name.partition("@")
    make = _WITH_FIGURE.get(task or "", {}).get(head)
    return make(rest) if make is not None else None


def names_of(kind: str, task: str | None) -> list[str]:
    """Every name that `metric_named` knows, for people: `ndcg@K` stands for a family."""
    families = _WITH_FIGURE.get(task or "", {}) if kind == "classic" else {}
    figure = {"ndcg": "K", "recall": "K", "precision": "K"}
    named = [f"{head}@{figure.get(head, '0.9')}" for head in families]
    return sorted([*metrics_of(kind, task), *named, *(["score:NAME"] if kind == "llm" else [])])


def measure(metric: Metric, answers: Answers) -> float:
    """The metric over all rows; NaN where it is not defined (no rows, one class only)."""
    if len(answers.label) == 0:
        return float("nan")
    if isinstance(metric, OfPairs):
        one = np.ones((1, 1))
        units = np.zeros(len(answers.label), dtype=np.int64)
        views = metric.views(answers)
        found = [ordering.auc_of_counts(ordering.pairs(view, units, 1), one)[0] for view in views]
        return float(np.mean(found))
    if isinstance(metric, OfWeights):
        if metric.rows is not None:
            answers = answers.rows(metric.rows(answers))
        if len(answers.label) == 0:
            return float("nan")
        return float(metric.of(answers, np.ones((1, len(answers.label))))[0])
    return float(metric.finish(metric.terms(answers).sum(axis=0)))
