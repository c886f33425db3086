"""Protected attributes as they are sent, and reasons that are kept after the answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.events.event import Event, prediction_event
from proa_predictor.attributes import attributes_of
from proa_predictor.kept_reasons import KeptReasons
from tests.processes import wait_until


def event(number: int, *, rows: int = 1, purpose: str = "user") -> Event:
    return prediction_event(
        request=f"request-{number}",
        model="m",
        release="m/1@sha256:" + "1" * 64,
        track=None,
        rows=rows,
        inputs={"x": [1.0] * rows},
        outputs={},
        latency_ms=1.0,
        purpose=purpose,
    )


def test_attributes_are_a_value_per_row() -> None:
    assert attributes_of(None, 2) is None
    assert attributes_of({"sex": ["f", None]}, 2) == {"sex": ["f", None]}
    assert attributes_of({"age": 41}, 1) == {"age": [41]}
    assert attributes_of('{"sex": ["f", "m"]}', 2) == {"sex": ["f", "m"]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no json", "an object of at most 16 names"),
        (["f"], "an object of at most 16 names"),
        ({str(k): ["f", "m"] for k in range(17)}, "an object of at most 16 names"),
        ({"sex": "f"}, "attributes.sex: expected a list of 2 values"),
        ({"sex": ["f"]}, "attributes.sex: expected a list of 2 values"),
        ({"sex": [{"secret": 1}, "m"]}, "attributes.sex: expected strings, numbers"),
        ({"": ["f", "m"]}, "names of 1 to 64 characters"),
    ],
)
def test_wrong_attributes_are_named_and_never_repeated(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        attributes_of(value, 2)
    assert "secret" not in raised.value.message
    assert raised.value.param == "attributes"


class Slow:
    """An explainer that waits for leave."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.go, self.fault = threading.Event(), fault

    def reasons(self, values: Any) -> Any:
        assert self.go.wait(10)
        if self.fault is not None:
            raise self.fault
        return [[{"feature": "x", "value": 1.0, "contribution": 0.5}]], "margin", 0.0


def test_reasons_come_after_the_answer_and_nothing_waits_for_room() -> None:
    slow, sent = Slow(), list[Event]()
    kept = KeptReasons(slow, 1.0, sent.append)
    taken = [kept.take(one, one["inputs"]) for one in map(event, range(100))]
    assert sent == []
    assert 64 <= sum(taken) <= 65
    slow.go.set()
    wait_until(lambda: len(sent) == sum(taken), 10, what="every event")
    kept.close()
    assert len(sent) == sum(taken)
    assert all(one["reasons"][0][0]["feature"] == "x" for one in sent)


def test_what_waits_at_the_end_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proa_predictor.kept_reasons._CLOSE_SECONDS", 0.05)
    slow, sent = Slow(), list[Event]()
    kept = KeptReasons(slow, 1.0, sent.append)
    taken = [one for one in map(event, range(10)) if kept.take(one, one["inputs"])]
    kept.close()
    assert {one["id"] for one in sent} == {one["id"] for one in taken}
    assert all(one["reasons"] is None for one in sent)
    slow.go.set()


def test_a_share_is_a_share_and_the_same_one_again() -> None:
    slow, sent = Slow(), list[Event]()
    slow.go.set()
    chosen = []
    for _ in range(2):
        kept = KeptReasons(slow, 0.02, sent.append)
        chosen.append([n for n in range(1000) if kept.take(event(n), {})])
        assert not kept.take(event(chosen[0][0], purpose="gate"), {})
        assert not kept.take(event(chosen[0][0], rows=65), {})
        kept.close()
    assert chosen[0] == chosen[1]
    assert 8 <= len(chosen[0]) <= 40


@pytest.mark.parametrize("fault", [InvalidInput("no explainer"), ZeroDivisionError("odd")])
def test_an_event_without_reasons_is_sent_all_the_same(fault: Exception) -> None:
    slow, sent = Slow(fault), list[Event]()
    kept = KeptReasons(slow, 1.0, sent.append)
    slow.go.set()
    assert kept.take(event(1), {})
    wait_until(lambda: sent, 10, what="the event")
    assert [one["reasons"] for one in sent] == [None]
    assert kept.take(event(2), {}) is isinstance(fault, ZeroDivisionError)
    kept.close()
