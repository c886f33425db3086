"""Quality: right figures for segments, a calibration break found in time, labels joined fast.

Flights are scored by a model of January and February, calibrated as the pipeline does it, 200 a
day as in the story. Exchangeable windows are days of March in another order, their common gap
taken away, so that what is flagged is chance alone.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from flight_delay.data import ZONE
from proa.events.event import Event, label_event, prediction_event
from proa.http.ids import new_id
from proa.quality.answered import AnsweredRow
from proa.quality.blocks import auc_interval, difference
from proa.quality.breaks import CalibrationRule, DaySums
from proa.quality.maturity import DelayCurve
from proa.quality.scores import ScoreCounts
from proa.quality.state import QualityState
from proa_monitor.cohort import Cohort
from proa_monitor.quality import QualityWatch, Recent, ReleaseFacts, estimated, fairness, slices
from proa_monitor.state_tables import open_state
from proa_monitor.truth import Truths
from tests.bench._monitor_year import Year
from tests.bench.rows import Row, finish

A_DAY, SAMPLES = 200, 5
EVENTS = 20_000
MODEL, RELEASE = "flight-delay", "flight-delay/1@sha256:" + "1" * 64


def rows() -> Iterator[Row]:
    """Every row of this part of `make bench-monitor`."""
    yield from segments()
    yield from breaks()
    yield from joins()


def segments() -> Iterator[Row]:
    """Segment m is right every time, f never: scikit-learn says 1.0 and 0.0, Evidently's GroupBy
    (0.7.23) gives each the accuracy of the whole."""
    truth = [k % 2 for k in range(1000)]
    frame = pd.DataFrame(
        {
            "seg": ["m"] * 500 + ["f"] * 500,
            "target": truth,
            "said": truth[:500] + [1 - t for t in truth[500:]],
        }
    )
    theirs = _evidently(frame)
    for segment, right in (("m", 1.0), ("f", 0.0)):
        part = frame[frame["seg"] == segment]
        state = QualityState.of(
            [
                AnsweredRow("label", None, str(said), truth=str(true))
                for said, true in zip(part["said"], part["target"], strict=True)
            ],
            whole=False,
        )
        ours = state.metric("accuracy")
        assert ours is not None
        yield Row(
            f"accuracy of a segment whose truth is {right:.1f} (Evidently GroupBy)",
            ours, "ratio", theirs[segment], right, ours == right,
        )  # fmt: skip


def _evidently(frame: pd.DataFrame) -> dict[str, float]:
    from evidently import BinaryClassification, DataDefinition, Dataset, Report
    from evidently.metrics import Accuracy
    from evidently.metrics.group_by import GroupBy

    definition = DataDefinition(
        categorical_columns=["seg"],
        classification=[BinaryClassification(target="target", prediction_labels="said")],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = Dataset.from_pandas(frame, data_definition=definition)
        found = Report([GroupBy(Accuracy(), "seg")]).run(data, None).dict()
    return {
        segment: float(metric["value"])
        for metric in found["metrics"]
        for segment in ("m", "f")
        if f"'{segment}'" in metric["metric_name"]
        or metric["metric_name"].rstrip(")").endswith(f"={segment}")
    }


def breaks() -> Iterator[Row]:
    """The calibration rule, and AUC against the first weeks, on real days."""
    year, rule = Year.read(), CalibrationRule()
    said = year.answers(datetime(2013, 3, 1, tzinfo=ZoneInfo(ZONE)))
    columns = ["day", "scheduled_departure", "late", "carrier", "origin"]
    frame = year.frame[columns].assign(said=said)
    frame = frame[(frame["day"] >= "2013-03-01") & (frame["day"] < "2013-06-01")]
    march, opened, flagged, windows = 0, [], 0, 0
    for seed in range(SAMPLES):
        days = _days(frame.groupby("day", group_keys=False).sample(n=A_DAY, random_state=seed))
        held = [d.day for k, d in enumerate(days) if rule.judge(days[: k + 1]).holds]
        march += sum(day < "2013-04-01" for day in held)
        opened.append(next((int(day[8:]) for day in held if day[:7] == "2013-04"), 99))
        calm = [day for day in days if day.day < "2013-04-01"]
        gap = sum(d.said - d.true for d in calm) / sum(d.rows for d in calm)
        level = [DaySums(d.day, d.rows, d.said - gap * d.rows, d.true) for d in calm]
        pick = random.Random(seed)
        for _ in range(200):
            pick.shuffle(level)
            for end in range(rule.fewest, len(level) + 1, 3):
                windows += 1
                flagged += bool(rule.judge(level[:end]).holds)
    share = flagged / windows
    yield Row(
        f"calibration: {windows:,} exchangeable windows flagged",
        share,
        "share",
        None,
        0.02,
        share <= 0.02,
    )
    yield Row("calibration: days of March on which it opens", march, "days", None, 0, march == 0)
    late = max(opened)
    yield Row(
        "calibration: opens on this day of April, the latest of 5",
        late,
        "April",
        None,
        25,
        late <= 25,
    )
    yield _areas(frame[frame["day"] < "2013-04-01"])
    yield from _by_chance(frame[frame["day"] < "2013-04-01"])


def _areas(frame: pd.DataFrame) -> Row:
    """Two weeks against two other weeks in any order: what `quality` would open by chance."""
    scores = [
        ScoreCounts.of(zip(day["said"], day["late"], strict=True))
        for _, day in frame.groupby("day", group_keys=False)
        .sample(n=A_DAY, random_state=0)
        .groupby("day")
    ]
    pick, flagged, times = random.Random(0), 0, 200
    for _ in range(times):
        pick.shuffle(scores)
        now, then = (auc_interval(some, confidence=0.98) for some in (scores[:14], scores[14:28]))
        high = difference(now, then, confidence=0.98).high
        flagged += high is not None and high < -0.02
    return Row(
        "quality: exchangeable fortnights flagged",
        flagged / times,
        "share",
        None,
        0.02,
        flagged / times <= 0.02,
    )


def _by_chance(frame: pd.DataFrame) -> Iterator[Row]:
    """March's days in another order: what slices, groups drawn at random and the estimate open."""
    sampled = frame.groupby("day", group_keys=False).sample(n=A_DAY, random_state=0)
    days = [_cohort(str(name), rows) for name, rows in sampled.groupby("day")]
    pick, times, held = random.Random(0), 60, dict.fromkeys(("slices", "fairness", "estimate"), 0)
    for _ in range(times):
        pick.shuffle(days)
        lived = tuple(replace(day, day=f"2013-03-{k + 1:02}") for k, day in enumerate(days))
        curve = DelayCurve(3600.0, 1.0, 3600.0, 3600.0, 1000)
        recent = Recent(lived, lived[:24], curve, "2013-04-01T00:00:00Z")
        held["slices"] += any(one.holds for one in slices(recent))
        held["fairness"] += any(one.holds for one in fairness(recent))
        held["estimate"] += bool(estimated(recent, ReleaseFacts(), broken=False).holds)
    for what, count in held.items():
        share = count / times
        # an estimate must hold in two windows running to be a finding
        bar = 0.05 if what == "estimate" else 0.02
        yield Row(
            f"{what}: exchangeable windows with any flag", share, "share", None, bar, share <= bar
        )


def _cohort(name: str, frame: pd.DataFrame) -> Cohort:
    segments: dict[str, list[AnsweredRow]] = defaultdict(list)
    groups: dict[str, list[AnsweredRow]] = defaultdict(list)
    rows = []
    columns = (frame[column] for column in ("said", "late", "carrier", "origin"))
    for number, (said, late, carrier, origin) in enumerate(zip(*columns, strict=True)):
        row = AnsweredRow("probability", said, str(said >= 0.33).lower(), truth=late, delay=60.0)
        rows.append(row)
        segments[f"carrier={carrier}"].append(row)
        segments[f"origin={origin}"].append(row)
        groups["abc"[number % 3]].append(row)
    return Cohort(
        name,
        QualityState.of(rows),
        {key: QualityState.of(some, whole=False) for key, some in segments.items()},
        {"group": {key: QualityState.of(some, whole=False) for key, some in groups.items()}},
    )


def _days(frame: pd.DataFrame) -> list[DaySums]:
    groups = frame.groupby(frame["scheduled_departure"].dt.strftime("%Y-%m-%d"))
    return [
        DaySums(str(day), len(rows), float(rows["said"].sum()), float(rows["late"].sum()))
        for day, rows in groups
    ]


def joins() -> Iterator[Row]:
    """Answers of one row with 15 inputs, and a label each, by request or by entity; SQLite. The
    peer is the same rows put into one table by the sqlite3 module, joined to nothing."""
    pick = random.Random(0)
    calls = [_call(pick, number) for number in range(EVENTS)]
    labels = [_label(pick, number) for number in range(EVENTS)]
    with tempfile.TemporaryDirectory() as folder:
        database = open_state(None, Path(folder))
        truths = Truths(database, slices_of=lambda _: ("carrier",))
        peer = _plain(Path(folder) / "plain.db", calls)
        for name, events in (("answers", calls), ("labels joined to them", labels)):
            start = time.process_time()
            for first in range(0, EVENTS, 2000):
                truths.take(events[first : first + 2000])
            rate = EVENTS / (time.process_time() - start)
            yield Row(f"truth: {name}", rate, "/s per core", peer, 30_000, rate >= 30_000)
        assert truths.counts(MODEL).matched == EVENTS
        start = time.perf_counter()
        found = truths.cohorts(MODEL, RELEASE, "champion")
        took = time.perf_counter() - start
        assert sum(day.whole.labelled for day in found) == EVENTS
        yield Row("truth: 20 days of 1,000 labels counted anew", took * 1000, "ms")
        watch = QualityWatch(truths, lambda _: ReleaseFacts())
        times = []
        for _ in range(5):
            start = time.perf_counter()
            watch.observe(MODEL, RELEASE, "champion", now="2013-06-30T00:00:00Z")
            times.append(time.perf_counter() - start)
        yield Row(
            "quality: one release judged, 20 days of 1,000", float(np.median(times)) * 1000, "ms"
        )
        database.close()


def _call(pick: random.Random, number: int) -> Event:
    inputs = {f"x{k}": [pick.random()] for k in range(14)}
    return prediction_event(
        request=f"r{number}",
        model=MODEL,
        release=RELEASE,
        track="champion",
        rows=1,
        inputs={**inputs, "carrier": [pick.choice("abcdefgh")]},
        outputs={"probability": [pick.random()], "label": [pick.random() < 0.5]},
        latency_ms=1.0,
        entity=[f"e{number}"],
        time=f"2013-04-{1 + number % 20:02}T12:00:00.000000Z",
    )


def _label(pick: random.Random, number: int) -> Event:
    return label_event(
        model=MODEL,
        kind="classic",
        value=pick.random() < 0.5,
        request=None if number % 2 else f"r{number}",
        entity=f"e{number}" if number % 2 else None,
        time=f"2013-04-{2 + number % 20:02}T08:00:00.000000Z",
    )


def _plain(path: Path, calls: list[Event]) -> float:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, request TEXT, time TEXT, p REAL)")
        start = time.process_time()
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?)",
            [(new_id(), c["request"], c["time"], c["outputs"]["probability"][0]) for c in calls],
        )
        connection.commit()
        return len(calls) / (time.process_time() - start)


if __name__ == "__main__":
    finish("monitor-quality", rows())
