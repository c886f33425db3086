"""Feature views of flight-delay: their rows (`tables`), and what Feast is told (`definitions`).

A row's time is the moment its values were *known*, never the moment they describe:
* schedule: a day before departure;
* weather: the hour's record counts as known when the hour is over;
* origin delay: a flight counts once it has left, so a grid point sees only departures before it.

Views are never edited; a change is a new view (`…_v2`).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GRID = 900  # seconds between two rows of the origin delay
WINDOW = 7200  # seconds it looks back: AUC +0.04 to +0.06 over schedule and weather alone
WEATHER = [
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]


def tables(flights: pd.DataFrame, weather: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of every view, from the flights of `data.flights` and the raw weather table."""
    return {
        "schedule_v1": schedule(flights),
        "weather_v1": hourly_weather(weather),
        "origin_delay_v1": origin_delay(flights),
    }


def schedule(flights: pd.DataFrame) -> pd.DataFrame:
    """What the timetable says, by flight; cancelled flights were in the timetable too."""
    arrival = flights["sched_arr_time"]
    return pd.DataFrame(
        {
            "flight_id": flights["flight_id"],
            "known_at": flights["scheduled_departure"] - timedelta(days=1),
            "carrier": flights["carrier"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "distance": flights["distance"].astype(float),
            "departure_minute": (flights["hour"] * 60 + flights["minute"]).astype(float),
            "arrival_minute": (arrival // 100 * 60 + arrival % 100).astype(float),
            "weekday": flights["local"].dt.dayofweek.astype(float),
        }
    )


def hourly_weather(weather: pd.DataFrame) -> pd.DataFrame:
    """Weather by airport. `time_hour` is UTC; local hours are ambiguous on 3 November."""
    hour = pd.to_datetime(weather["time_hour"], utc=True).astype("datetime64[us, UTC]")
    known = pd.DataFrame({"airport": weather["origin"], "known_at": hour + timedelta(hours=1)})
    return known.join(weather[WEATHER].astype(float))


def origin_delay(flights: pd.DataFrame) -> pd.DataFrame:
    """Mean departure delay and number of departures of the last 2 h, by airport, every 15 minutes.

    Null when nothing left in two hours (nights).
    """
    left = flights[flights["departed"].notna()]
    parts = []
    for airport, group in left.groupby("origin"):
        group = group.sort_values("departed")
        moments = group["departed"].astype("int64").to_numpy() // 1_000_000
        total = np.concatenate([[0.0], group["dep_delay"].cumsum().to_numpy()])
        grid = np.arange(moments[0] // GRID * GRID + GRID, moments[-1] + GRID, GRID)
        until = np.searchsorted(moments, grid, side="right")
        since = np.searchsorted(moments, grid - WINDOW, side="right")
        count = until - since
        mean = np.where(count > 0, (total[until] - total[since]) / np.maximum(count, 1), np.nan)
        parts.append(
            pd.DataFrame(
                {
                    "airport": airport,
                    "known_at": pd.to_datetime(grid, unit="s", utc=True).astype(
                        "datetime64[us, UTC]"
                    ),
                    "departure_delay_2h": mean,
                    "departures_2h": count.astype(float),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def definitions(data: Path) -> list[Any]:
    """Feast's entities and views over the parquet files in `data`."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, String

    flight = Entity(name="flight", join_keys=["flight_id"], value_type=ValueType.STRING)
    airport = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)

    def view(name: str, entity: Any, ttl: timedelta, features: dict[str, Any]) -> Any:
        return FeatureView(
            name=name,
            entities=[entity],
            ttl=ttl,
            schema=[Field(name=feature, dtype=dtype) for feature, dtype in features.items()],
            source=FileSource(
                name=name, path=str(data / f"{name}.parquet"), timestamp_field="known_at"
            ),
        )

    texts = dict.fromkeys(["carrier", "origin", "dest"], String)
    numbers = dict.fromkeys(["distance", "departure_minute", "arrival_minute", "weekday"], Float64)
    delays = dict.fromkeys(["departure_delay_2h", "departures_2h"], Float64)
    return [
        flight,
        airport,
        view("schedule_v1", flight, timedelta(days=2), {**texts, **numbers}),
        view("weather_v1", airport, timedelta(hours=6), dict.fromkeys(WEATHER, Float64)),
        view("origin_delay_v1", airport, timedelta(hours=1), delays),
    ]
