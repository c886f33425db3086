"""The onlooker of a replay: what it asks, when it holds the clock, when it ends, what it reckons.

Faked: the fleet, which answers from a script; the real one tells the story in tests/story.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from proa.fleet import Fleet, Prediction
from story import spring
from story.airline import Answered, Hour
from story.scale import Spring

OLD, NEW = (f"flight-delay/{number}@sha256:{number:064x}" for number in (1, 2))


@dataclass
class Scripted:
    """A fleet whose retraining goes one state further each time it is asked for."""

    states: list[str]
    champion: str = OLD
    sizes: list[tuple[str, int]] = field(default_factory=list)
    labelled: list[str] = field(default_factory=list)
    asked: int = 0

    def retraining(self, _: str) -> dict[str, Any]:
        self.asked += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "done":
            self.champion = NEW
        verdict = "inconclusive" if state == "judged" else None
        request = {"state": state, "verdict": verdict, "story": [f"it is {state}"]}
        return {"requests": [request] if state else []}

    def status(self, _: str) -> dict[str, Any]:
        return {"champion": self.champion}

    def predict(
        self, _: str, *, entities: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
    ) -> Prediction:
        self.sizes.append((headers["x-proa-event-time"][:10], len(entities)))
        return Prediction(self.champion, "r", [{"probability": 0.25} for _ in entities])

    def label(self, _: str, labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        self.labelled += [str(label["entity"]) for label in labels]
        return {"rejected": []}


def hours(days: int) -> Iterator[Hour]:
    """Four flights a day, all of them in one hour, each reported the day after; one was late."""
    for day in range(1, days + 1):
        due = [f"2013-04-{day:02}-{number}" for number in range(4)]
        labels = [
            {"entity": f"2013-04-{day - 1:02}-{number}", "value": number == 0, "time": ""}
            for number in range(4 if day > 1 else 0)
        ]
        yield Hour(f"2013-04-{day:02}T10:00:00Z", f"2013-04-{day:02}", due, labels)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spring, "_POLL_SECONDS", 0.0)


def lived(states: list[str], days: int = 20, **scale: Any) -> tuple[Scripted, spring.Replay]:
    fleet = Scripted(states)
    said: list[str] = []
    one = spring.Replay(
        cast(Fleet, fleet), cast(Fleet, fleet), "flight-delay",
        Spring(flights_a_call=4, **scale), said.append,
    )  # fmt: skip
    one.run(hours(days), OLD)
    return fleet, one


def test_the_clock_stands_while_a_run_is_under_way_and_a_canary_gets_single_calls() -> None:
    states = ["", "asked", "running", "running", "running", "promoting", "promoting", "done"]
    fleet, one = lived(states, days_after=3)
    by_day: dict[str, list[int]] = {}
    for day, size in fleet.sizes:
        by_day.setdefault(day, []).append(size)
    # day 1 nothing, 2 asked, 3 running until it promotes, 4 promotes on, 5 done
    assert by_day["2013-04-03"] == [4]
    assert by_day["2013-04-04"] == by_day["2013-04-05"] == [1, 1, 1, 1]
    assert by_day["2013-04-06"] == [4]
    assert one.promoted_on == "2013-04-05"
    assert one.days[-1] == "2013-04-08"
    assert one.told == {"it is asked", "it is running", "it is promoting", "it is done"}


def test_after_an_exam_that_says_nothing_the_clock_goes_on() -> None:
    fleet, one = lived(["asked", "running", "judged"], days=6)
    assert one.days == [f"2013-04-{day:02}" for day in range(1, 7)]
    assert one.promoted_on is None
    assert fleet.asked == 6


def test_every_outcome_is_reported_once_and_counted_for_who_answered() -> None:
    fleet, one = lived(["", "", "done"], days=6, days_after=20)
    assert fleet.labelled == [f"2013-04-{day:02}-{n}" for day in range(1, 6) for n in range(4)]
    before, after = one.answered.calibration(OLD), one.answered.calibration(NEW)
    assert (before["rows"], after["rows"]) == (12, 8)
    assert before == {"rows": 12, "said": 0.25, "true": 0.25, "gap": 0.0}
    assert [row[:3] for row in one.answered.by_day()][2:4] == [
        ("2013-04-03", OLD, 4),
        ("2013-04-04", NEW, 4),
    ]


def test_without_outcomes_there_is_no_calibration() -> None:
    answered = Answered(said={"f": (OLD, 0.5)})
    assert answered.calibration(OLD) == {"rows": 0, "said": None, "true": None, "gap": None}
