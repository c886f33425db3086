"""Every task through both doors, with the right names, types and shapes; nothing is faked.

One release per task, each a real estimator in a real predictor process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression

from proa.exam.asking import to_predictions
from tests import classic_release
from tests.processes import Processes

COLUMNS = [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 2))
PLACE = X[:, 0] + 0.1 * RANDOM.normal(size=300)
CLASSES = ["bronze", "gold", "silver"]
NAMES = np.where(PLACE < -0.5, "bronze", np.where(PLACE < 0.5, "silver", "gold"))
LINE = LinearRegression().fit(X, PLACE)
BAND = LinearRegression().fit(X, np.column_stack([PLACE, PLACE - 1.0, PLACE + 2.0]))
TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "multiclass": (LogisticRegression().fit(X, NAMES), {"classes": CLASSES}),
    "regression": (LINE, {}),
    "forecasting": (BAND, {"intervals": True}),
    "ranking": (LINE, {}),
    "anomaly": (IsolationForest(n_estimators=20, random_state=0).fit(X), {"threshold": 0.5}),
}
ROWS = [{"a": -2.0, "b": 0.0}, {"a": 0.0, "b": 0.5}, {"a": 2.0, "b": 1.0}]


@pytest.mark.parametrize("task", [*TASKS])
def test_both_doors_say_the_same_in_the_right_types(
    task: str, processes: Processes, tmp_path: Path
) -> None:
    model, more = TASKS[task]
    section = {"task": task, "columns": COLUMNS, "threshold": None, "explainer": "none", **more}
    examples = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist()}, PLACE
    built = classic_release.build(tmp_path, model=model, examples=examples, **section)
    url = processes.start(built.argv(tmp_path / "work"), deadline=60).url
    name = built.ref.name

    answer = httpx.post(f"{url}/v1/models/{name}/predict", json={"rows": ROWS})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    inputs = [
        {"name": c, "shape": [3], "datatype": "FP64", "data": [row[c] for row in ROWS]}
        for c in ("a", "b")
    ]
    body = httpx.post(f"{url}/v2/models/{name}/infer", json={"inputs": inputs}).json()
    tensors = {tensor["name"]: tensor for tensor in body["outputs"]}
    described = httpx.get(f"{url}/v2/models/{name}").json()
    assert [item["name"] for item in described["outputs"]] == [*tensors]
    assert [item["datatype"] for item in described["outputs"]] == [
        tensor["datatype"] for tensor in tensors.values()
    ]
    asked = to_predictions(body, 3)  # what an exam reads
    data = np.array([[row["a"], row["b"]] for row in ROWS])
    CHECKS[task](predictions, tensors, asked, data)
    if task == "multiclass":
        assert answer.json()["classes"] == CLASSES
        assert described["parameters"]["classes"] == CLASSES


def check_multiclass(predictions: Any, tensors: Any, asked: Any, data: Any) -> None:
    truth = TASKS["multiclass"][0].predict_proba(data)
    assert tensors["probabilities"]["shape"] == [3, 3]
    assert tensors["probabilities"]["datatype"] == "FP64"
    assert tensors["probabilities"]["parameters"] == {"classes": CLASSES}
    assert tensors["label"] == {
        "name": "label", "datatype": "BYTES", "shape": [3],
        "data": [row["label"] for row in predictions],
    }  # fmt: skip
    assert [row["label"] for row in predictions] == ["bronze", "silver", "gold"]
    assert np.allclose([row["probabilities"] for row in predictions], truth)
    assert [item.value for item in asked] == [row["probabilities"] for row in predictions]
    assert [item.decision for item in asked] == [row["label"] for row in predictions]


def check_number(predictions: Any, tensors: Any, asked: Any, data: Any) -> None:
    assert [*tensors] == ["prediction"]
    assert (tensors["prediction"]["datatype"], tensors["prediction"]["shape"]) == ("FP64", [3])
    assert tensors["prediction"]["data"] == [row["prediction"] for row in predictions]
    assert np.allclose(tensors["prediction"]["data"], LINE.predict(data))
    assert [item.decision for item in asked] == [None, None, None]


def check_intervals(predictions: Any, tensors: Any, asked: Any, data: Any) -> None:
    truth = BAND.predict(data)
    for place, name in enumerate(("prediction", "lower", "upper")):
        assert np.allclose([row[name] for row in predictions], truth[:, place])
        assert tensors[name]["data"] == [row[name] for row in predictions]
    assert [(item.lower, item.upper) for item in asked] == [
        (row["lower"], row["upper"]) for row in predictions
    ]


def check_anomaly(predictions: Any, tensors: Any, asked: Any, data: Any) -> None:
    truth = -TASKS["anomaly"][0].score_samples(data)
    assert np.allclose([row["prediction"] for row in predictions], truth)
    assert tensors["label"]["datatype"] == "BOOL"
    assert tensors["label"]["data"] == [bool(value >= 0.5) for value in truth]
    assert [item.decision for item in asked] == tensors["label"]["data"]


CHECKS = {
    "multiclass": check_multiclass,
    "regression": check_number,
    "forecasting": check_intervals,
    "ranking": check_number,
    "anomaly": check_anomaly,
}
