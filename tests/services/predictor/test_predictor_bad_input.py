"""Bad input: a 4xx that names what was wrong, where, and what was expected; never a 500."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.classic_release import infer_body
from tests.services.predictor.conftest import Served

INFER = "/v2/models/flight-delay/infer"


def error(served: Served, path: str, content: bytes, status: int = 400) -> dict[str, Any]:
    answer = served.client.post(path, content=content, headers={"x-proa-request": "r-9"})
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()["error"]
    assert body["request"] == "r-9"
    return body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"{", "not valid JSON"),
        (b"[1]", "is a JSON array: expected an object"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"rows": [{"wind": NaN}]}', "not valid JSON"),
        (b'{"rows": [{"wind": Infinity}]}', "not valid JSON"),
        (b'{"rows": [{"wind": 1e999}]}', "not valid JSON"),
    ],
)
def test_no_json(served: Served, content: bytes, words: str) -> None:
    found = error(served, "/v1/predict", content)
    assert found["code"] == "invalid_json"
    assert words in found["message"]


Change = Callable[[dict[str, Any]], Any]
CASES: dict[str, tuple[Change, str, list[str]]] = {
    "text for a number": (
        lambda row: row.update(wind="x"),
        "wrong_type",
        ["'wind', row 1", "'x'", "a finite number"],
    ),
    "number for a text": (
        lambda row: row.update(carrier=1),
        "wrong_type",
        ["'carrier', row 1", "a text"],
    ),
    "half an hour": (
        lambda row: row.update(hour=1.5),
        "wrong_type",
        ["'hour', row 1", "1.5", "a whole number"],
    ),
    "a number for a boolean": (
        lambda row: row.update(weekend=1),
        "wrong_type",
        ["'weekend', row 1", "true or false"],
    ),
    "null where none is allowed": (
        lambda row: row.update(hour=None),
        "null_value",
        ["'hour', row 1: null", "not nullable"],
    ),
    "missing column": (
        lambda row: row.pop("wind"),
        "missing_column",
        ["rows[1]: missing column 'wind'", "hour (long)"],
    ),
    "unknown column": (
        lambda row: row.update(moon=1),
        "unknown_column",
        ["rows[1]: unknown column 'moon'", "wind (double)"],
    ),
    "a huge number": (lambda row: row.update(hour=10**30), "wrong_type", ["'hour', row 1"]),
    "a list": (lambda row: row.update(wind=[1]), "wrong_type", ["'wind', row 1", "list"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_row_is_named(served: Served, name: str) -> None:
    change, code, words = CASES[name]
    rows = served.release.rows(2)
    change(rows[1])
    found = error(served, "/v1/predict", json.dumps({"rows": rows}).encode())
    assert found["code"] == code
    assert found["type"] == "invalid_input"
    for word in words:
        assert word in found["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "either rows or entities"),
        ({"rows": [], "entities": []}, "either rows or entities"),
        ({"rows": []}, "0 rows: expected 1 to 2,000"),
        ({"rows": {}}, "expected a list"),
        ({"rows": [1]}, "rows[0] is int: expected an object"),
        ({"rows": [{}] * 2001}, "2,001 rows: expected 1 to 2,000"),
        ({"rows": [{}], "explain": "yes"}, "explain = 'yes': expected true or false"),
        ({"lines": []}, "'lines': expected rows or entities"),
        ({"entities": [{"flight": "UA1"}]}, "no key: this release has no features by entity"),
    ],
)
def test_a_wrong_plain_request(served: Served, body: dict[str, Any], words: str) -> None:
    assert words in error(served, "/v1/predict", json.dumps(body).encode())["message"]


def tensor(**changes: Any) -> Change:
    def change(body: dict[str, Any]) -> None:
        wind = next(item for item in body["inputs"] if item["name"] == "wind")
        wind.update(changes)

    return change


INFER_CASES: dict[str, tuple[Change, list[str]]] = {
    "no inputs": (lambda body: body.pop("inputs"), ["inputs = null", "list of tensors"]),
    "empty inputs": (lambda body: body.update(inputs=[]), ["inputs = []"]),
    "a tensor that is none": (lambda body: body["inputs"].append(3), ["inputs[7] = 3"]),
    "no name": (lambda body: body["inputs"][0].pop("name"), ["inputs[0].name = null"]),
    "twice": (lambda body: body["inputs"].append(body["inputs"][0]), ["'carrier' twice"]),
    "wrong datatype": (tensor(datatype="BYTES"), ["'wind': datatype = 'BYTES'", "FP64", "double"]),
    "unknown datatype": (tensor(datatype="FP8"), ["'wind': datatype = 'FP8'"]),
    "wrong shape": (tensor(shape=[2, 2]), ["'wind': shape = [2, 2]", "[n] or [n, 1]"]),
    "shape of another size": (tensor(shape=[3]), ["'wind': 2 values, but shape [3] says 3"]),
    "shape of text": (tensor(shape="2"), ["shape = '2'"]),
    "negative shape": (tensor(shape=[-2]), ["shape [-2]"]),
    "data is no list": (tensor(data=1), ["'wind': data = 1"]),
    "too few rows": (tensor(shape=[1], data=[1.0]), ["differ in length", "'wind': 1"]),
    "another column": (tensor(name="moon"), ["missing column 'wind'"]),
    "one more column": (
        lambda body: body["inputs"].append(
            {"name": "moon", "datatype": "FP64", "shape": [2], "data": [1, 2]}
        ),
        ["unknown column 'moon'"],
    ),
    "unknown output": (lambda body: body.update(outputs=[{"name": "x"}]), ["outputs: name = 'x'"]),
    "id is no text": (lambda body: body.update(id=3), ["id = 3"]),
    "explain is no boolean": (lambda body: body.update(parameters={"explain": 1}), ["explain = 1"]),
}


@pytest.mark.parametrize("name", INFER_CASES)
def test_a_wrong_tensor_is_named(served: Served, name: str) -> None:
    change, words = INFER_CASES[name]
    body = json.loads(json.dumps(infer_body(served.release.rows(2))))
    change(body)
    found = error(served, INFER, json.dumps(body).encode())
    for word in words:
        assert word in found["message"]


def test_no_rows_and_too_many_rows(served: Served) -> None:
    for count, shown in ((0, "0 rows"), (2001, "2,001 rows")):
        body = infer_body(served.release.rows(1))
        for item in body["inputs"]:
            item["data"], item["shape"] = item["data"] * count, [count]
        assert shown in error(served, INFER, json.dumps(body).encode())["message"]


def test_another_model_and_another_path_are_not_found(served: Served) -> None:
    found = error(served, "/v2/models/other/infer", b"{}", 404)
    assert found["code"] == "unknown_model"
    assert "'flight-delay', not 'other'" in found["message"]
    assert served.client.get("/v2/models/other").json()["error"]["code"] == "unknown_model"
    assert error(served, "/v3/models", b"{}", 404)["code"] == "unknown_path"
    assert error(served, "/v2/models/flight-delay/versions/2/infer", b"{}", 404)["code"] == (
        "unknown_version"
    )
    wrong = served.client.get(INFER)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "wrong_method")


def test_a_body_without_end_is_refused_before_it_is_read(served: Served) -> None:
    answer = served.client.post("/v1/predict", content=b" " * (9 << 20))
    assert answer.status_code == 413
    assert "at most 8,388,608" in answer.json()["error"]["message"]


def test_an_event_time_that_means_nothing(served: Served) -> None:
    """The header is read when features are: without entities it is only put into the event."""
    body = infer_body(served.release.rows(1))
    answer = served.client.post(INFER, json=body, headers={"x-proa-event-time": "yesterday"})
    assert answer.status_code == 400
    assert "x-proa-event-time = 'yesterday': expected RFC 3339" in answer.json()["error"]["message"]
