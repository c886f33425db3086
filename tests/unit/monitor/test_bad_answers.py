"""Which events say that an answer was bad, and that none of them is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.events.event import Event, answer_event, feedback_event, label_event
from proa.http.clock import rfc3339
from proa.http.ids import new_id
from proa.ledger.worklist import Worklist
from proa_monitor.bad_answers import bad_answers, signal_of

RELEASE = "m/1@sha256:" + "0" * 64
FAR = "2099-01-01T00:00:00.000000Z"
START = datetime(2026, 11, 21, tzinfo=UTC)


def at(minute: float) -> str:
    return rfc3339(START + timedelta(minutes=minute))


def answer(request: str, minute: float = 0, **more: Any) -> Event:
    about: dict[str, Any] = {"release": RELEASE, "track": "champion", "latency_ms": 1.0, **more}
    found = answer_event(request=request, model="m", question="q", answer="a", **about)
    return {**found, "ingested": at(minute)}


def thumb(request: str, value: Any = -1, minute: float = 1, **more: Any) -> Event:
    found = feedback_event(model="m", kind="llm", request=request, value=value, **more)
    return {**found, "ingested": at(minute)}


class Store:
    """What the monitor's store does: events since a time of arrival."""

    def __init__(self, *events: Event) -> None:
        self.events = list(events)

    def read(self, since: str) -> Iterator[Event]:
        return (event for event in self.events if event["ingested"] >= since)


@pytest.mark.parametrize("value", [-1, 0, 0.0, False, "down", " Wrong ", "👎", "thumbs_down"])
def test_a_thumb_down_in_any_form(value: Any) -> None:
    assert signal_of(thumb("r", value)) is not None
    assert signal_of(label_event(model="m", kind="llm", request="r", value=value)) is not None


@pytest.mark.parametrize("value", [1, 5, True, "up", "", None, [], "the right answer"])
def test_no_other_word_is_bad(value: Any) -> None:
    assert signal_of(thumb("r", value)) is None


def test_judgements_and_guards_that_only_flag_speak_too() -> None:
    low = {**answer("r"), "type": "judgement", "good": False, "score": 2, "name": "right",
           "judge": "e"}  # fmt: skip
    told = signal_of(low)
    assert told is not None
    assert (told["kind"], told["value"], told["why"]) == ("judgement", 2, "right by e")
    assert signal_of({**low, "good": True}) is None
    assert signal_of({**low, "good": None}) is None
    hit = {"rule": "phone", "where": "output", "action": "flag"}
    leak = signal_of(answer("r", guard=[hit]))
    assert leak is not None
    assert (leak["kind"], leak["value"]) == ("guard", ["phone"])
    for other in ({"action": "block"}, {"where": "input"}):
        assert signal_of(answer("r", guard=[{**hit, **other}])) is None
    assert signal_of(answer("r", guard=[hit], purpose="gate")) is None


def test_an_answer_older_than_what_is_asked_for_is_found() -> None:
    old = new_id()
    now = rfc3339(datetime.now(UTC))
    store = Store({**answer(old), "ingested": now}, {**thumb(old, comment="no"), "ingested": FAR})
    found = bad_answers(store.read, FAR, limit=10)
    (item,) = found["items"]
    assert (item["request"], item["question"]) == (old, "q")
    assert item["signals"][0]["why"] == "no"


def test_a_signal_waits_a_day_for_its_answer() -> None:
    store = Store(thumb("r", minute=5), answer("other", minute=10))
    found = bad_answers(store.read, at(0), limit=10)
    assert (found["items"], found["through"], found["waiting"]) == ([], at(5), 1)
    store.events.append(answer("r", minute=11))
    assert len(bad_answers(store.read, found["through"], limit=10)["items"]) == 1
    late = Store(thumb("r", minute=5), answer("other", minute=5 + 2 * 24 * 60))
    assert bad_answers(late.read, at(0), limit=10)["through"] == at(5 + 2 * 24 * 60)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    limit=st.integers(1, 4),
    kills=st.lists(st.booleans(), min_size=10, max_size=30),
)
def test_every_bad_answer_becomes_one_item_however_it_is_read(
    seed: int, limit: int, kills: list[bool]
) -> None:
    """Events come in pieces, several in one moment; the reader may be killed before it stores."""
    pick = random.Random(seed)
    names = [f"r{number}" for number in range(8)]
    coming = [answer(name, pick.randrange(6)) for name in names]
    coming += [
        thumb(pick.choice(names), pick.choice([1, -1]), pick.randrange(12)) for _ in range(12)
    ]
    coming.sort(key=lambda event: event["ingested"])
    bad = {
        (event["request"], event["id"])
        for event in coming
        if event["type"] == "feedback" and event["value"] < 0
    }
    store, through = Store(), at(0)
    taken: set[tuple[str, str]] = set()
    for dies in (*kills, *[False] * 20):
        store.events += coming[:3]
        del coming[:3]
        found = bad_answers(store.read, through, limit=limit)
        if dies:
            continue
        for item in found["items"]:
            taken |= {(item["request"], signal["event"]) for signal in item["signals"]}
        assert found["through"] >= through
        through = found["through"]
    assert taken == bad


def test_what_is_truncated_comes_at_the_next_look(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(5)]
    later = [thumb(name, minute=minute) for minute, name in enumerate(names, start=1)]
    store = Store(*(answer(name, 0) for name in names), *later)
    worklist = Worklist(tmp_path / "w.db")
    found: dict[str, Any] = {}
    through = at(0)
    for new in (2, 2, 1):
        found = bad_answers(store.read, through, limit=2)
        through = found["through"]
        assert worklist.take("m", found["items"], through=through, now=at(9)) == new
    assert not found["truncated"]


def test_what_came_in_one_moment_is_never_cut() -> None:
    names = [f"r{number}" for number in range(5)]
    store = Store(*(answer(name, 0) for name in names), *(thumb(name, minute=1) for name in names))
    found = bad_answers(store.read, at(0), limit=2)
    assert (len(found["items"]), found["truncated"]) == (5, False)
