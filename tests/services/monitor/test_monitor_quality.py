"""Labels, quality, fairness and skew through a real monitor, with a `kill -9` between."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from proa.events.event import Event, label_event, prediction_event
from tests.processes import wait_until
from tests.services.monitor.monitored import Home, Monitor, Start, day, flights

START, DAYS, BROKEN, ROWS = date(2013, 4, 1), 36, 22, 60


def name_of(number: int) -> str:
    return (START + timedelta(days=number)).isoformat()


def of_day(home: Home, number: int) -> list[Event]:
    """A call of sixty rows; from the 22nd day on a quarter more comes true than is said. Women are
    decided for half as often."""
    pick = random.Random(number)
    said = [pick.betavariate(2, 3) for _ in range(ROWS)]
    sex = [pick.choice("fm") for _ in range(ROWS)]
    decided = [
        p > 0.4 and (s == "m" or pick.random() < 0.4) for p, s in zip(said, sex, strict=True)
    ]
    return [
        prediction_event(
            request=f"request-{number}",
            model="flight-delay",
            release=home.flight,
            track="champion",
            rows=ROWS,
            inputs=flights(pick, ROWS),
            outputs={"probability": said, "label": decided},
            latency_ms=2.0,
            entity=[f"{number}-{k}" for k in range(ROWS)],
            attributes={"sex": sex},
            time=day(name_of(number)),
        )
    ]


def labels_of(home: Home, number: int) -> list[Event]:
    (call,) = of_day(home, number)
    pick = random.Random(-number)
    more = 0.25 if number >= BROKEN else 0.0
    return [
        label_event(
            model="flight-delay",
            kind="classic",
            value=pick.random() < said + more,
            entity=f"{number}-{k}",
            time=day(name_of(number + 1), 6),
        )
        for k, said in enumerate(call["outputs"]["probability"])
    ]


def calibration(monitor: Monitor) -> list[Any]:
    """Open ones with all labels: while they are joined, judgements are made again."""
    found = monitor.get("/v1/findings?model=flight-delay&type=calibration&open=true")
    return [one for one in found["findings"] if one["effect"] < -0.12]


def points(monitor: Monitor) -> list[Any]:
    view = monitor.get("/v1/models/flight-delay/quality")
    return [
        point
        for line in view["quality"]["metrics"]
        for point in line["points"]
        if line["metric"] == "calibration_gap" and point["source"] == "measured"
    ]


@pytest.fixture
def lived(home: Home, start_monitor: Start, tmp_path: Path) -> Monitor:
    """A monitor that was sent all days and labels, late, twice, and killed half way."""
    monitor = start_monitor(home.fresh(tmp_path))
    every = [of_day(home, number) for number in range(DAYS)]
    late = [labels_of(home, number) for number in range(DAYS - 1)]
    monitor.take([event for events in (*every[:20], *late[15:18]) for event in events])
    monitor.take([event for events in late[:15] for event in events])
    monitor.kill()
    monitor.start()
    rest = [event for events in (*late[18:], *every[20:]) for event in events]
    monitor.take(rest)
    assert monitor.take(rest)["duplicates"] == len(rest)
    return monitor


def test_what_labels_groups_and_the_offline_path_say(lived: Monitor) -> None:
    late_labels_open_calibration_and_groups_are_kept_apart(lived)
    skew_that_is_posted_becomes_a_finding(lived)


def late_labels_open_calibration_and_groups_are_kept_apart(lived: Monitor) -> None:
    # the newest but one has its labels, but is not yet as old as labels may take
    wait_until(lambda: len(points(lived)) == DAYS - 2, 60, what="every label joined")
    wait_until(lambda: calibration(lived), 60, what="calibration is open")
    (found,) = calibration(lived)
    assert (found["group"], found["severity"]) == ("quality", "critical")
    evidence = found["evidence"]
    assert evidence["low"] < found["effect"] < evidence["high"] < 0
    assert evidence["days"] == 18
    assert "'f'" not in repr(lived.get("/v1/findings?model=flight-delay&type=fairness"))
    path = "/v1/models/flight-delay/quality"
    assert lived.get(path)["fairness"] is None
    gaps = lived.get(path, key="protected")["fairness"]
    selection = next(gap for gap in gaps if gap["metric"] == "selection_rate")
    assert [group["group"] for group in selection["groups"]] == ["f", "m"]
    assert selection["gap"] > 0.2

    def shown() -> bool:
        gap = lived.metric("proa_fairness_gap", attribute="sex", metric="selection_rate")
        return gap == pytest.approx(selection["gap"])

    wait_until(shown, 30, what="/metrics follows once every window is judged")
    assert not any("f" in dict(labels).values() for _, labels in lived.metrics())


def skew_that_is_posted_becomes_a_finding(lived: Monitor) -> None:
    rows = lived.get("/v1/models/flight-delay/served?limit=100")["rows"]
    assert len(rows) == 100
    online = [row["inputs"] for row in rows]
    body = {
        "release": rows[0]["release"],
        "track": rows[0]["track"],
        "time": rows[-1]["time"],
        "online": online,
        "offline": [row | {"carrier": "XX"} for row in online],
    }
    url = f"{lived.url}/v1/models/flight-delay/skew"
    headers = {"authorization": f"Bearer {lived.home.keys['events']}"}
    answer = lived.client.post(url, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["columns"]["carrier"]["share"] == 1.0
    (found,) = lived.get("/v1/findings?model=flight-delay&type=skew&open=true")["findings"]
    assert (found["subject"], found["group"]) == ("carrier", "data")
    body["offline"] = online
    lived.client.post(url, json=body, headers=headers)
    assert not lived.get("/v1/findings?model=flight-delay&type=skew&open=true")["findings"]
    refused = lived.client.post(url, json=body, headers={"authorization": "Bearer nobody"})
    assert refused.status_code == 401
