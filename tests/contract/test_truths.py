"""Labels find their answers in SQLite and in Postgres: whatever the order, by one rule."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.events.event import Event, label_event, prediction_event
from proa.http.ids import new_id
from proa.ledger.database import Database
from proa.quality.answered import entities_of, entity_word
from proa.quality.join import AnsweredCall, Calls, Label
from proa_monitor.state_tables import open_state
from proa_monitor.truth import Truths

MODEL, RELEASE = "flight-delay", "flight-delay/1@sha256:" + "1" * 64


@pytest.fixture(params=["sqlite", "postgres"])
def new_truths(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Truths]]:
    """`new_truths()`: tables of its own each time."""
    opened: list[Database] = []

    def make(**settings: Any) -> Truths:
        url = None if request.param == "sqlite" else request.getfixturevalue("postgres").create()
        opened.append(open_state(url, tmp_path / str(len(opened))))
        return Truths(opened[-1], **settings)

    yield make
    for database in opened:
        database.close()


def moment(day: int, minute: int = 0) -> str:
    return f"2013-04-{day:02}T{minute // 60:02}:{minute % 60:02}:00.000000Z"


def answered(
    request: str,
    time: str,
    said: list[float],
    *,
    entity: list[Any] | None = None,
    unit: str | None = None,
    **more: Any,
) -> Event:
    return prediction_event(
        request=request,
        model=MODEL,
        release=RELEASE,
        track="champion",
        rows=len(said),
        inputs={"carrier": ["UA" if one < 0.5 else "B6" for one in said]},
        outputs={"probability": said, "label": [one >= 0.5 for one in said]},
        latency_ms=1.0,
        entity=entity,
        unit=unit,
        time=time,
        **more,
    )


def came(value: Any, time: str, *, request: str | None = None, entity: Any = None) -> Event:
    return label_event(
        model=MODEL, kind="classic", value=value, request=request, entity=entity, time=time
    )


def history(pick: random.Random) -> list[Event]:
    """Few names, so that everything that can collide does."""
    events: list[Event] = []
    for _ in range(pick.randint(1, 25)):
        time, rows = moment(pick.randint(1, 3), pick.randint(0, 3)), pick.randint(1, 3)
        request, entity = f"r{pick.randint(0, 6)}", f"e{pick.randint(0, 3)}"
        if pick.random() < 0.5:
            entities: list[Any] | None = [f"e{pick.randint(0, 3)}" for _ in range(rows)]
            if pick.random() < 0.3:
                entities = None
            said = [pick.randint(0, 4) / 4 for _ in range(rows)]
            events.append(answered(request, time, said, entity=entities, unit=entity))
        else:
            by_request, by_entity = pick.random() < 0.5, pick.random() < 0.7
            events.append(
                came(
                    pick.random() < 0.5,
                    time,
                    request=request if by_request or not by_entity else None,
                    entity=entity if by_entity else None,
                )
            )
    return events


def expected(events: list[Event]) -> tuple[int, int, float]:
    """Labelled rows, those that came true, and the sum of what was said of them, by the rule."""
    calls = {event["id"]: event for event in events if event["type"] == "prediction"}
    index = Calls(
        AnsweredCall(
            event["id"],
            event["request"],
            event["time"],
            tuple(entities_of(event["rows"], event["entity"], event["unit"])),
        )
        for event in calls.values()
    )
    found, _ = index.truths(
        Label(
            event["id"],
            event["request"],
            None if event["entity"] is None else entity_word(event["entity"]),
            event["time"],
            event["value"],
        )
        for event in events
        if event["type"] == "label"
    )
    said = [calls[place.call]["outputs"]["probability"][place.row] for place in found]
    return len(found), sum(label.value for label in found.values()), sum(said)


def found_in(truths: Truths) -> tuple[int, int, float]:
    states = [day.whole for day in truths.cohorts(MODEL, RELEASE, "champion")]
    return (
        sum(state.labelled for state in states),
        int(sum(state.sum("true") for state in states)),
        sum(state.sum("said") for state in states),
    )


def test_the_tables_join_as_the_rule_says_in_any_order(
    new_truths: Callable[..., Truths],
) -> None:
    truths = new_truths()
    for seed in range(16):
        pick = random.Random(seed)
        events = history(pick)
        for event in events:  # one database for all: a model for each
            event["model"] = f"{MODEL}-{seed}"
        ordered = sorted(events, key=lambda one: one["id"])
        pick.shuffle(events)
        cuts = sorted(pick.sample(range(len(events) + 1), 2)) if len(events) > 1 else [0, 1]
        parts = [events[: cuts[0]], events[cuts[0] : cuts[1]], events[cuts[1] :]]
        for part in parts:
            truths.take(part)
            if pick.random() < 0.5:  # a look between two parts changes nothing
                truths.cohorts(f"{MODEL}-{seed}", RELEASE, "champion")
        again = truths.take(events)
        assert (again.rows, again.labels) == (0, 0)
        states = [day.whole for day in truths.cohorts(f"{MODEL}-{seed}", RELEASE, "champion")]
        labelled, true, said = expected(ordered)
        assert sum(state.labelled for state in states) == labelled, seed
        assert sum(state.sum("true") for state in states) == true, seed
        assert sum(state.sum("said") for state in states) == pytest.approx(said), seed


def test_a_label_may_come_first_and_a_later_one_corrects_it(
    new_truths: Callable[..., Truths],
) -> None:
    truths = new_truths()
    truths.take([came(True, moment(2), request="r")])
    truths.take([came(False, moment(3), request="r"), came("nonsense", moment(1), request="r")])
    assert truths.cohorts(MODEL, RELEASE, "champion") == []
    assert truths.take([answered("r", moment(1), [0.75])]).rows == 1
    assert found_in(truths) == (1, 0, 0.75)
    counts = truths.counts(MODEL)
    assert (counts.rows, counts.labels, counts.matched) == (1, 3, 3)


def test_a_call_that_turns_up_late_takes_its_label_back(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths()
    truths.take([answered("r1", moment(1), [0.25], entity=["UA1"])])
    truths.take([came(True, moment(3), entity="UA1")])
    assert found_in(truths) == (1, 1, 0.25)
    truths.take([answered("r2", moment(2), [1.0], entity=["UA1"])])
    assert found_in(truths) == (1, 1, 1.0)


def test_slices_groups_and_reasons_are_counted_by_day(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths(slices_of=lambda _: ("carrier", "nothing"))
    event = answered("r", moment(1), [0.25, 0.75, 0.5], entity=["a", "b", "c"])
    event["attributes"] = {"sex": ["f", "m", None]}
    reasons = [{"feature": "carrier", "contribution": 0.5}, {"feature": "x", "contribution": 1.0}]
    event["reasons"] = [reasons, "odd", []]
    truths.take([event, came(1, moment(2), entity="a"), came(0, moment(2), entity="b")])
    (day,) = truths.cohorts(MODEL, RELEASE, "champion")
    assert {name: state.rows for name, state in day.slices.items()} == {
        "carrier=UA": 1,
        "carrier=B6": 2,
    }
    assert {name: state.labelled for name, state in day.groups["sex"].items()} == {
        "f": 1,
        "m": 1,
        "(none)": 0,
    }
    assert day.whole.explained == 1
    assert day.whole.reasons == {"carrier": ((0.5,), (0.5,))}
    assert day.slices["carrier=UA"].metric("accuracy") == 0.0


def test_what_is_no_users_answer_is_not_kept(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths()
    taken = truths.take(
        [
            answered("r1", moment(1), [0.5], purpose="shadow"),
            answered("r2", moment(1), [0.5], purpose="gate"),
            answered("r3", moment(1), []),
        ]
    )
    assert (taken.rows, taken.labels) == (0, 0)


def test_old_rows_go_and_the_state_of_their_day_stays(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths(keep_days=10)
    old, new = answered("r1", moment(1), [0.25]), answered("r2", moment(20), [0.5])
    truths.take([old, new, came(True, moment(2), request="r1")])
    truths.take([came(True, moment(2), request="never")])
    before = truths.cohorts(MODEL, RELEASE, "champion")
    assert truths.forget(MODEL, moment(21)) == 1
    counts = truths.counts(MODEL)
    assert (counts.rows, counts.labels) == (1, 0)
    assert truths.cohorts(MODEL, RELEASE, "champion") == before
    assert truths.take([old]).too_late == 1  # a replay: it is in the state already
    truths.take([came(False, moment(22), request="r1")])
    assert truths.cohorts(MODEL, RELEASE, "champion") == before


def test_a_model_keeps_so_many_rows(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths(keep_rows=25)
    for day in range(1, 6):
        taken = truths.take([answered(new_id(), moment(day, k), [0.5]) for k in range(10)])
        assert (taken.rows, taken.too_many) == (10, 0)
        assert truths.counts(MODEL).rows <= 35
    truths.forget(MODEL, moment(6))
    assert truths.counts(MODEL).rows == 20
    assert [day.whole.rows for day in truths.cohorts(MODEL, RELEASE, "champion")] == [10] * 5


def test_a_model_never_has_more_than_there_is_room_for(
    new_truths: Callable[..., Truths],
) -> None:
    """One day without end: what is beyond the room is counted out, another model is not."""
    truths = new_truths(keep_rows=16)  # and a quarter more until something is forgotten
    calls = [answered(new_id(), moment(5, k), [0.5]) for k in range(30)]
    taken = [truths.take(calls[k : k + 5]) for k in range(0, 30, 5)]
    assert [(one.rows, one.too_many) for one in taken] == [(5, 0)] * 4 + [(0, 5)] * 2
    assert truths.take(calls[:5]).too_many == 5
    other = answered(new_id(), moment(5), [0.5]) | {"model": "other"}
    assert truths.take([other]).rows == 1
    assert truths.forget(MODEL, moment(6)) == 0  # the newest day stays
    truths.take([came(True, moment(6), request=calls[0]["request"])])
    assert found_in(truths) == (1, 1, 0.5)


def test_a_state_of_another_version_is_made_again(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths()
    truths.take([answered("r", moment(1), [0.5])])
    before = truths.cohorts(MODEL, RELEASE, "champion")
    with truths._database.writing("test") as session:
        session.ask("UPDATE monitor_truth_days SET version = 0, state = '{}'")
    assert truths.cohorts(MODEL, RELEASE, "champion") == before


def test_how_far_events_were_taken_is_kept(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths()
    assert truths.taken_through() == 0
    truths.mark_through(7)
    truths.mark_through(9)
    assert truths.taken_through() == 9


def test_odd_texts_are_kept_or_cut_never_refused(new_truths: Callable[..., Truths]) -> None:
    truths = new_truths(slices_of=lambda _: ("carrier",))
    event = answered("r", moment(1), [0.5], entity=["x" * 50_000])
    event["inputs"]["carrier"] = ["\0" * 100]
    truths.take([event, came("y" * 50_000, moment(2), entity="x" * 50_000)])
    (day,) = truths.cohorts(MODEL, RELEASE, "champion")
    assert (day.whole.labelled, day.whole.unfit) == (0, 1)
