"""From events to findings through a real monitor: once, in order, the same after any restart."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import Server
from tests.processes import wait_until
from tests.services.monitor.monitored import Home, Monitor, Start, day, prediction

START = date(2013, 4, 1)
DAYS = 12
ROWS = 150
BROKEN = {6, 7, 8}
SHIFTED = {4, 5, 6, 7}


def of_day(home: Home, number: int) -> list[Any]:
    """One day: wind is null on broken days, three standard deviations higher on shifted ones."""
    pick = random.Random(number)
    when = day((START + timedelta(days=number)).isoformat())
    events = [
        prediction(home, pick, time=when, shift=9.0 if number in SHIFTED else 0.0)
        for _ in range(ROWS)
    ]
    if number in BROKEN:
        for event in events:
            event["inputs"]["wind"] = [None]
    return events


def judged_to(monitor: Monitor, number: int) -> bool:
    """Whether every day before this one was judged."""
    through = monitor.get("/v1/findings?model=flight-delay")["through"]["flight-delay"]
    end = f"{(START + timedelta(days=number)).isoformat()}T00:00:00.000000Z"
    return through["judged"] is not None and through["judged"] >= end


def findings(monitor: Monitor, query: str = "") -> list[Any]:
    found: list[Any] = monitor.get(f"/v1/findings?model=flight-delay&limit=1000{query}")["findings"]
    return found


def story(found: list[Any]) -> list[tuple[str, ...]]:
    """What is the same however the history came."""
    kept = [f for f in found if "taken_back" not in f["evidence"]]
    return sorted((f["id"], f["type"], f["subject"], f["since"], str(f["until"])) for f in kept)


@pytest.fixture(scope="module")
def days(home: Home) -> list[list[Any]]:
    return [of_day(home, number) for number in range(DAYS)]


def test_a_history_makes_its_findings(
    home: Home, days: list[list[Any]], start_monitor: Start, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path))
    for number, events in enumerate(days[:8]):
        monitor.take(events)
        wait_until(lambda n=number: judged_to(monitor, n) or not n, 30)  # type: ignore[misc]
    burst = [f for f in findings(monitor, "&open=true") if f["type"] == "null_burst"]
    assert [(f["subject"], f["since"][:10], f["group"]) for f in burst] == [
        ("wind", "2013-04-07", "data")
    ]
    drift = [
        f for f in findings(monitor) if f["type"] == "feature_drift" and "wind" in f["subject"]
    ]
    assert [(f["since"][:10], f["windows"]) for f in drift] == [("2013-04-05", 2)]
    assert monitor.get(f"/v1/findings/{burst[0]['id']}") == burst[0]
    assert monitor.metric("proa_finding_open", type="null_burst", subject="wind") == 1
    assert monitor.metric("proa_findings_total", type="null_burst") == 1
    for events in days[8:]:
        monitor.take(events)
    wait_until(lambda: judged_to(monitor, DAYS - 1), 30)
    (burst,) = [f for f in findings(monitor) if f["type"] == "null_burst"]
    assert burst["until"][:10] == "2013-04-11"
    assert monitor.metric("proa_finding_open", type="null_burst", subject="") == 0
    assert (monitor.metric("proa_monitor_last_judged_timestamp_seconds") or 0) > 1.7e9
    shown = findings(monitor)
    monitor.kill()
    monitor.start()
    monitor.take(days[3])  # all of them known
    wait_until(lambda: judged_to(monitor, DAYS - 1), 30)
    assert findings(monitor) == shown


def test_the_same_history_otherwise_makes_the_same_findings(
    home: Home,
    days: list[list[Any]],
    start_monitor: Start,
    tmp_path: Path,
    postgres: Server,
) -> None:
    """All at once, out of order, killed in between, on Postgres: nothing is other."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = start_monitor(home.fresh(tmp_path / "a"))
    for events in days:
        first.take(events)
    wait_until(lambda: judged_to(first, DAYS - 1), 60)
    second = start_monitor(home.fresh(tmp_path / "b"), "--state", postgres.create())
    events = [event for events in days for event in events]
    random.Random(5).shuffle(events)
    for start in range(0, len(events), 600):
        second.take(events[start : start + 600])
        second.kill()
        second.start()
    wait_until(lambda: story(findings(second)) == story(findings(first)), 60)
    views = [m.get("/v1/models/flight-delay?windows=100") for m in (first, second)]
    assert views[0] == views[1]
    assert [f for f in findings(first) if f["type"] == "null_burst"]
    for damage in ("nothing", "lost"):
        assert first.stop() == 0
        if damage == "lost":
            for path in first.home.events.glob("state.db*"):
                path.unlink()
        first.start()
        wait_until(lambda: story(findings(first)) == story(findings(second)), 60)
        assert first.get("/v1/models/flight-delay?windows=100") == views[0]


def test_what_is_asked_wrongly_is_named(monitor: Monitor) -> None:
    assert monitor.get("/v1/findings") == {"findings": [], "truncated": False, "through": {}}
    for query, message in (
        ("open=perhaps", "expected true, false or all"),
        ("type=drizzle", "expected one of"),
        ("since=yesterday", "RFC 3339"),
        ("limit=0", "expected 1 to"),
    ):
        answer = monitor.ask(f"/v1/findings?{query}")
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]
    assert monitor.ask("/v1/findings/0123456789abcdef").status_code == 404
    assert monitor.ask("/v1/findings", key="events").status_code == 403
    assert monitor.ask("/v1/findings", key="").status_code == 401
