"""One row, fast: a model taken apart into encoding, estimator and calibration, proven equal.

Asking scikit-learn about one row through a DataFrame, a ColumnTransformer and a calibrated
classifier costs ten times what its trees cost (tests/bench/predictor.py). Here text columns are
encoded with dictionaries made from the fitted OrdinalEncoder, the rest of the model is asked with
an array, and its calibrators are applied directly. Every step is scikit-learn's own public method.

Nothing is taken on trust: `prepare` compares both ways on real rows, on rows with every column null
in turn, and on unknown categories. If one answer differs in one bit, or the model has a part that
is not known here, the model is asked as it is.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proa.errors import InvalidInput, ProaError
from proa.release.manifest import ClassicSpec
from proa.release.scoring import Columns, Outputs, checked, outputs, predict, score
from proa.release.trees import quicken

__all__ = ["Scorer", "prepare"]

Array = np.ndarray[Any, Any]
Encode = Callable[[list[Any]], list[float]]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Answers rows for one release; `plan` is None when the model is asked as it is."""

    model: Any
    spec: ClassicSpec
    plan: Plan | None = None
    reason: str = ""

    def score(self, columns: Columns) -> Outputs:
        """As `proa.release.scoring.score`."""
        if self.plan is None:
            return score(self.model, self.spec, columns)
        return self.answer(checked(self.spec, columns))

    def answer(self, values: Mapping[str, list[Any]]) -> Outputs:
        """As `score`, for columns that `scoring.checked` returned."""
        if self.plan is None:
            return score(self.model, self.spec, values)
        return outputs(self.spec, self.plan.predict(self.plan.encode(values)))


@dataclass(frozen=True, slots=True)
class Plan:
    """Encoders by column (in the estimator's order), and what is asked with the array.

    `probability` turns the array into the positive class's calibrated probability.
    """

    spec: ClassicSpec
    columns: tuple[tuple[str, Encode | None], ...]
    estimator: Any
    probability: Callable[[Array], Array] | None

    def encode(self, values: Mapping[str, list[Any]]) -> Array:
        """The estimator's input, float64 [n, columns]."""
        encoded = [
            values[name] if encode is None else encode(values[name])
            for name, encode in self.columns
        ]
        if len(encoded[0]) == 1:
            return np.array([[column[0] for column in encoded]], dtype=np.float64)
        return np.array(encoded, dtype=np.float64).T.copy()

    def predict(self, data: Array) -> Array:
        """As `scoring.predict`."""
        if self.probability is None:
            return predict(self.estimator, self.spec, data)
        return self.probability(data)


def prepare(model: Any, spec: ClassicSpec, probes: Columns | None) -> Scorer:
    """Take the model apart if that is known to change nothing.

    Args:
        probes: real rows of the release (background, selftest inputs), as `score` takes them.
    """
    if probes is None or not next(iter(probes.values()), ()):
        return Scorer(model, spec, reason="no rows to prove it with")
    try:
        plan = _plan(model, spec)
    except _UnknownPartError as error:
        return Scorer(model, spec, reason=str(error))
    difference = _difference(model, spec, plan, probes)
    if difference is not None:
        return Scorer(model, spec, reason=difference)
    return Scorer(model, spec, plan)


class _UnknownPartError(Exception):
    """The model has a part that is not known here."""


def _plan(model: Any, spec: ClassicSpec) -> Plan:
    from sklearn.base import BaseEstimator

    if not isinstance(model, BaseEstimator):
        raise _UnknownPartError(f"{type(model).__name__} is not of scikit-learn")
    if any(column.type == "datetime" for column in spec.columns):
        raise _UnknownPartError("a time column")
    calibrated = _calibration(model, spec)
    inner = model if calibrated is None else calibrated.estimator
    columns, estimator = _encoding(_thawed(inner), spec)
    estimator = quicken(_nameless(estimator))
    probability = None if calibrated is None else _calibrate(calibrated, estimator)
    return Plan(spec, columns, estimator, probability)


def _calibration(model: Any, spec: ClassicSpec) -> Any:
    """The one calibrated classifier inside a binary CalibratedClassifierCV, else None."""
    from sklearn.calibration import CalibratedClassifierCV

    if not isinstance(model, CalibratedClassifierCV):
        return None
    members = model.calibrated_classifiers_
    if spec.task != "binary" or len(members) != 1 or len(members[0].calibrators) != 1:
        raise _UnknownPartError(f"{len(members)} calibrated classifiers for task {spec.task}")
    if members[0].method not in ("sigmoid", "isotonic"):
        raise _UnknownPartError(f"calibration by {members[0].method}")
    return members[0]


def _calibrate(calibrated: Any, estimator: Any) -> Callable[[Array], Array]:
    calibrator = calibrated.calibrators[0]
    margin = getattr(estimator, "decision_function", None)

    def probability(data: Array) -> Array:
        raw = margin(data) if margin is not None else estimator.predict_proba(data)[:, 1]
        found: Array = calibrator.predict(raw)
        found[(found > 1.0) & (found <= 1.0 + 1e-5)] = 1.0
        return found

    return probability


def _thawed(estimator: Any) -> Any:
    """What is inside sklearn.frozen.FrozenEstimator (scikit-learn ≥ 1.6)."""
    while type(estimator).__name__ == "FrozenEstimator":
        estimator = estimator.estimator
    return estimator


def _encoding(
    estimator: Any, spec: ClassicSpec
) -> tuple[tuple[tuple[str, Encode | None], ...], Any]:
    """Split off a leading ColumnTransformer: its encoders by column, and what follows it."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    names = [column.name for column in spec.columns]
    texts = {column.name for column in spec.columns if column.type == "string"}
    first = estimator.steps[0][1] if isinstance(estimator, Pipeline) else None
    if not isinstance(first, ColumnTransformer):
        if texts:
            raise _UnknownPartError("text columns without a leading ColumnTransformer")
        return tuple((name, None) for name in names), estimator
    columns: list[tuple[str, Encode | None]] = []
    for _, transformer, selected in first.transformers_:
        chosen = [names[item] if isinstance(item, int) else item for item in _listed(selected)]
        columns += _encoders(transformer, chosen, texts)
    rest = estimator.steps[1:]
    return tuple(columns), rest[0][1] if len(rest) == 1 else Pipeline(rest)


def _listed(selected: Any) -> list[Any]:
    if isinstance(selected, str):
        return [selected]
    if isinstance(selected, slice) or any(isinstance(item, bool | np.bool_) for item in selected):
        raise _UnknownPartError("columns selected by slice or mask")
    return [item.item() if isinstance(item, np.generic) else item for item in selected]


def _encoders(
    transformer: Any, chosen: list[str], texts: set[str]
) -> list[tuple[str, Encode | None]]:
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    if not chosen or (isinstance(transformer, str) and transformer == "drop"):
        return []
    passes = transformer == "passthrough" or (
        isinstance(transformer, FunctionTransformer) and transformer.func is None
    )
    if passes and not texts & set(chosen):
        return [(name, None) for name in chosen]
    if isinstance(transformer, OrdinalEncoder) and set(chosen) <= texts:
        if any(item is not None for item in getattr(transformer, "infrequent_categories_", [])):
            raise _UnknownPartError("infrequent categories")
        return [
            (name, _ordinal(transformer, name, categories))
            for name, categories in zip(chosen, transformer.categories_, strict=True)
        ]
    raise _UnknownPartError(f"a ColumnTransformer with {type(transformer).__name__}")


def _ordinal(encoder: Any, name: str, categories: Array) -> Encode:
    codes: dict[Any, float] = {
        category: float(code)
        for code, category in enumerate(categories.tolist())
        if isinstance(category, str)
    }
    known = encoder.handle_unknown == "use_encoded_value"
    unknown = float(encoder.unknown_value) if known else None
    if any(isinstance(item, float) for item in categories.tolist()):  # NaN was seen in training
        codes[None] = float(encoder.encoded_missing_value)

    def encode(values: list[Any]) -> list[float]:
        try:
            return [codes[value] for value in values]
        except KeyError as error:
            if unknown is None:
                raise _unknown_category(name, values, codes) from error
            return [codes.get(value, unknown) for value in values]

    return encode


def _unknown_category(name: str, values: Sequence[Any], codes: Mapping[Any, float]) -> InvalidInput:
    row = next(row for row, value in enumerate(values) if value not in codes)
    return InvalidInput(
        f"column {name!r}, row {row}: {values[row]!r:.80}: expected one of the {len(codes)} "
        f"categories the model was trained on, such as {', '.join(map(repr, list(codes)[:5]))}",
        code="refused_value",
        param=name,
    )


def _nameless(estimator: Any) -> Any:
    """A shallow copy that takes arrays: scikit-learn warns when names it was fitted on are gone.

    The order of the columns is checked by `scoring.check_model`.
    """
    from sklearn.pipeline import Pipeline

    estimator = copy.copy(_thawed(estimator))
    if isinstance(estimator, Pipeline):
        (name, first), *rest = estimator.steps
        estimator.steps = [(name, _nameless(first)), *rest]
    elif "feature_names_in_" in vars(estimator):
        del estimator.feature_names_in_
    return estimator


def _difference(model: Any, spec: ClassicSpec, plan: Plan, probes: Columns) -> str | None:
    """Where both ways differ on the probes, or None."""
    scorer = Scorer(model, spec, plan)
    for what, columns in _variants(spec, probes):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            slow = _outcome(lambda columns=columns: score(model, spec, columns))  # type: ignore[misc]
            fast = _outcome(lambda columns=columns: scorer.score(columns))  # type: ignore[misc]
        if slow != fast:
            return f"answers differ for {what}"
    return None


def _variants(spec: ClassicSpec, probes: Columns) -> list[tuple[str, dict[str, list[Any]]]]:
    """The probes; one by one; with each column null; with each text unknown."""
    rows = {column.name: list(probes[column.name]) for column in spec.columns}
    count = len(next(iter(rows.values())))
    found = [("the release's rows", rows)]
    found += [
        (f"row {row}", {name: [values[row]] for name, values in rows.items()})
        for row in range(min(count, 8))
    ]
    few = {name: values[:8] for name, values in rows.items()}
    for column in spec.columns:
        blank: list[Any] = [None] * len(few[column.name])
        found.append((f"null in {column.name}", {**few, column.name: blank}))
        if column.type == "string":
            strange = ["\x00 no such category"] * len(blank)
            found.append((f"an unknown {column.name}", {**few, column.name: strange}))
    return found


def _outcome(ask: Callable[[], Outputs]) -> Any:
    """The answer, or that the input was refused; NaN never equals anything."""
    try:
        return ask()
    except ProaError as error:
        return type(error).__name__
    except Exception:
        return math.nan
