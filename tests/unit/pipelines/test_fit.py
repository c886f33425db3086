"""Splits keep units whole, calibration calibrates, thresholds follow their rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from proa.errors import InvalidInput
from proa.training import TrainingData
from proa_pipelines import fit

DAYS, ROWS = 12, 1200


def rows(seed: int = 0, label: Any = None) -> TrainingData:
    """1,200 rows on 12 days, shuffled; the label depends on the first of two columns."""
    rng = np.random.default_rng(seed)
    day = rng.permutation(np.repeat(np.arange(DAYS), ROWS // DAYS))
    features = pd.DataFrame(rng.normal(size=(ROWS, 2)), columns=["x", "noise"])
    drawn = rng.random(ROWS) < 1 / (1 + np.exp(-2 * features["x"]))
    start = pd.Timestamp("2013-01-01", tz="UTC")
    return TrainingData(
        features=features,
        label=drawn if label is None else label(features),
        unit=pd.Series(day).map(lambda n: f"day-{n:02d}"),
        time=pd.Series(start + pd.to_timedelta(day, unit="D")),
        columns=(),
    )


def logistic(data: TrainingData, parameters: dict[str, Any]) -> Any:
    """Has `decision_function`; C = 1e6 times the weights is overconfident on purpose."""
    model = LogisticRegression(**parameters).fit(data.features, data.label)
    model.coef_ = model.coef_ * 4
    return model


def tree(data: TrainingData, parameters: dict[str, Any]) -> Any:
    """Has `predict_proba` alone, and is overconfident because its leaves are small."""
    model = DecisionTreeClassifier(min_samples_leaf=4, random_state=0, **parameters)
    return model.fit(data.features, data.label)


def test_the_search_is_judged_on_later_days() -> None:
    early, late = rows().split(0.75)
    assert len(early) + len(late) == ROWS
    assert set(early.unit) & set(late.unit) == set()
    assert early.time.max() < late.time.min()


def test_one_day_cannot_be_split() -> None:
    data = rows()
    with pytest.raises(InvalidInput, match=r"1 unit\(s\) of independence, expected at least 2"):
        data.take((data.unit == "day-00").to_numpy()).split(0.75)


def test_folds_cover_every_row_once_and_never_share_a_day() -> None:
    data = rows()
    parts = fit.folds(data, tree, {})
    assert sorted(np.concatenate([part.block for part in parts])) == list(range(ROWS))
    for part in parts:
        assert not set(data.unit.iloc[part.rest]) & set(data.unit.iloc[part.block])


@pytest.mark.parametrize("train", [logistic, tree], ids=["decision_function", "predict_proba"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_mends_an_overconfident_model(train: Any, method: str) -> None:
    """On rows nobody saw: one scale when fitting and another when serving would show here."""
    data, unseen = rows(0), rows(1)
    parts, model = fit.folds(data, train, {}), train(data, {})
    raw = fit.out_of_fold("binary", data, parts)
    whole, value = fit.calibrate(data, model, parts, method)
    before = fit.metrics("binary", raw, 0.5)["log_loss"]
    after = fit.metrics("binary", fit.Scores(value, raw.label, raw.unit), 0.5)["log_loss"]
    assert after < before - 0.05
    label = fit.numbers("binary", unseen)
    served = fit.Scores(fit.predict("binary", whole, unseen), label, raw.unit)
    assert fit.metrics("binary", served, 0.5)["log_loss"] == pytest.approx(after, abs=0.06)
    assert fit.metrics("binary", served, 0.5)["calibration_gap"] < 0.06
    assert list(whole.feature_names_in_) == ["x", "noise"]


def test_calibration_uses_the_models_that_train_made() -> None:
    """A train function that does more than `fit` (here: wrong labels) is not silently redone."""
    calls = []

    def train(data: TrainingData, parameters: dict[str, Any]) -> Any:
        calls.append(len(data))
        flipped = ~data.label
        return LogisticRegression(**parameters).fit(data.features, flipped)

    data = rows()
    model, parts = train(data, {}), fit.folds(data, train, {})
    whole, value = fit.calibrate(data, model, parts, "sigmoid")
    assert calls == [ROWS] + [ROWS - ROWS // fit.FOLDS] * fit.FOLDS
    assert whole.calibrated_classifiers_[0].estimator is model
    assert fit.out_of_fold("binary", data, parts).value[data.label.to_numpy()].mean() < 0.5
    assert value.mean() == pytest.approx(data.label.mean(), abs=0.02)


def test_three_classes_are_calibrated_and_named() -> None:
    def of_three(features: pd.DataFrame) -> pd.Series[Any]:
        return pd.cut(features["x"], [-9, -0.5, 0.5, 9], labels=["low", "mid", "up"]).astype(str)

    data = rows(label=of_three)
    parts, model = fit.folds(data, tree, {}), tree(data, {})
    raw = fit.out_of_fold("multiclass", data, parts)
    _, value = fit.calibrate(data, model, parts, "sigmoid")
    assert fit.classes_of("multiclass", data) == ["low", "mid", "up"]
    assert value.shape == (ROWS, 3)
    assert value.sum(axis=1) == pytest.approx(1.0)
    assert fit.metrics("multiclass", raw, None)["accuracy"] > 0.9


def test_labels_of_another_kind_are_named() -> None:
    data = rows()
    with pytest.raises(InvalidInput, match="only the class"):
        fit.numbers("binary", data.take(data.label.to_numpy()))
    with pytest.raises(InvalidInput, match="expected true and false, got"):
        fit.numbers("binary", rows(label=lambda f: (f["x"] * 10).astype(int)))
    with pytest.raises(InvalidInput, match="task = 'ranking': the classic pipeline trains binary"):
        fit.numbers("ranking", data)
    with pytest.raises(InvalidInput, match=r"train\.metric = 'auc': task binary has accuracy"):
        fit.check_metric("binary", "auc")


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 1, width=16), st.booleans()), min_size=2, max_size=40).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    ),
    st.floats(0.25, 4.0),
)
def test_no_other_cut_costs_less(pairs: list[tuple[float, bool]], weight: float) -> None:
    """The chosen threshold against every possible one, by brute force."""
    value = np.array([p for p, _ in pairs])
    label = np.array([float(b) for _, b in pairs])
    scores = fit.Scores(value, label, np.zeros(len(pairs)))

    def cost(cut: float) -> float:
        flagged = value >= cut
        return float((flagged & (label == 0)).sum() + weight * (~flagged & (label == 1)).sum())

    chosen = fit.choose_threshold("cost", scores, false_positive=1.0, false_negative=weight)
    assert cost(chosen) == min(cost(cut) for cut in value)


def test_f1_and_fixed_thresholds() -> None:
    scores = fit.Scores(np.array([0.9, 0.8, 0.4, 0.1]), np.array([1.0, 1, 0, 0]), np.zeros(4))
    assert fit.choose_threshold("f1", scores) == 0.8
    assert fit.choose_threshold("youden", scores) == 0.8
    assert fit.choose_threshold("fixed", scores, value=0.3) == 0.3


def test_slices_count_rows_and_units() -> None:
    data = rows()
    scores = fit.out_of_fold("binary", data, fit.folds(data, tree, {}))
    side = np.where(data.features["x"] > 0, "right", "left")
    table = fit.by_slice("binary", scores, {"side": side}, 0.5)
    assert [row["value"] for row in table] == ["left", "right"]
    assert sum(row["rows"] for row in table) == ROWS
    assert table[0]["units"] == DAYS
    assert table[0]["label_mean"] < table[1]["label_mean"]


def test_the_search_takes_fixed_parameters_and_reports_every_trial() -> None:
    told: list[str] = []
    found = fit.search(
        "binary",
        rows(),
        train=tree,
        space=lambda trial: {"max_depth": trial.suggest_int("max_depth", 1, 8)},
        fixed={"criterion": "entropy"},
        trials=6,
        metric="roc_auc",
        direction="maximize",
        progress=told.append,
    )
    assert found.parameters["criterion"] == "entropy"
    assert [row["trial"] for row in found.trials] == list(range(6))
    assert found.value == max(row["roc_auc"] for row in found.trials)
    assert told == [told[0], f"trial 6/6, best roc_auc {found.value:.4f}"]
