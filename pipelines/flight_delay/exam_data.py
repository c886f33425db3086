"""The sealed rows of the exam: every flight of its window, with the features known at departure.

Made from the raw tables with pandas alone, apart from Feast and from any home: two releases sit
the same bytes, and the point-in-time join of training has a second opinion (a test compares both).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from flight_delay.data import ingest

TIME_TO_LIVE = {
    "weather_v1": timedelta(hours=6),
    "origin_delay_v1": timedelta(hours=1),
}


def build(start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Rows `{id, unit, label, time, inputs, slices}` of `data.exam`, ordered by time and id."""
    return rows(known_at_departure(ingest(start, end)))


def known_at_departure(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Examples with the latest row of each view that was known and still living."""
    schedule = tables["schedule_v1"].drop(columns="known_at")
    frame = tables["examples"].merge(schedule, on="flight_id", how="left", validate="one_to_one")
    frame = frame.sort_values(["scheduled_departure", "flight_id"], ignore_index=True)
    for view, living in TIME_TO_LIVE.items():
        frame = pd.merge_asof(
            frame,
            tables[view].sort_values("known_at"),
            left_on="scheduled_departure",
            right_on="known_at",
            left_by="origin",
            right_by="airport",
            tolerance=living,
        ).drop(columns=["known_at", "airport"])
    return frame


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The exam's form of each row; missing values become None."""
    facts = ["flight_id", "scheduled_departure", "day", "late"]
    inputs = frame.drop(columns=facts).astype(object)
    inputs = inputs.mask(inputs.isna(), other=None)
    return [
        {
            "id": flight,
            "unit": day,
            "label": int(late),
            "time": moment.isoformat(),
            "inputs": values,
            "slices": {"carrier": values["carrier"], "origin": values["origin"]},
        }
        for flight, moment, day, late, values in zip(
            *(frame[name] for name in facts), inputs.to_dict("records"), strict=True
        )
    ]
