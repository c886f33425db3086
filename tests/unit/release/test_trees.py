"""All trees at once: bit for bit what scikit-learn answers, for every task it is used for."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)

from proa.release.trees import FEW_ROWS, quicken

COLUMNS = 4


def data(rows: int = 600, seed: int = 0) -> Any:
    """Numbers with ties and nulls."""
    random = np.random.default_rng(seed)
    values = np.round(random.normal(size=(rows, COLUMNS)), 1)
    values[random.random(values.shape) < 0.1] = np.nan
    return values


@cache
def fitted() -> dict[str, Any]:
    """One estimator of each kind; made once, and no fixture: hypothesis would print it."""
    values = data()
    known = np.nan_to_num(values)
    target = known[:, 0] * known[:, 1] + np.random.default_rng(1).normal(size=len(values))
    return {
        "binary": HistGradientBoostingClassifier(max_iter=15).fit(values, target > 0),
        "multiclass": HistGradientBoostingClassifier(max_iter=6).fit(
            values, np.digitize(target, [-0.5, 0.5])
        ),
        "regression": HistGradientBoostingRegressor(max_iter=15).fit(values, target),
        "counts": HistGradientBoostingRegressor(loss="poisson", max_iter=8).fit(
            values, np.exp(target / 2)
        ),
        "one leaf": HistGradientBoostingRegressor(max_iter=2).fit(values[:30], target[:30] * 0),
    }


number = (
    st.sampled_from([np.nan, -9.0, 9.0])
    | st.floats(-3, 3)
    | st.integers(-30, 30).map(
        lambda tenths: tenths / 10  # on the thresholds' own grid
    )
)
few_rows = st.lists(
    st.lists(number, min_size=COLUMNS, max_size=COLUMNS), min_size=1, max_size=FEW_ROWS + 2
)


@settings(max_examples=80, deadline=None)
@given(rows=few_rows, name=st.sampled_from(["binary", "multiclass", "regression", "counts"]))
def test_answers_are_equal_bit_for_bit(rows: list[list[float]], name: str) -> None:
    estimator = fitted()[name]
    values = np.array(rows, dtype=float)
    quick = quicken(estimator)
    assert quick is not estimator
    assert np.array_equal(quick.predict(values), estimator.predict(values))
    if hasattr(estimator, "predict_proba"):
        assert np.array_equal(quick.predict_proba(values), estimator.predict_proba(values))
        assert np.array_equal(quick.decision_function(values), estimator.decision_function(values))


def test_trees_without_a_split_answer_too() -> None:
    estimator = fitted()["one leaf"]
    assert np.array_equal(quicken(estimator).predict(data(3)), estimator.predict(data(3)))


def test_what_is_not_known_comes_back_as_it_is() -> None:
    values, late = data(200), np.arange(200) % 3 == 0
    forest = RandomForestClassifier(n_estimators=2).fit(np.nan_to_num(values), late)
    assert quicken(forest) is forest
    codes = np.arange(200)[:, None] % 7
    categorical = HistGradientBoostingClassifier(max_iter=3, categorical_features=[0])
    categorical.fit(codes, np.isin(codes[:, 0], [1, 4, 6]))
    assert quicken(categorical) is categorical
    unfitted = HistGradientBoostingClassifier()
    assert quicken(unfitted) is unfitted


def test_the_estimator_itself_is_not_changed() -> None:
    estimator = fitted()["binary"]
    quicken(estimator)
    assert "_raw_predict" not in vars(estimator)
