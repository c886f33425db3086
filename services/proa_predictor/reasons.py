"""Why: SHAP contributions of each column to one row's answer.

For trees inside a pipeline or a calibrated classifier the trees' margin (log-odds) is explained,
exactly and additively: base + sum of contributions = margin, before calibration, which only bends
the margin monotonically. Linear models: the same. Anything else: the probability or prediction
itself, by permutation over the background rows.

Trees are explained by their own node counts (`tree_path_dependent`). Against background rows
(`interventional`), shap 0.51 on scikit-learn 1.9's histogram trees leaves up to 0.13 of the margin
unexplained, without a word. So additivity is measured before the first answer, never assumed.

shap is imported with the first question that wants reasons: it takes 80 MiB and two seconds, and
most predictors are never asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from proa.errors import InvalidInput
from proa.release.compiled import Scorer
from proa.release.manifest import ClassicSpec
from proa.release.scoring import checked, frame, predict
from proa_predictor.answer import Reason

__all__ = ["Explainer"]

_TOP: Final = 10
_BACKGROUND: Final = 100
Array = np.ndarray[Any, Any]
Columns = Mapping[str, list[Any]]


class Explainer:
    """Explains answers of one release; safe to call from several threads.

    Args:
        scorer: the release's scorer.
        background: the release's background rows (columns), what a row is compared with.
    """

    def __init__(self, scorer: Scorer, background: Columns | None) -> None:
        self._scorer = scorer
        self._background = background
        self._lock = threading.Lock()
        self._explain: Callable[[Array], tuple[Array, float]] | None = None
        self._owners: list[str] = []
        self._encode: Callable[[Columns], Array] | None = None
        self.explained = ""

    @property
    def _spec(self) -> ClassicSpec:
        return self._scorer.spec

    def reasons(self, values: Columns) -> tuple[list[list[Reason]], str, float]:
        """Reasons of n rows, at most ten each, largest contribution first.

        Args:
            values: columns as `scoring.checked` returned them.

        Returns:
            The reasons, what was explained (`margin`, `probability`, `prediction`), and the base:
            its mean over the training rows (trees) or background rows, to which the contributions
            are added.

        Raises:
            InvalidInput: `no_explainer`: the release declares none, or the task has none.
        """
        if self._spec.explainer != "shap":
            raise InvalidInput(
                "this release has no explainer: train it with serve.explain: shap",
                code="no_explainer",
                param="explain",
            )
        with self._lock:
            if self._explain is None:
                self._prepare()
            assert self._explain is not None
            assert self._encode is not None
            contributions, base = self._explain(self._encode(values))
        return (
            [self._ranked(row, values, i) for i, row in enumerate(contributions)],
            (self.explained),
            base,
        )

    def _ranked(self, row: Array, values: Columns, number: int) -> list[Reason]:
        total: dict[str, float] = {}
        for owner, part in zip(self._owners, row.tolist(), strict=True):
            total[owner] = total.get(owner, 0.0) + part
        ranked = sorted(total.items(), key=lambda item: -abs(item[1]))[:_TOP]
        return [
            {
                "feature": name,
                "value": _shown(values[name][number]) if name in values else None,
                "contribution": part,
            }
            for name, part in ranked
        ]

    def _prepare(self) -> None:
        if self._spec.task == "multiclass":
            raise InvalidInput(
                "reasons are not available for multiclass releases", code="no_explainer"
            )
        import shap

        estimator, encode, owners = self._parts()
        rows = None if self._background is None else checked(self._spec, self._background)
        data = None if rows is None else encode(rows)[:_BACKGROUND]
        explain = _of_trees(shap, estimator) or _of_line(shap, estimator, data)
        if explain is not None and data is not None and not _adds_up(explain, estimator, data):
            explain = None
        self.explained = self._space(estimator)
        if explain is None:
            explain, encode, owners = self._by_permutation(shap, rows)
            self.explained = "probability" if self._spec.task == "binary" else "prediction"
        self._encode, self._owners, self._explain = encode, owners, explain

    def _space(self, estimator: Any) -> str:
        if self._spec.task != "binary":
            return "prediction"
        averages = type(estimator).__module__.startswith("sklearn") and not hasattr(
            estimator, "decision_function"
        )
        return "probability" if averages else "margin"  # forests average probabilities

    def _parts(self) -> tuple[Any, Callable[[Columns], Array], list[str]]:
        """The innermost estimator, what encodes columns for it, and each input's column."""
        plan = self._scorer.plan
        if plan is not None:
            return plan.estimator, plan.encode, [name for name, _ in plan.columns]
        spec = self._spec
        names = [column.name for column in spec.columns]
        inner = _innermost(self._scorer.model)
        steps = getattr(inner, "steps", None)
        if steps is None:
            return inner, lambda values: frame(spec, values).to_numpy(dtype=float), names
        head = inner[:-1]

        def encode(values: Columns) -> Array:
            found = head.transform(frame(spec, values))
            return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=float)

        return steps[-1][1], encode, _owners(head, names)

    def _by_permutation(
        self, shap: Any, rows: Columns | None
    ) -> tuple[Callable[[Array], tuple[Array, float]], Callable[[Columns], Array], list[str]]:
        if rows is None:
            raise InvalidInput(
                "this model can only be explained against background rows, and the release has "
                "none",
                code="no_explainer",
                param="explain",
            )
        spec, model = self._spec, self._scorer.model
        names = [column.name for column in spec.columns]

        def encode(values: Columns) -> Array:
            return np.array([values[name] for name in names], dtype=object).T

        def ask(data: Array) -> Array:
            columns = {name: data[:, i].tolist() for i, name in enumerate(names)}
            return predict(model, spec, frame(spec, columns))

        explainer = shap.explainers.Permutation(ask, encode(rows)[:20], seed=0)

        def explain(data: Array) -> tuple[Array, float]:
            found = explainer(data, silent=True)
            return np.asarray(found.values, dtype=float), float(np.mean(found.base_values))

        return explain, encode, names


def _adds_up(explain: Callable[[Array], tuple[Array, float]], estimator: Any, data: Array) -> bool:
    """Whether base and contributions give what the estimator says."""
    if hasattr(estimator, "decision_function"):
        truth = estimator.decision_function(data)
    elif type(estimator).__module__.startswith("xgboost"):
        truth = estimator.predict(data, output_margin=True)
    elif hasattr(estimator, "predict_proba"):
        truth = estimator.predict_proba(data)[:, -1]
    else:
        truth = estimator.predict(data)
    contributions, base = explain(data)
    return bool(np.allclose(contributions.sum(axis=1) + base, truth, atol=1e-4))


def _of_trees(shap: Any, estimator: Any) -> Callable[[Array], tuple[Array, float]] | None:
    try:
        explainer = shap.TreeExplainer(estimator, feature_perturbation="tree_path_dependent")
    except Exception:  # shap says "not a tree model" with classes of its own
        return None

    def explain(rows: Array) -> tuple[Array, float]:
        found = np.asarray(explainer.shap_values(rows, check_additivity=False), dtype=float)
        base = np.ravel(explainer.expected_value)
        if found.ndim == 3:  # probabilities per class (a forest): the positive class
            return found[:, :, -1], float(base[-1])
        return found, float(base[-1])

    return explain


def _of_line(
    shap: Any, estimator: Any, data: Array | None
) -> Callable[[Array], tuple[Array, float]] | None:
    if data is None or not hasattr(estimator, "coef_"):
        return None
    explainer = shap.LinearExplainer(estimator, data)

    def explain(rows: Array) -> tuple[Array, float]:
        found = np.asarray(explainer.shap_values(rows), dtype=float)
        return found, float(np.ravel(explainer.expected_value)[-1])

    return explain


def _innermost(model: Any) -> Any:
    """The fitted estimator inside calibration and freezing; the model itself when it is several."""
    members = getattr(model, "calibrated_classifiers_", None)
    if members and len(members) == 1:
        return _innermost(members[0].estimator)
    if type(model).__name__ == "FrozenEstimator":
        return _innermost(model.estimator)
    return model


def _owners(head: Any, names: Sequence[str]) -> list[str]:
    """Which input column each encoded column comes from.

    scikit-learn names encoded columns `transformer__column` or `transformer__column_category`.
    """
    owners = []
    for encoded in head.get_feature_names_out():
        plain = str(encoded).partition("__")[2] or str(encoded)
        fitting = [name for name in names if plain == name or plain.startswith(f"{name}_")]
        owners.append(max(fitting, key=len) if fitting else plain)
    return owners


def _shown(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
