"""What a judge and people said of an answer meets in SQLite and Postgres, whatever the order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.events.event import Event, feedback_event, judgement_event, label_event
from proa_monitor.opinions import Opinions, judge_agreement
from proa_monitor.state_tables import open_state
from tests.unit.profile.questions import RELEASE, answer

MODEL = "python-help"


@pytest.fixture(params=["sqlite", "postgres"])
def opinions(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opinions]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").create()
    database = open_state(url, tmp_path)
    yield Opinions(database)
    database.close()


def judged(number: int, good: bool | None, **more: Any) -> Event:
    return judgement_event(
        answer(number, **more), event_id=f"{number:026d}", name="helpful",
        score=None if good is None else 5 if good else 1, good=good, judge="j", digest="d",
        weight=1.0, tokens=1,
    )  # fmt: skip


def said(number: int, value: Any, *, label: bool = True, minute: int = 0) -> Event:
    given: dict[str, Any] = {
        "model": MODEL,
        "kind": "llm",
        "request": f"{number:026d}",
        "value": value,
        "time": f"2013-05-01T00:{minute:02}:00.000000Z",
    }
    return label_event(**given) if label else feedback_event(**given)


def test_both_meet_in_any_order_and_count_once(opinions: Opinions) -> None:
    """40 answers: the judge is right about 30 of them, 20 good and 10 bad ones."""
    truth = [number < 25 for number in range(40)]
    judge = [good if number % 4 else not good for number, good in enumerate(truth)]
    events = [judged(k, good) for k, good in enumerate(judge)]
    events += [said(k, good) for k, good in enumerate(truth)]
    events += [judged(50, True), said(51, True), judged(52, None), said(52, True)]
    random.Random(0).shuffle(events)
    for start in range(0, len(events), 7):
        opinions.take(events[start : start + 7])
    opinions.take(events)
    found = opinions.agreement(MODEL)
    assert (found.scored, found.accuracy) == (40, 0.75)
    assert found.are_good == 25 / 40
    assert opinions.agreement(MODEL, source="feedback").scored == 0
    assert opinions.agreement("other").scored == 0
    assert opinions.agreement(MODEL, release=RELEASE).scored == 40
    assert opinions.agreement(MODEL, release="python-help/9@sha256:" + "0" * 64).scored == 0


def test_the_last_word_of_a_person_stands(opinions: Opinions) -> None:
    words = [said(1, "down", label=False, minute=1), said(1, "up", label=False, minute=2)]
    opinions.take([judged(1, True), *reversed(words)])
    found = opinions.agreement(MODEL, source="feedback")
    assert (found.scored, found.accuracy) == (1, 1.0)
    opinions.forget(MODEL, "2013-05-01T00:02:00.000000Z")
    assert opinions.agreement(MODEL, source="feedback").scored == 0


def test_agreement_is_proven_or_disproven_or_open(opinions: Opinions) -> None:
    opinions.take([event for k in range(29) for event in (judged(k, True), said(k, True))])
    few = judge_agreement(opinions.agreement(MODEL), "label")
    assert (few.holds, few.evidence["n"]) == (None, 29)
    opinions.take([event for k in range(29, 80) for event in (judged(k, False), said(k, False))])
    good = judge_agreement(opinions.agreement(MODEL), "label")
    assert (good.holds, good.effect) == (False, 1.0)
    assert "80 answers, Cohen's kappa 1.00" in good.message
    opinions.take([judged(k, k % 2 == 0, time="2013-06-01T00:00:00.000000Z") for k in range(80)])
    chance = judge_agreement(opinions.agreement(MODEL), "label")
    assert chance.holds is True
    assert chance.limit == 0.4
