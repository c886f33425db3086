"""The rows: orders of a shop that does not exist. Replace `orders` by your own query.

The orders are made up from a seed, so that this project runs as written on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pandas as pd

FIRST = datetime(2026, 1, 1, tzinfo=UTC)  # the first day of the made-up orders
EXAM = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 15, tzinfo=UTC))  # after training
DAYS, PER_DAY = 75, 40  # enough for six weeks of training and two of exam


def orders() -> pd.DataFrame:
    """Every order: what was known when it was placed, and whether it arrived late."""
    random = np.random.default_rng(0)  # the same orders each time
    count = DAYS * PER_DAY
    day = np.repeat(np.arange(DAYS), PER_DAY)
    minute = random.integers(0, 24 * 60, count)
    frame = pd.DataFrame(
        {
            "order_id": [f"order-{number}" for number in range(count)],
            "ordered_at": pd.Timestamp(FIRST) + pd.to_timedelta(day * 1440 + minute, unit="min"),
            "carrier": random.choice(["blue", "green", "red"], count),
            "distance_km": random.gamma(2.0, 80.0, count).round(1),
            "weight_kg": random.gamma(1.5, 2.0, count).round(2),
        }
    )
    storm = random.normal(0.0, 0.5, DAYS)[day]  # a bad day is bad for all of its orders
    score = 0.012 * (frame["distance_km"] - 160) + 0.9 * (frame["carrier"] == "red") + storm - 0.8
    frame["late"] = random.random(count) < 1 / (1 + np.exp(-score))
    frame["day"] = frame["ordered_at"].dt.strftime("%Y-%m-%d")
    return frame


def ingest(start: datetime, end: datetime) -> Mapping[str, pd.DataFrame]:
    """Named in proa.yaml: the labelled rows of [start, end), in a table called `examples`."""
    frame = orders()
    inside = (frame["ordered_at"] >= start) & (frame["ordered_at"] < end)
    # every column but time, unit and label is an input: the id must not be one
    return {"examples": frame[inside].drop(columns="order_id").reset_index(drop=True)}


def exam() -> pd.DataFrame:
    """Named in exam.yaml: id, unit, label, time and the inputs of rows that nobody trained on."""
    frame = orders()
    inside = (frame["ordered_at"] >= EXAM[0]) & (frame["ordered_at"] < EXAM[1])
    names = {"order_id": "id", "day": "unit", "late": "label", "ordered_at": "time"}
    return frame[inside].rename(columns=names).astype({"label": int})
