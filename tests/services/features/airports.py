"""A small feature store for tests: trips with an airport, and the airport's weather."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from proa.release.manifest import FeatureView

START = pd.Timestamp("2013-01-01T00:00:00Z")
TRIP = FeatureView(
    view="trip_v1", features=["origin", "miles"], join_key="trip_id", max_age_seconds=172800
)
WEATHER = FeatureView(
    view="weather_v1",
    features=["temp"],
    join_key="airport",
    from_feature="trip_v1:origin",
    max_age_seconds=10800,
)
VIEWS = [TRIP, WEATHER]


def definitions(data: Path, *, temp_hours: int = 3, extra: str | None = None) -> list[Any]:
    """Two entities and two views, as a project writes them."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64, String

    trip = Entity(name="trip", join_keys=["trip_id"], value_type=ValueType.STRING)
    airport = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)

    def view(name: str, entity: Any, ttl: timedelta, schema: list[Any]) -> Any:
        path = str(data / f"{name}.parquet")
        source = FileSource(name=name, path=path, timestamp_field="known_at")
        return FeatureView(name=name, entities=[entity], ttl=ttl, schema=schema, source=source)

    fields = [Field(name="temp", dtype=Float64)]
    if extra is not None:
        fields.append(Field(name=extra, dtype=Float64))
    columns = [Field(name="origin", dtype=String), Field(name="miles", dtype=Int64)]
    return [
        trip,
        airport,
        view("trip_v1", trip, timedelta(days=2), columns),
        view("weather_v1", airport, timedelta(hours=temp_hours), fields),
    ]


def trips(count: int) -> pd.DataFrame:
    """`count` trips, alternating between two airports, all known at START."""
    return pd.DataFrame(
        {
            "trip_id": [f"t{number}" for number in range(count)],
            "known_at": START,
            "origin": [("EWR", "JFK")[number % 2] for number in range(count)],
            "miles": range(count),
        }
    )


def weather(hours: int) -> pd.DataFrame:
    """Hourly weather of both airports; `temp` is the hour, plus 100 at JFK; null at hour 1."""
    rows = [
        (airport, START + timedelta(hours=hour), None if hour == 1 else float(hour + offset))
        for hour in range(hours)
        for airport, offset in (("EWR", 0), ("JFK", 100))
    ]
    return pd.DataFrame(rows, columns=["airport", "known_at", "temp"])
