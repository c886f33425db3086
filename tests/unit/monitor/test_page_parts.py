"""What the page is put together from: the story, the bill, decisions, drift in a few words.

The ledger is a real one in SQLite files; windows are made by hand.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proa.errors import Unavailable
from proa.findings.finding import Finding
from proa.findings.observation import Observation
from proa.http.clock import ReplayClock, rfc3339
from proa.http.ids import new_id
from proa.ledger.call import Call
from proa.ledger.open import Ledger, journal_file, open_ledger
from proa.profile.reference import build, parse_profile
from proa_monitor.bill import Bills
from proa_monitor.decisions import Decisions
from proa_monitor.qualities import Qualities, newest_point
from proa_monitor.references import Reference
from proa_monitor.story import marks_of, story_of
from proa_monitor.views import served_in
from proa_monitor.window_view import look_at
from proa_monitor.windows import Key, Track, Window
from tests import journal_line

ONE, TWO = f"m/1@sha256:{'a' * 64}", f"m/2@sha256:{'b' * 64}"
NOW = datetime(2013, 5, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    made = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield made
    made.close()


def track(release: str, first: str, *days: str, place: str = "champion") -> Track:
    """A release that is not watched and answered on these days."""
    made = Track(Key("m", release, place), "classic", Reference(None, "not watched", known=True))
    made.total.first, made.total.last = f"{first}T05:00:00Z", f"{(days or (first,))[-1]}T05:00:00Z"
    made.windows = {day: Window() for day in days or (first,)}
    return made


def finding(**more: Any) -> Finding:
    values: dict[str, Any] = {
        "id": "0" * 16, "model": "m", "kind": "classic", "release": ONE, "track": "champion",
        "type": "feature_drift", "subject": "wind", "window": "2013-04-03",
        "since": "2013-04-02T00:00:00Z", "seen": "2013-04-04T00:00:00Z", "until": None,
        "windows": 2, "severity": "warning", "effect": 0.2, "limit": 0.1, "unit": "psi",
        "message": "wind moved", "evidence": {},
    }  # fmt: skip
    return Finding(**values | more)


def test_a_story_is_in_the_order_of_time_the_newest_first(ledger: Ledger) -> None:
    asked = {"time": "2013-04-05T00:00:00Z", "action": "retraining_asked", "release": None}
    line = journal_line.write(ledger.journal, "1", **asked, reason="calibration is off")
    promoted = {"time": "2013-04-06T00:00:00Z", "action": "promoted", "release": TWO}
    other = journal_line.write(ledger.journal, "2", **promoted)
    gone = finding(id="1" * 16, type="null_burst", until="2013-04-05T12:00:00Z", windows=1)
    tracks = [track(ONE, "2013-04-01"), track(TWO, "2013-04-06")]
    story = story_of([finding(), gone], tracks, [line, other])
    assert [item["title"] for item in story] == [
        "m/2 first met as champion",
        "m/2 promoted",
        "null burst: wind: gone",
        "retraining asked",
        "feature drift: wind",
        "null burst: wind",
        "m/1 first met as champion",
    ]
    assert story[2]["text"] == "after 1 window"
    assert (story[3]["text"], story[3]["who"]) == ("calibration is off", "ann")
    assert story[4]["link"] == {"window": "2013-04-03", "feature": "wind"}


def test_marks_are_where_a_champion_first_answered_and_say_who_promoted_it(ledger: Ledger) -> None:
    line = journal_line.write(ledger.journal, "1", release=TWO, reason="won by 0.01")
    tracks = [
        track(TWO, "2013-04-04", place="challenger"),
        track(TWO, "2013-04-06", "2013-04-06", "2013-04-07"),
        track(ONE, "2013-04-01", "2013-04-01", "2013-04-06"),
    ]
    marks = marks_of(tracks, [line])
    assert [(mark["short"], mark["window"], mark["what"]) for mark in marks] == [
        ("m/1", "2013-04-01", "first seen"),
        ("m/2", "2013-04-06", "promoted"),
    ]
    assert (marks[1]["who"], marks[1]["reason"]) == ("ann", "won by 0.01")


def test_a_window_is_of_the_champion_that_answered_most_in_it() -> None:
    tracks = [
        track(TWO, "2013-04-04", "2013-04-04", "2013-04-06", place="challenger"),
        track(TWO, "2013-04-06", "2013-04-06", "2013-04-07"),
        track(ONE, "2013-04-01", "2013-04-01", "2013-04-06"),
    ]
    for number, one in enumerate(tracks):
        one.windows["2013-04-06"].traffic.calls = (900, 40, 60)[number]
    assert served_in(tracks, "2013-04-06") is tracks[2]
    assert served_in(tracks, "2013-04-04") is tracks[0]  # nobody else answered
    assert served_in(tracks, "2013-04-09") is None


def test_decisions_are_those_of_the_model_and_their_absence_is_said(
    ledger: Ledger, tmp_path: Path
) -> None:
    file = journal_file(f"sqlite:///{tmp_path}/ledger.db")
    assert file == tmp_path / "journal.db"
    assert journal_file("postgresql://x/y") is None
    decisions = Decisions(ledger, file)
    lines, notes = decisions.of("m")
    assert lines == []
    assert "reaches no journal" in notes[0]
    assert not file.exists()  # the controller makes it, nobody else
    journal_line.write(ledger.journal, "1", release=ONE)
    journal_line.write(ledger.journal, "2", model="other")
    journal_line.write(ledger.journal, "3", action="slot_freed")
    lines, notes = decisions.of("m")
    assert [line.key for line in lines] == ["1"]
    assert notes == []
    ledger.journal.close()
    file.write_bytes(b"no database at all" * 100)
    broken = Decisions(open_ledger(f"sqlite:///{tmp_path}/ledger.db"), file).of("m")
    assert broken[0] == []
    assert "not known now" in broken[1][0]


def test_a_bill_is_of_thirty_days_and_kept_for_a_minute(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [
        Call(
            request=new_id(), door="user", started=rfc3339(NOW - timedelta(days=age)),
            latency_ms=1.0, key="k", team="t", feature="f", purpose="user", kind="classic",
            model="m", release=ONE, track="champion", status=200, cost_micro=20,
        )
        for age in (1, 29, 31)
    ]  # fmt: skip
    ledger.calls.insert(calls)
    bills = Bills(ledger, "EUR", ReplayClock(NOW))
    bill = asyncio.run(bills.newest())
    assert (bill.models["m"].cost_micro, bill.models["m"].calls) == (40, 2)

    def away(**_: Any) -> Any:
        raise Unavailable("the ledger is away")

    monkeypatch.setattr(ledger.calls, "costs", away)
    assert asyncio.run(bills.newest()).note is None  # it is still the one of a moment ago
    told = asyncio.run(Bills(ledger, "EUR", ReplayClock(NOW)).newest())
    assert told.models == {}
    assert "the ledger is away" in (told.note or "")


def test_quality_prefers_what_was_measured() -> None:
    def point(window: str, source: str, value: float | None) -> dict[str, Any]:
        return {"window": window, "source": source, "value": value}

    points = [point("1", "measured", 0.7), point("2", "measured", None), point("3", "estimated", 1)]
    metric = {"metric": "auc", "unit": "ratio", "points": points}
    view = {"quality": {"metrics": [metric]}}
    newest = newest_point(view)
    assert newest is not None
    assert (newest["window"], newest["source"]) == ("1", "measured")
    assert newest_point({"quality": {"metrics": [metric | {"points": points[2:]}]}}) is not None
    assert newest_point({"quality": None}) is None
    found = asyncio.run(Qualities(None).of({"m": "2013-05-01T00:00:00Z"}))
    assert found["m"]["quality"] is None


def seen(subject: str, holds: bool | None, effect: float | None, **more: Any) -> Observation:
    return Observation(
        more.pop("kind", "feature_drift"), subject, holds, effect, 0.1, "psi", f"{subject}!", **more
    )


def test_drift_in_a_few_words_is_what_the_judges_saw() -> None:
    columns: dict[str, Any] = {
        "wind": [float(k % 50) for k in range(500)],
        "hour": [k % 7 for k in range(500)],
    }
    profile = parse_profile(_bytes(build(columns, {"wind": "double", "hour": "long"})))
    watched = track(ONE, "2013-04-01", "2013-04-01", "2013-04-02")
    watched.reference = Reference(profile, None, known=True)
    look = look_at(watched, "2013-04-01", [seen("wind", True, 0.25), seen("hour", False, 0.31)])
    assert (look.state, look.figure, look.subject) == ("drift", 2.5, "wind")  # it is proven
    look = look_at(watched, "2013-04-01", [seen("wind", False, -0.02), seen("hour", None, None)])
    assert (look.state, look.figure) == ("no drift", 0.0)
    look = look_at(watched, "2013-04-01", [seen("wind", None, None)])
    assert (look.state, look.figure, look.note) == ("not enough data", None, "wind!")
    others = [seen("carrier=UA/wind", True, 9.0), seen("anchor", True, 9.0)]
    look = look_at(watched, "2013-04-01", others)  # slices and the anchor are findings of their own
    assert (look.state, look.figure) == ("not enough data", None)
    assert look_at(track(ONE, "2013-04-01"), "2013-04-01", []).state == "not watched"


def _bytes(profile: dict[str, Any]) -> bytes:
    import orjson

    return orjson.dumps(profile)
