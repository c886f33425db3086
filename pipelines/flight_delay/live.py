"""The airline's side of a replay, one virtual hour after another.

    python -m flight_delay.live --home .proa --start 2013-04-01 --end 2013-07-01 --flights 200

Each line read from stdin moves the clock to the next hour in which flights are due. Features that
became known up to then are written to the online store (one batch per view, as a stream does; a
materialization per hour would take ten times as long), then one JSON line is answered:

    {"time": …Z, "day": …, "flights": [ids due within the hour], "labels": [{"entity", "value",
     "time"}]}

`labels` are outcomes that were reported since the line before, hours or days after landing;
cancelled flights are due like any other and never get one. The last line is {"time": null}.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from flight_delay.data import LATE_MINUTES, ZONE, flights, source
from flight_delay.features import tables
from proa.features import store

_TAXI = timedelta(minutes=30)
_KEYS = {"schedule_v1": "flight_id", "weather_v1": "airport", "origin_delay_v1": "airport"}


def chance(flight_id: str) -> float:
    """A number in [0, 1) that belongs to the flight: samples of any size are nested."""
    return zlib.crc32(flight_id.encode()) / 2**32


def reported(flown: pd.DataFrame) -> pd.Series[Any]:
    """When the outcome of each flight was reported: 2 to 74 hours after landing, half within 11.

    NaT for flights that never arrived.
    """
    luck = flown["flight_id"].map(lambda flight: chance(f"reported {flight}"))
    flying = pd.to_timedelta(flown["air_time"].fillna(0) + 120 + 72 * 60 * luck**3, unit="min")
    landed = (flown["departed"] + _TAXI + flying.dt.floor("s")).astype("datetime64[us, UTC]")
    return landed.where(flown["arr_delay"].notna())


def sample(flown: pd.DataFrame, start: datetime, end: datetime, daily: int) -> pd.DataFrame:
    """`daily` flights of each local day, cancelled ones too, in order of departure."""
    due = flown[(flown["scheduled_departure"] >= start) & (flown["scheduled_departure"] < end)]
    due = due.assign(chance=due["flight_id"].map(chance)).sort_values("chance")
    return due.groupby("day").head(daily).sort_values(["scheduled_departure", "flight_id"])


def hours(
    asked: pd.DataFrame, views: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[dict[str, Any], dict[str, pd.DataFrame]]]:
    """Every hour with flights due: what is told of it, and the rows that became known by then."""
    asked = asked.assign(hour=asked["scheduled_departure"].dt.floor("h"), reported=reported(asked))
    outcomes = asked[asked["reported"].notna()].sort_values("reported")
    views = {name: table.sort_values("known_at") for name, table in views.items()}
    before = asked["hour"].min() - timedelta(days=2)
    for hour, due in asked.groupby("hour"):
        known = {
            name: _between(table, "known_at", before, hour).drop_duplicates(key, keep="last")
            for (name, key) in _KEYS.items()
            for table in [views[name]]
        }
        told = {
            "time": _text(hour),
            "day": due["day"].iloc[0],
            "flights": due["flight_id"].tolist(),
            "labels": _labels(_between(outcomes, "reported", before, hour)),
        }
        yield told, known
        before = hour


def _between(table: pd.DataFrame, column: str, after: Any, until: Any) -> pd.DataFrame:
    """Rows of a sorted table with `after` < time ≤ `until`."""
    times = table[column]
    first, last = (times.searchsorted(moment, side="right") for moment in (after, until))
    return table.iloc[first:last]


def _labels(outcomes: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"entity": flight, "value": bool(delay > LATE_MINUTES), "time": _text(moment)}
        for flight, delay, moment in zip(
            outcomes["flight_id"], outcomes["arr_delay"], outcomes["reported"], strict=True
        )
    ]


def _text(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def main(argv: list[str] | None = None) -> int:
    """Answer line after line until the end or a closed stdin; return 0."""
    parser = argparse.ArgumentParser(prog="python -m flight_delay.live", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the platform's home")
    for edge in ("start", "end"):
        parser.add_argument(f"--{edge}", required=True, metavar="DATE", help="a day in New York")
    parser.add_argument("--flights", type=int, default=200, help="a day (default 200)")
    options = parser.parse_args(argv)
    start, end = (_midnight(text) for text in (options.start, options.end))
    flown = flights()
    asked = sample(flown, start, end, options.flights)
    views = tables(flown, source("weather.csv"))
    schedule = views["schedule_v1"]
    views["schedule_v1"] = schedule[schedule["flight_id"].isin(asked["flight_id"])]
    online = store.open_store(options.home / "feast")
    following = hours(asked, views)
    for _ in sys.stdin:
        told, known = next(following, ({"time": None}, {}))
        for view, rows in known.items():
            store.push(online, view, rows)
        print(json.dumps(told), flush=True)
        if told["time"] is None:
            break
    return 0


def _midnight(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE))


if __name__ == "__main__":
    raise SystemExit(main())
