"""The checker of events: what is taken, and what the refusal names."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.events.check import check_event, event_time
from proa.events.event import (
    EVENT_BYTES,
    answer_event,
    feedback_event,
    judgement_event,
    label_event,
    prediction_event,
)

RELEASE = "flight-delay/7@sha256:" + "4f" * 32
HELP = "python-help/2@sha256:" + "0a" * 32
LATER = {"attributes", "embeddings", "index", "groundedness", "tokens_cached"}
"""Keys that came after the first version 1: senders may leave them out."""


def prediction(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "request": "01J00000000000000000000000",
        "model": "flight-delay",
        "release": RELEASE,
        "track": "champion",
        "rows": 2,
        "inputs": {"hour": [8, None], "carrier": ["UA", "DL"]},
        "outputs": {"probability": [0.25, 0.5], "label": [False, True]},
        "latency_ms": 1.5,
    }
    return _as_sent(prediction_event(**(arguments | changes)))


def answer(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "request": "01J00000000000000000000000",
        "model": "python-help",
        "release": HELP,
        "track": None,
        "question": "What is a slice?",
        "answer": "A slice object …",
        "latency_ms": 800,
        "retrieved": [{"id": "slices", "title": "Slicings", "score": 0.031}],
    }
    return _as_sent(answer_event(**(arguments | changes)))


def judgement(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "event_id": "01J00000000000000000000000",
        "name": "helpful",
        "score": 4,
        "good": True,
        "judge": "engine",
        "digest": "sha256:d",
        "weight": 12.5,
        "tokens": 300,
    }
    return _as_sent(judgement_event(answer(), **(arguments | changes)))


def _as_sent(event: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(event))
    return value


@pytest.mark.parametrize(
    "event",
    [
        prediction(),
        prediction(rows=0, inputs={}, outputs={}, status=500),
        prediction(attributes={"sex": ["f", None], "age": [41, 7.5]}),
        answer(),
        answer(
            embeddings={"embedder": "sha256:e", "name": "m", "question": "AAA=", "answer": None}
        ),
        answer(
            index={"digest": "sha256:i", "documents": 3, "newest": None},
            groundedness=1,
            tokens_cached=0,
        ),
        {key: value for key, value in answer().items() if key not in LATER},
        judgement(),
        judgement(score=None, good=None, why="not JSON", topic=3),
        answer(guard=[{"rule": "pii", "where": "question", "action": "redact"}], ttft_ms=20.5),
        _as_sent(label_event(model="flight-delay", kind="classic", value=True, entity="UA-15")),
        _as_sent(feedback_event(model="python-help", kind="llm", request="r", value=-1)),
    ],
)
def test_what_the_builders_make_is_an_event(event: dict[str, Any]) -> None:
    assert check_event(event) is event


@pytest.mark.parametrize(
    ("event", "key", "expected"),
    [
        (prediction() | {"schema_version": 2}, "schema_version", "1"),
        (prediction() | {"schema_version": True}, "schema_version", "1"),
        (
            prediction() | {"type": "trace"},
            "type",
            "prediction, answer, judgement, label, feedback",
        ),
        (prediction() | {"type": ["prediction"]}, "type", "prediction"),
        (prediction() | {"id": "42"}, "id", "ULID"),
        (prediction() | {"id": None}, "id", "a string"),
        (prediction() | {"model": "Flight Delay"}, "model", "lower-case"),
        (prediction() | {"kind": "llm"}, "kind", "classic for a prediction"),
        (prediction() | {"release": "flight-delay/7"}, "release", "sha256"),
        (prediction() | {"release": HELP}, "release", "a release of flight-delay"),
        (prediction() | {"release": None}, "release", "a value"),
        (prediction() | {"track": "canary"}, "track", "champion, challenger or null"),
        (prediction() | {"purpose": "fun"}, "purpose", "user, gate, judge, agent or shadow"),
        (prediction() | {"team": 7}, "team", "a string or null"),
        (prediction() | {"unit": "u" * 257}, "unit", "256"),
        (prediction() | {"time": "yesterday"}, "time", "RFC 3339"),
        (prediction() | {"time": "2013-04-01T10:00:00"}, "time", "time zone"),
        (prediction() | {"status": 99}, "status", "100 to 599"),
        (prediction() | {"status": True}, "status", "a whole number"),
        (prediction() | {"latency_ms": "1"}, "latency_ms", "a number"),
        (prediction() | {"latency_ms": -1}, "latency_ms", "from 0"),
        (prediction() | {"rows": 3}, "inputs.hour", "an array of 3 values"),
        (prediction() | {"rows": -1}, "rows", "from 0"),
        (prediction() | {"inputs": [1]}, "inputs", "an object"),
        (prediction() | {"inputs": {"hour": [[1], 2]}}, "inputs.hour", "strings, numbers"),
        (prediction() | {"inputs": {"hour": 8}}, "inputs.hour", "an array of 2"),
        (prediction() | {"outputs": {"probability": [0.5]}}, "outputs.probability", "array of 2"),
        (prediction() | {"entity": ["UA-15"]}, "entity", "array of 2"),
        (prediction() | {"extra": 1}, "extra", "not a key"),
        (prediction() | {"attributes": ["f"]}, "attributes", "an object or null"),
        (prediction() | {"attributes": {"sex": ["f"]}}, "attributes.sex", "array of 2"),
        (prediction() | {"attributes": {"sex": [{}, "f"]}}, "attributes.sex", "strings, numbers"),
        (prediction() | {"attributes": {"": ["f", "m"]}}, "attributes", "1 to 64"),
        (
            prediction() | {"attributes": {str(k): [1, 2] for k in range(17)}},
            "attributes",
            "at most 16",
        ),
        (answer() | {"refused": None}, "refused", "true or false"),
        (answer() | {"question": None}, "question", "a string"),
        (answer() | {"tokens_in": -5}, "tokens_in", "from 0"),
        (answer() | {"tokens_in": 1.5}, "tokens_in", "whole number"),
        (answer() | {"retrieved": ["slices"]}, "retrieved", "array of objects"),
        (answer() | {"embeddings": "AAA="}, "embeddings", "an object or null"),
        (answer() | {"embeddings": {"question": "AAA="}}, "embeddings", "embedder"),
        (answer() | {"embeddings": {"embedder": "e", "more": 1}}, "embeddings", "embedder"),
        (
            answer() | {"embeddings": {"embedder": "e", "answer": "A" * 16_385}},
            "embeddings.answer",
            "at most 16,384",
        ),
        (answer() | {"index": {"newest": []}}, "index", "newest"),
        (answer() | {"groundedness": 1.5}, "groundedness", "0 to 1"),
        (answer() | {"tokens_cached": -1}, "tokens_cached", "from 0"),
        (answer() | {"attributes": {}}, "attributes", "not a key"),
        (judgement() | {"kind": "classic"}, "kind", "llm for a judgement"),
        (judgement() | {"release": None}, "release", "one answer"),
        (judgement() | {"score": 6}, "score", "1 to 5"),
        (judgement() | {"score": None}, "good", "null without"),
        (judgement() | {"weight": -1}, "weight", "from 0"),
        (judgement() | {"why": "w" * 257}, "why", "256"),
    ],
)
def test_a_wrong_value_is_refused_by_name(event: dict[str, Any], key: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_event(event)
    assert refused.value.param == key
    assert expected in refused.value.message


@pytest.mark.parametrize("event", [prediction(), answer(), judgement()])
def test_a_missing_key_is_named(event: dict[str, Any]) -> None:
    for key in event.keys() - LATER:
        with pytest.raises(InvalidInput) as refused:
            check_event({k: v for k, v in event.items() if k != key})
        assert refused.value.param == key
        assert "missing" in refused.value.message


def test_a_label_needs_something_to_be_the_truth_of() -> None:
    with pytest.raises(InvalidInput, match="request or entity"):
        check_event(label_event(model="flight-delay", kind="classic", value=True))


def test_size_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="1,048,577 bytes"):
        check_event(prediction(), size=EVENT_BYTES + 1)


@pytest.mark.parametrize("value", [None, [], "x", 1, [prediction()]])
def test_only_an_object_is_an_event(value: object) -> None:
    with pytest.raises(InvalidInput, match="must be an object"):
        check_event(value)


def test_time_zones_are_converted() -> None:
    event = prediction(time="2013-04-01T10:00:00+02:00")
    assert event_time(check_event(event)).isoformat() == "2013-04-01T08:00:00+00:00"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted(prediction() | answer())), value=_JSON)
def test_any_json_is_taken_or_refused_and_nothing_else_happens(key: str, value: Any) -> None:
    for event in (prediction(), answer()):
        with contextlib.suppress(InvalidInput):
            check_event(event | {key: value})
