"""Scoring: every value of its declared type or a named fault; the fast way equals the slow one."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.errors import Internal, InvalidInput, Refused
from proa.release import scoring
from proa.release.compiled import Scorer, prepare
from proa.release.manifest import ClassicSpec
from tests import classic_release

SPEC = ClassicSpec.model_validate(classic_release.spec())


@cache
def trained() -> tuple[Any, dict[str, list[Any]]]:
    columns, late = classic_release.data(1200)
    return classic_release.train(SPEC, columns, late), columns


@cache
def scorer() -> Scorer:
    model, columns = trained()
    return prepare(model, SPEC, {name: values[:40] for name, values in columns.items()})


@pytest.fixture
def columns() -> dict[str, list[Any]]:
    return trained()[1]


@pytest.fixture
def model() -> Any:
    return trained()[0]


def row(**changes: Any) -> dict[str, list[Any]]:
    value: dict[str, Any] = {
        "carrier": "UA",
        "origin": "JFK",
        "hour": 12,
        "weekend": False,
        "distance": 500.0,
        "wind": 3.5,
        "origin_delay": 4,
    }
    return {name: [item] for name, item in {**value, **changes}.items()}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"hour": 12.5}, "wrong_type", ["'hour', row 0", "12.5", "a whole number"]),
        ({"hour": "12"}, "wrong_type", ["'hour'", "'12' (str)", "a whole number (long)"]),
        ({"hour": True}, "wrong_type", ["'hour'", "True (bool)"]),
        ({"hour": 2**60}, "wrong_type", ["'hour'"]),
        ({"hour": None}, "null_value", ["'hour', row 0: null", "not nullable"]),
        ({"wind": "x"}, "wrong_type", ["'wind'", "a finite number"]),
        ({"wind": math.inf}, "wrong_type", ["'wind'", "inf"]),
        ({"wind": -math.inf}, "wrong_type", ["'wind'", "inf"]),
        ({"wind": 10**400}, "wrong_type", ["'wind'"]),
        ({"wind": [1]}, "wrong_type", ["'wind'", "list"]),
        ({"carrier": 7}, "wrong_type", ["'carrier'", "a text"]),
        ({"weekend": 1}, "wrong_type", ["'weekend'", "true or false"]),
        ({"moon": 1}, "unknown_column", ["'moon'", "hour (long)"]),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], code: str, words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        scoring.checked(SPEC, row(**change))
    assert caught.value.code == code
    assert caught.value.param == next(iter(change))
    for word in words:
        assert word in caught.value.message


def test_a_missing_column_is_named_with_what_was_expected() -> None:
    asked = row()
    del asked["wind"], asked["hour"]
    with pytest.raises(
        InvalidInput, match=r"missing columns 'hour', 'wind': expected carrier \(str"
    ):
        scoring.checked(SPEC, asked)


def test_columns_of_different_length_and_no_rows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="differ in length"):
        scoring.checked(SPEC, {**row(), "wind": [1.0, 2.0]})
    with pytest.raises(InvalidInput, match="0 rows"):
        scoring.checked(SPEC, {name: [] for name in row()})
    with pytest.raises(InvalidInput, match=r"'wind' is str: expected a list"):
        scoring.checked(SPEC, {**row(), "wind": "1"})


def test_the_missing_policy_refuse_refuses_every_null() -> None:
    strict = SPEC.model_copy(update={"missing": "refuse"})
    assert math.isnan(scoring.checked(SPEC, row(wind=None))["wind"][0])
    with pytest.raises(InvalidInput, match="'wind', row 0: null, but this release refuses missing"):
        scoring.checked(strict, row(wind=None))


def test_a_whole_float_is_a_long_and_an_int_is_a_double() -> None:
    values = scoring.checked(SPEC, row(hour=7.0, wind=3))
    assert (values["hour"], values["wind"]) == ([7.0], [3.0])


def test_rows_name_their_number() -> None:
    good = {name: values[0] for name, values in row().items()}
    for rows, words in [
        ([good, {**good, "x": 1}], r"rows\[1\]: unknown column 'x'"),
        ([{key: good[key] for key in good if key != "wind"}], r"rows\[0\]: missing column 'wind'"),
        ([good, 7], r"rows\[1\] is int"),
        ([], "0 rows"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            scoring.columns_of_rows(SPEC, rows)


numbers = st.none() | st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
rows_of_any_kind = st.lists(
    st.fixed_dictionaries(
        {
            "carrier": st.none() | st.sampled_from([*classic_release.CARRIERS, "ZZ", ""]),
            "origin": st.none() | st.sampled_from(classic_release.ORIGINS),
            "hour": st.integers(-5, 30),
            "weekend": st.none() | st.booleans(),
            "distance": numbers,
            "wind": numbers,
            "origin_delay": numbers,
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_any_kind)
def test_the_compiled_way_equals_the_models_own(rows: list[dict[str, Any]]) -> None:
    assert scorer().plan is not None, scorer().reason
    asked = scoring.columns_of_rows(SPEC, rows)
    assert scorer().score(asked) == scoring.score(trained()[0], SPEC, asked)


def test_scoring_is_the_models_own_probability(model: Any, columns: dict[str, list[Any]]) -> None:
    found = scoring.score(model, SPEC, columns)
    frame = scoring.frame(SPEC, scoring.checked(SPEC, columns))
    assert found["probability"] == model.predict_proba(frame)[:, 1].tolist()
    assert found["label"] == [value >= 0.4 for value in found["probability"]]


def test_arrays_and_lists_give_the_same(model: Any, columns: dict[str, list[Any]]) -> None:
    few = {name: values[:5] for name, values in columns.items()}
    arrays = {name: np.array(values, dtype=object) for name, values in few.items()}
    assert scoring.score(model, SPEC, arrays) == scoring.score(model, SPEC, few)


def test_a_model_that_answers_nan_is_a_fault_of_ours_not_an_answer() -> None:
    with pytest.raises(Internal, match="answered nan"):
        scoring.outputs(SPEC, np.array([0.1, np.nan]))


def test_the_compiled_way_is_left_when_it_would_differ(
    model: Any, columns: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: values[:40] for name, values in columns.items()}
    plan = prepare(model, SPEC, few).plan
    assert plan is not None
    # stands in for a scikit-learn whose parts are to be asked in another way one day
    monkeypatch.setattr(type(plan), "predict", lambda self, data: plan.probability(data) + 1e-9)
    bent = prepare(model, SPEC, few)
    assert bent.plan is None
    assert "differ" in bent.reason


def test_without_rows_to_prove_it_nothing_is_compiled(model: Any) -> None:
    assert prepare(model, SPEC, None).plan is None


def test_other_tasks_have_their_own_outputs() -> None:
    from sklearn.ensemble import IsolationForest, RandomForestClassifier
    from sklearn.linear_model import LinearRegression

    names = ["distance", "wind"]
    section = {"columns": [{"name": name, "type": "double"} for name in names], "model": "m"}
    random = np.random.default_rng(0)
    values = random.normal(size=(200, 2))
    asked = {name: values[:6, i].tolist() for i, name in enumerate(names)}
    frame = scoring.frame
    three = ClassicSpec.model_validate(
        {**section, "task": "multiclass", "classes": ["low", "mid", "high"]}
    )
    data = frame(three, {name: values[:, i].tolist() for i, name in enumerate(names)})
    bins = np.digitize(values[:, 0], [-0.5, 0.5])
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(data, bins)
    found = prepare(forest, three, asked).score(asked)
    assert found == scoring.score(forest, three, asked)
    assert np.allclose(np.sum(found["probabilities"], axis=1), 1)
    assert found["label"] == [["low", "mid", "high"][index] for index in forest.predict(data[:6])]

    number = ClassicSpec.model_validate({**section, "task": "regression"})
    line = LinearRegression().fit(data, values[:, 1] * 2)
    assert np.allclose(scoring.score(line, number, asked)["prediction"], values[:6, 1] * 2)
    assert prepare(line, number, asked).plan is not None

    strange = ClassicSpec.model_validate({**section, "task": "anomaly", "threshold": 0.5})
    anomaly = IsolationForest(random_state=0).fit(data)
    scored = scoring.score(anomaly, strange, {"distance": [0.0, 30.0], "wind": [0.0, 30.0]})
    assert scored["prediction"][1] > scored["prediction"][0]
    assert scored["label"] == [value >= 0.5 for value in scored["prediction"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": [{"name": "wind", "type": "double"}]}, "was fitted on"),
        ({"task": "anomaly"}, "needs score_samples"),
        ({"task": "multiclass", "classes": ["a", "b", "c"]}, "2 classes, the manifest 3"),
    ],
)
def test_a_model_that_does_not_fit_its_manifest_is_refused(
    model: Any, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        scoring.check_model(model, ClassicSpec.model_validate(classic_release.spec(**change)))
