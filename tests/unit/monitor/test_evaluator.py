"""What is judged when: once, in order, again after late events, empty windows, weeks, the gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from proa.events.event import Event, prediction_event
from proa.findings.observation import Observation
from proa.http.clock import ReplayClock, rfc3339
from proa.http.ids import new_id
from proa.profile import reference
from proa_monitor.anchors import Anchors
from proa_monitor.evaluator import Evaluator
from proa_monitor.finding_store import FindingStore
from proa_monitor.judged import Judged
from proa_monitor.judges import Occasion
from proa_monitor.references import Reference
from proa_monitor.state_tables import open_state
from proa_monitor.windows import Key, Windows

ONE = "m/1@sha256:" + "1" * 64
TWO = "m/2@sha256:" + "2" * 64
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
START = datetime(2013, 4, 1, 12, tzinfo=UTC)  # a Monday


def profile() -> Any:
    pick = random.Random(0)
    rows = 400
    columns: dict[str, Any] = {
        "wind": [pick.gauss(10, 3) for _ in range(rows)],
        "carrier": [pick.choice("AABBC") for _ in range(rows)],
    }
    built = reference.build(
        columns,
        {"wind": "double", "carrier": "string"},
        outputs={"probability": [pick.random() for _ in range(rows)]},
        slices=["carrier"],
    )
    return reference.parse_profile(orjson.dumps(built))


REFERENCE = Reference(profile(), None, known=True)


def event(day: float, *, release: str = ONE, track: str = "champion", **more: Any) -> Event:
    time = START + timedelta(days=day)
    told = prediction_event(
        request=new_id(),
        model="m",
        release=release,
        track=track,
        rows=1,
        inputs={"wind": [10.0], "carrier": [more.pop("carrier", "A")]},
        outputs={"probability": [0.5]},
        latency_ms=1.0,
        time=time,
        **more,
    )
    return told | {"time": rfc3339(time), "ingested": rfc3339(NOW)}


class Recording:
    """Judges that see what they are told to, and write down what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Occasion] = []
        self.weeks: list[Occasion] = []
        self.holds: set[str] = set()
        self.figures: dict[Key, Any] = {}

    def observe(self, asked: Occasion, anchor: Reference | None) -> list[Observation]:
        self.asked.append(asked)
        holds = asked.name in self.holds
        return [Observation("null_burst", "wind", holds, 1.0, 0.1, "share", "nulls")]

    def drift(self, asked: Occasion, anchor: Reference | None) -> list[Observation]:
        self.weeks.append(asked)
        return []

    def truth(self, asked: Occasion) -> list[Observation]:
        return [Observation("calibration", "", True, 0.1, 0.05, "points", "broken")]

    def show(self, key: Key, now: str) -> None:
        pass

    def forget(self, model: str, now: str) -> None:
        pass


class NoTakers:
    def __init__(self) -> None:
        from collections import Counter

        self.truths: Counter[str] = Counter()

    async def settle(self) -> None:
        pass


class Bench:
    """An evaluator over windows and a real state database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = open_state(None, folder)
        self.windows = Windows("day", lambda _: REFERENCE)
        self.judges, self.takers = Recording(), NoTakers()
        self.clock = ReplayClock(NOW)
        self.restart()

    def restart(self) -> None:
        self.findings = FindingStore(self.database)
        self.judged = Judged(self.database)
        self.evaluator = Evaluator(
            self.windows,
            self.findings,
            self.judged,
            self.judges,  # type: ignore[arg-type]
            Anchors(self.database, self.windows),
            self.takers,  # type: ignore[arg-type]
            self.clock,
        )

    def tick(self) -> list[str]:
        """Names that were judged."""
        self.judges.asked.clear()
        asyncio.run(self.evaluator.tick())
        return [asked.name for asked in self.judges.asked]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.database.close()


def names(*days: int) -> list[str]:
    return [(START + timedelta(days=day)).date().isoformat() for day in days]


def test_windows_are_judged_once_when_they_are_over(bench: Bench) -> None:
    bench.windows.add([event(day) for day in (2, 0, 1)])
    assert bench.tick() == names(0, 1)
    assert bench.tick() == []
    bench.windows.add([event(3)])
    assert bench.tick() == names(2)
    bench.restart()
    assert bench.tick() == []
    assert bench.evaluator.last_judged["m"] > 0


def test_late_events_have_windows_judged_again_within_bounds(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(12)])
    bench.judges.holds = set(names(10))
    assert bench.tick() == names(*range(11))
    (finding,) = bench.findings.open()
    bench.judges.holds = set()
    bench.windows.add([event(10.1), event(0.1)])  # the other one is too long ago
    assert bench.tick() == names(10)
    assert bench.findings.open() == []
    assert bench.findings.get(finding.id).evidence["taken_back"] is True


def test_days_without_a_call_are_judged_as_empty_ones(bench: Bench) -> None:
    bench.windows.add([event(0), event(3), event(40)])
    judged = bench.tick()
    assert judged[:4] == names(0, 1, 2, 3)
    assert judged[4:] == names(*range(4, 11))  # a week of silence, then it is idle
    empty = bench.judges.asked[1]
    assert empty.parts.counts is not None
    assert empty.parts.counts.rows == 0
    assert list(bench.windows.tracks[Key("m", ONE, "champion")].windows) == names(0, 3, 40)
    bench.windows.add([event(1.0)])
    assert names(1)[0] in bench.tick()


def test_one_event_from_the_far_future_ends_no_window(bench: Bench) -> None:
    bench.windows.add([event(0)])
    bench.windows.add([event((NOW - START).days + 900)])
    assert bench.tick()[0] == names(0)[0]
    bench.windows.add([event((NOW - START).days)])
    today = NOW.date().isoformat()
    assert today not in bench.tick()


def test_weeks_are_judged_when_they_are_over(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(15)])
    bench.tick()
    assert [asked.name for asked in bench.judges.weeks] == [f"{n}/P7D" for n in names(0, 7)]
    first, second = bench.judges.weeks
    assert first.parts.counts is not None
    assert first.parts.counts.rows == 7
    assert [name for name, _ in second.seasons] == [f"{names(0)[0]}/P7D"]
    bench.windows.add([event(7.2)])
    bench.tick()
    assert [asked.name for asked in bench.judges.weeks[2:]] == [f"{names(7)[0]}/P7D"]


def test_a_week_that_two_releases_share_is_judged_for_neither(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(3)])
    bench.windows.add([event(day, release=TWO) for day in range(3, 15)])
    bench.tick()
    assert [(asked.release, asked.name) for asked in bench.judges.weeks] == [
        (TWO, f"{names(7)[0]}/P7D")
    ]


def test_a_window_with_calls_of_two_releases_is_known_as_shared(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(4)])
    bench.windows.add([event(3.1, release=TWO, track="challenger"), event(4, release=TWO)])
    bench.tick()
    shared = {(asked.release, asked.name) for asked in bench.judges.asked if asked.shared}
    assert shared == {(ONE, names(3)[0]), (TWO, names(3)[0])}


def test_the_past_of_a_new_release_is_that_of_the_one_before(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(10)])
    bench.windows.add([event(day, release=TWO) for day in range(10, 16)])
    bench.tick()
    newest = next(asked for asked in bench.judges.asked if asked.name == names(14)[0])
    assert newest.release == TWO
    assert [name for name, _ in newest.seasons] == names(0, 7)
    assert [name for name, _ in newest.before] == names(10, 11, 12, 13)


def test_a_release_that_another_took_over_from_has_no_open_findings(bench: Bench) -> None:
    bench.judges.holds = set(names(2))
    bench.windows.add([event(day) for day in range(3)])
    bench.windows.add([event(3, release=TWO)])
    bench.tick()
    assert [f.release for f in bench.findings.open()] == [ONE]
    bench.windows.add([event(day, release=TWO) for day in range(4, 7)])
    bench.tick()
    assert bench.findings.open() == []
    (closed,), _ = bench.findings.find("m")
    assert closed.until == rfc3339(START + timedelta(days=4.5))


def test_labels_alone_have_the_newest_window_judged_again(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(3)])
    assert len(bench.tick()) == 2
    bench.takers.truths["m"] += 5
    assert bench.tick() == []
    assert [f.type for f in bench.findings.open()] == ["calibration"]
    seen = bench.judged.of(Key("m", ONE, "champion"), names(1)[0])
    assert {one.type for one in seen} == {"null_burst", "calibration"}


def test_slices_are_counted_apart_and_bounded(bench: Bench) -> None:
    bench.windows.add([event(0, carrier=name) for name in ("A", "A", "B", "zebra", "gnu")])
    bench.windows.add(
        [
            event(0)
            | {"rows": 3, "inputs": {"wind": [1, 2, 3], "carrier": ["A", "B", None]}}
            | {"outputs": {"probability": [0.1, 0.2, 0.3]}}
        ]
    )
    bench.windows.settle()
    window = bench.windows.tracks[Key("m", ONE, "champion")].windows[names(0)[0]]
    rows = {name: state.rows for name, state in window.parts.slices.items()}
    assert rows == {"carrier=A": 3, "carrier=B": 2, "carrier=(other)": 3}


def test_a_database_that_is_away_only_delays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from proa.errors import Unavailable

    bench.windows.add([event(day) for day in range(3)])
    bench.judges.holds = set(names(0, 1))

    def away(*_: object) -> Any:
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.database, "writing", away)
        bench.tick()
    assert bench.evaluator.failures == 1
    assert bench.evaluator.last_judged == {}
    assert bench.findings.open() == []
    bench.tick()
    (finding,) = bench.findings.open()
    assert finding.windows == 2


def test_what_follows_a_changed_window_is_judged_again(bench: Bench) -> None:
    bench.windows.add([event(day) for day in range(6)])
    assert bench.tick() == names(*range(5))
    bench.windows.add([event(2.1)])
    assert bench.tick() == names(2, 3, 4)


def test_what_was_odd_is_no_measure_for_what_follows(bench: Bench) -> None:
    def odd(asked: Occasion, anchor: Reference | None) -> list[Observation]:
        bench.judges.asked.append(asked)
        return [Observation("latency", "", asked.name >= names(9)[0], 1.0, 0.1, "share", "slow")]

    bench.judges.observe = odd  # type: ignore[method-assign]
    bench.windows.add([event(day) for day in range(13)])
    bench.tick()
    assert [name for name, _ in bench.judges.asked[-1].before] == names(*range(9))
