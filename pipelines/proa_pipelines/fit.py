"""Search, train, calibrate, choose the threshold: plain functions over `TrainingData`.

Rows of one unit (a day) are not independent, so every split keeps units whole:
* the search trains on the first three quarters of the units in time and is judged on the rest;
* calibration and threshold come from out-of-fold scores over *all* units (four blocks in time):
  a hold-out of one snowy week would shift every probability. The model itself is fitted on all
  rows by the project's own `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proa.errors import InvalidInput
from proa.exam.answers import Answers
from proa.exam.metrics import measure, metrics_of
from proa.training import TrainingData

FOLDS = 4
SEARCH_SHARE = 0.75
TASKS = ("binary", "multiclass", "regression")

Array = NDArray[np.float64]
Train = Callable[[TrainingData, dict[str, Any]], Any]


@dataclass(frozen=True)
class Scores:
    """Out-of-fold scores: value (n,) or (n, k), label as numbers, unit (n,)."""

    value: Array
    label: Array
    unit: NDArray[Any]


def classes_of(task: str, data: TrainingData) -> list[str]:
    """Names of the classes of a multiclass task, in the order of the model's columns."""
    return sorted(str(name) for name in data.label.unique()) if task == "multiclass" else []


def numbers(task: str, data: TrainingData) -> Array:
    """Labels as the metrics want them: 0/1, the class's index, or the value.

    Raises:
        InvalidInput: a missing label, one class only, a task this pipeline cannot train.
    """
    if task not in TASKS:
        raise InvalidInput(
            f"proa.yaml: task = {task!r}: the classic pipeline trains {', '.join(TASKS)}",
            hint="bring a trained model with `proa create --from`",
            param="task",
        )
    label: Any = data.label
    if label.isna().any():
        raise InvalidInput(f"label: {int(label.isna().sum())} of {len(label)} are missing")
    if task == "regression":
        return np.asarray(label, dtype=float)
    if label.nunique() < 2:
        raise InvalidInput(f"label: only the class {label.iloc[0]!r} in {len(label)} rows")
    if task == "binary":
        if not set(label.unique()) <= {0, 1}:
            raise InvalidInput(f"label: expected true and false, got {sorted(set(label))[:5]}")
        return np.asarray(label, dtype=float)
    index = {name: number for number, name in enumerate(classes_of(task, data))}
    return np.asarray([index[str(name)] for name in label], dtype=float)


def predict(task: str, model: Any, data: TrainingData) -> Array:
    """The model's raw answer: probability of the positive class, of each class, or the value."""
    if task == "regression":
        return np.asarray(model.predict(data.features), dtype=float)
    probability = np.asarray(model.predict_proba(data.features), dtype=float)
    return probability[:, 1] if task == "binary" else probability


def metrics(task: str, scores: Scores, threshold: float | None) -> dict[str, float]:
    """Every metric of the task over all rows; those that are not defined are left out."""
    answers = _answers(task, scores, threshold)
    found = {name: measure(metric, answers) for name, metric in metrics_of("classic", task).items()}
    return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}


def _answers(task: str, scores: Scores, threshold: float | None) -> Answers:
    if task == "multiclass":
        decision = scores.value.argmax(axis=1).astype(float)
    elif threshold is not None:
        decision = (scores.value >= threshold).astype(float)
    else:
        decision = np.full(len(scores.label), np.nan)
    return Answers(scores.label, scores.value, decision, np.ones(len(scores.label)))


def check_metric(task: str, name: str) -> None:
    """Refuse a metric that the task does not have, naming those it has."""
    known = sorted(metrics_of("classic", task))
    if name not in known:
        raise InvalidInput(
            f"proa.yaml: train.metric = {name!r}: task {task} has {', '.join(known)}",
            param="train.metric",
        )


@dataclass(frozen=True)
class Found:
    """The best parameters of a search, and every trial."""

    parameters: dict[str, Any]
    value: float
    trials: list[dict[str, Any]]


def search(
    task: str,
    data: TrainingData,
    *,
    train: Train,
    space: Callable[[Any], dict[str, Any]],
    fixed: Mapping[str, Any],
    trials: int,
    metric: str,
    direction: str,
    progress: Callable[[str], None],
) -> Found:
    """Optuna's TPE over `space`, seeded; `fixed` parameters win over those of a trial."""
    import optuna

    check_metric(task, metric)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    early, late = data.split(SEARCH_SHARE)
    truth, units = numbers(task, late), late.unit.to_numpy()
    table: list[dict[str, Any]] = []

    def objective(trial: Any) -> float:
        parameters = {**space(trial), **fixed}
        model = train(early, parameters)
        value = metrics(task, Scores(predict(task, model, late), truth, units), 0.5)[metric]
        table.append({"trial": trial.number, metric: value, "parameters": parameters})
        if (trial.number + 1) % 5 == 0 or trial.number + 1 == trials:
            done = [row[metric] for row in table]
            best = min(done) if direction == "minimize" else max(done)
            progress(f"trial {trial.number + 1}/{trials}, best {metric} {best:.4f}")
        return value

    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.optimize(objective, n_trials=trials)
    best = table[study.best_trial.number]
    return Found(best["parameters"], float(best[metric]), table)


@dataclass(frozen=True)
class Fold:
    """One block of units: rows trained on, rows scored, and the model."""

    rest: NDArray[np.int64]
    block: NDArray[np.int64]
    model: Any


def folds(data: TrainingData, train: Train, parameters: dict[str, Any]) -> list[Fold]:
    """Models that never saw their block of units; blocks are contiguous in time.

    Raises:
        InvalidInput: fewer units than two.
    """
    starts = data.time.groupby(data.unit.to_numpy()).min().sort_values()
    count = min(FOLDS, len(starts))
    if count < 2:
        raise InvalidInput(f"training data: {len(starts)} unit(s), expected at least 2")
    found = []
    for units in np.array_split(starts.index.to_numpy(), count):
        inside = data.unit.isin(units).to_numpy()
        rest, block = np.flatnonzero(~inside), np.flatnonzero(inside)
        found.append(Fold(rest, block, train(data.take(rest), parameters)))
    return found


def out_of_fold(task: str, data: TrainingData, parts: list[Fold]) -> Scores:
    """Every row scored by the model that did not see its unit."""
    label = numbers(task, data)
    shape = (len(data),) if task != "multiclass" else (len(data), len(classes_of(task, data)))
    value = np.empty(shape)
    for part in parts:
        value[part.block] = predict(task, part.model, data.take(part.block))
    return Scores(value, label, data.unit.to_numpy())


def calibrate(data: TrainingData, model: Any, parts: list[Fold], method: str) -> tuple[Any, Array]:
    """`model` behind a calibrator fitted on out-of-fold scores, as scikit-learn's own class.

    CalibratedClassifierCV clones and refits its estimator; the stand-in hands it the models that
    the project's `train` made instead, so whatever `train` does to its rows stays done.

    Returns:
        The calibrated model, and every row's calibrated probability by the model that did not see
        its unit: (n,) for two classes, else (n, k).
    """
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV

    made = {part.rest.tobytes(): part.model for part in parts}

    class Made(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, rows: Any, _label: Any) -> Made:
            index = rows.index.to_numpy(dtype=np.int64)
            self.model_ = model if len(index) == len(data) else made[index.tobytes()]
            self.classes_ = self.model_.classes_
            return self

        def predict(self, rows: Any) -> Any:
            return self.model_.predict(rows)

    # scikit-learn calibrates `decision_function` where there is one: the stand-in must have what
    # the model has, or the calibrator would be fitted on one scale and used on another
    answer = "decision_function" if hasattr(model, "decision_function") else "predict_proba"

    def respond(self: Any, rows: Any) -> Any:
        return getattr(self.model_, answer)(rows)

    respond.__name__ = answer  # scikit-learn asks for the method by this name
    setattr(Made, answer, respond)

    splits = [(part.rest, part.block) for part in parts]
    features = data.features.reset_index(drop=True)
    whole = CalibratedClassifierCV(Made(), method=method, cv=splits, ensemble=False)
    whole.fit(features, data.label.to_numpy())
    inner = whole.calibrated_classifiers_[0]
    value = np.empty((len(data), len(whole.classes_)))
    for part in parts:
        inner.estimator = part.model
        value[part.block] = whole.predict_proba(features.iloc[part.block])
    inner.estimator = model
    whole.set_params(estimator=model, cv=None)  # the splits are row numbers: no part of a release
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(whole, name, getattr(model, name))
    return whole, value[:, 1] if value.shape[1] == 2 else value


def choose_threshold(
    rule: str,
    scores: Scores,
    *,
    value: float | None = None,
    false_positive: float = 1.0,
    false_negative: float = 1.0,
) -> float:
    """The probability from which a row is labelled true.

    `fixed`: the given value. `f1`, `youden`: the cut that maximizes it. `cost`: the cut with the
    least cost on these scores (for calibrated ones near fp / (fp + fn)).
    """
    if rule == "fixed" and value is not None:
        return float(value)
    order = np.argsort(-scores.value, kind="stable")
    ranked, truth = scores.value[order], scores.label[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])  # ties are cut together
    hits = np.cumsum(truth)[last]
    misses = np.cumsum(1 - truth)[last]
    positives, negatives = truth.sum(), (1 - truth).sum()
    if rule == "f1":
        gain = 2 * hits / (hits + misses + positives)
    elif rule == "youden":
        gain = hits / positives - misses / negatives
    elif rule == "cost":
        gain = -(false_positive * misses + false_negative * (positives - hits))
    else:
        raise InvalidInput(f"proa.yaml: threshold.rule = {rule!r}", param="threshold.rule")
    return float(ranked[last[int(np.argmax(gain))]])


def by_slice(
    task: str, scores: Scores, values: Mapping[str, NDArray[Any]], threshold: float | None
) -> list[dict[str, Any]]:
    """Metrics for each value of each slice column: rows, units and every defined metric."""
    table = []
    for column, names in values.items():
        for name in sorted(set(names.tolist()), key=str):
            rows = names == name
            part = Scores(scores.value[rows], scores.label[rows], scores.unit[rows])
            table.append(
                {
                    "slice": column,
                    "value": str(name),
                    "rows": int(rows.sum()),
                    "units": len(set(part.unit.tolist())),
                    "label_mean": round(float(part.label.mean()), 6),
                    **metrics(task, part, threshold),
                }
            )
    return table
