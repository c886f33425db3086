"""The predictor over loopback: both wire forms, headers, reasons, metrics. Nothing is faked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from proa.release import scoring
from tests.classic_release import infer_body
from tests.services.predictor.conftest import Served

INFER = "/v2/models/flight-delay/infer"


def expected(served: Served, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What the model itself says about rows, through a DataFrame."""
    spec = served.release.spec
    return scoring.score(served.release.model, spec, scoring.columns_of_rows(spec, rows))


def test_infer_answers_what_the_model_says(served: Served) -> None:
    rows = served.release.rows(64)
    answer = served.client.post(INFER, json=infer_body(rows, id="mine"))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("flight-delay", "1", "mine")
    assert body["parameters"]["release"] == str(served.release.ref)
    found = {output["name"]: output for output in body["outputs"]}
    truth = expected(served, rows)
    assert found["probability"]["data"] == truth["probability"]
    assert found["label"]["data"] == truth["label"]
    assert (found["probability"]["datatype"], found["label"]["datatype"]) == ("FP64", "BOOL")
    assert found["probability"]["shape"] == [64]


def test_predict_answers_rows_as_people_write_them(served: Served) -> None:
    rows = served.release.rows(3)
    for path in ("/v1/predict", "/v1/models/flight-delay/predict"):
        body = served.client.post(path, json={"rows": rows}).json()
        truth = expected(served, rows)
        assert body["release"] == str(served.release.ref)
        assert [row["probability"] for row in body["predictions"]] == truth["probability"]
        assert [row["label"] for row in body["predictions"]] == truth["label"]


def test_a_column_may_be_a_tensor_of_one_column(served: Served) -> None:
    rows = served.release.rows(2)
    body = infer_body(rows)
    for tensor in body["inputs"]:
        tensor["shape"] = [2, 1]
        tensor["data"] = [[value] for value in tensor["data"]]
    answer = served.client.post(INFER, json=body).json()
    assert answer["outputs"][0]["data"] == expected(served, rows)["probability"]


def test_a_large_request_is_answered_beside_small_ones(served: Served) -> None:
    """2,000 rows are scored in a thread; 16 callers of one row meanwhile get their own answers."""
    rows = served.release.rows(2000)
    truth = expected(served, rows)["probability"]

    def ask(number: int) -> bool:
        asked = rows if number == 0 else rows[number : number + 1]
        answer = served.client.post(INFER, json=infer_body(asked)).json()
        data = answer["outputs"][0]["data"]
        return bool(data == (truth if number == 0 else truth[number : number + 1]))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))


def test_outputs_can_be_chosen(served: Served) -> None:
    body = infer_body(served.release.rows(1), outputs=[{"name": "label"}])
    outputs = served.client.post(INFER, json=body).json()["outputs"]
    assert [output["name"] for output in outputs] == ["label"]


def test_reasons_add_up_to_the_margin_and_come_largest_first(served: Served) -> None:
    rows = served.release.rows(4)
    body = infer_body(rows, parameters={"explain": True})
    outputs = served.client.post(INFER, json=body, timeout=60).json()["outputs"]
    reasons = next(output for output in outputs if output["name"] == "reasons")
    assert (reasons["datatype"], reasons["shape"]) == ("BYTES", [4])
    assert reasons["parameters"]["explained"] == "margin"
    pipeline = served.release.model.calibrated_classifiers_[0].estimator.estimator
    spec = served.release.spec
    values = scoring.checked(spec, scoring.columns_of_rows(spec, rows))
    margins = pipeline.decision_function(scoring.frame(spec, values))
    for row, text, margin in zip(rows, reasons["data"], margins, strict=True):
        parts = json.loads(text)
        sizes = [abs(part["contribution"]) for part in parts]
        assert sizes == sorted(sizes, reverse=True)
        assert {part["feature"]: part["value"] for part in parts} == row
        total = reasons["parameters"]["base"] + sum(part["contribution"] for part in parts)
        assert np.isclose(total, margin, atol=1e-6)


def test_reasons_in_plain_rows(served: Served) -> None:
    asked = {"rows": served.release.rows(1), "explain": True}
    body = served.client.post("/v1/predict", json=asked, timeout=60).json()
    assert body["explained"] == "margin"
    assert {"feature", "value", "contribution"} == set(body["predictions"][0]["reasons"][0])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/release"),
        ("GET", "/v2/models/flight-delay"),
        ("GET", "/no-such-path"),
        ("POST", INFER),
        ("POST", "/v1/predict"),
    ],
)
def test_every_answer_names_release_and_request(served: Served, method: str, path: str) -> None:
    answer = served.client.request(method, path, headers={"x-proa-request": "r-1"}, content="{}")
    assert answer.headers["x-proa-release"] == str(served.release.ref)
    assert answer.headers["x-proa-request"] == "r-1"
    unnamed = served.client.request(method, path, content="{}")
    assert len(unnamed.headers["x-proa-request"]) == 26


def test_what_it_says_about_itself(served: Served) -> None:
    state = served.client.get("/release").json()
    assert state["release"] == str(served.release.ref)
    assert state["kind"] == "classic"
    assert state["runtime"] == served.release.manifest.runtime.fingerprint()
    assert state["selftest"] == {"cases": 8, "passed": True}
    assert state["compiled"] is True
    assert served.client.get("/healthz").status_code == 200
    assert served.client.get("/readyz").status_code == 200
    assert served.client.get("/v2/health/live").json() == {"live": True}
    assert served.client.get("/v2/health/ready").json() == {"ready": True}
    assert served.client.get("/v2/models/flight-delay/ready").json()["ready"] is True
    metadata = served.client.get("/v2/models/flight-delay").json()
    assert metadata["versions"] == ["1"]
    kinds = {item["name"]: item["datatype"] for item in metadata["inputs"]}
    assert kinds["hour"] == "INT64"
    assert kinds["carrier"] == "BYTES"
    assert [item["name"] for item in metadata["outputs"]] == ["probability", "label"]
    versioned = "/v2/models/flight-delay/versions/1/infer"
    assert served.client.post(versioned, json=infer_body(served.release.rows(1))).is_success


def metric(text: str, name: str) -> float:
    """One sample of the Prometheus text."""
    return next(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)
    )


def test_metrics_count_requests_rows_errors_and_time(served: Served) -> None:
    names = {
        "ok": 'proa_predictor_requests_total{status="200"}',
        "bad": 'proa_predictor_requests_total{status="400"}',
        "rows": "proa_predictor_rows_total",
        "code": 'proa_predictor_errors_total{code="invalid_json"}',
        "timed": "proa_predictor_latency_seconds_count",
    }
    served.client.post(INFER, json=infer_body(served.release.rows(1)))
    served.client.post(INFER, content="{")

    def read() -> dict[str, float]:
        text = served.client.get("/metrics").text
        return {key: metric(text, name) for key, name in names.items()}

    before = read()
    served.client.post(INFER, json=infer_body(served.release.rows(5)))
    served.client.post(INFER, content="{")
    after = read()
    assert {key: after[key] - before[key] for key in names} == {
        "ok": 1, "bad": 1, "rows": 5, "code": 1, "timed": 2,
    }  # fmt: skip
    text = served.client.get("/metrics").text
    assert 'proa_predictor_release_info{digest="sha256:' in text
    assert 'proa_predictor_latency_seconds_bucket{le="0.0005"}' in text
