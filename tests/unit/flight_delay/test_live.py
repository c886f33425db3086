"""The replay tells nothing before it was known; the flights here are made up."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from flight_delay import live

START = datetime(2013, 4, 1, tzinfo=ZoneInfo("America/New_York"))
DAYS, DAILY = 4, 40


@pytest.fixture(scope="module")
def flown() -> pd.DataFrame:
    """40 flights a day, every half hour from 6:00; every tenth is cancelled, every fourth late."""
    number = pd.Series(range(DAYS * DAILY))
    due = (
        pd.Timestamp(START).tz_convert("UTC")
        + pd.to_timedelta(number // DAILY, unit="D")
        + pd.to_timedelta(360 + number % DAILY * 27, unit="min")
    ).astype("datetime64[us, UTC]")
    cancelled = number % 10 == 3
    return pd.DataFrame(
        {
            "flight_id": "f" + number.astype(str),
            "day": due.dt.tz_convert(START.tzinfo).dt.strftime("%Y-%m-%d"),
            "scheduled_departure": due,
            "departed": due.where(~cancelled),
            "air_time": pd.Series(60.0, number.index).where(~cancelled),
            "arr_delay": (number % 4 * 10.0 - 10).where(~cancelled),
        }
    )


def views(flown: pd.DataFrame) -> dict[str, pd.DataFrame]:
    grid = pd.date_range("2013-03-30", "2013-04-06", freq="15min", tz="UTC")
    hourly = pd.DataFrame({"airport": "JFK", "known_at": grid, "value": range(len(grid))})
    known = flown["scheduled_departure"] - timedelta(days=1)
    schedule = pd.DataFrame({"flight_id": flown["flight_id"], "known_at": known})
    return {"schedule_v1": schedule, "weather_v1": hourly, "origin_delay_v1": hourly}


def test_a_smaller_sample_is_part_of_a_larger_one_and_takes_whole_days(flown: pd.DataFrame) -> None:
    end = START + timedelta(days=3)
    small, large = (live.sample(flown, START, end, daily) for daily in (5, 20))
    assert set(small["flight_id"]) < set(large["flight_id"])
    assert small.groupby("day").size().tolist() == [5, 5, 5]
    assert large["scheduled_departure"].is_monotonic_increasing


def test_outcomes_come_hours_or_days_late_and_cancelled_flights_have_none(
    flown: pd.DataFrame,
) -> None:
    late = (live.reported(flown) - flown["departed"]) / timedelta(hours=1)
    assert late.isna().equals(flown["arr_delay"].isna())
    assert late.min() > 3
    assert late.max() < 80
    assert 8 < late.median() < 18


def test_every_flight_and_outcome_is_told_once_and_never_before_its_time(
    flown: pd.DataFrame,
) -> None:
    told, online = [], dict[str, pd.Timestamp]()
    for hour, known in live.hours(flown, views(flown)):
        moment = pd.Timestamp(hour["time"])
        for view, rows in known.items():
            assert (rows["known_at"] <= moment).all()
            key = "flight_id" if view == "schedule_v1" else "airport"
            assert not rows[key].duplicated().any()
            pairs = zip(rows[key], rows["known_at"], strict=True)
            online |= {f"{view} {one}": time for one, time in pairs}
        for flight in hour["flights"]:
            assert f"schedule_v1 {flight}" in online
        assert moment - online["weather_v1 JFK"] < timedelta(minutes=15)
        assert all(pd.Timestamp(label["time"]) <= moment for label in hour["labels"])
        told.append(hour)
    due = [flight for hour in told for flight in hour["flights"]]
    assert sorted(due) == sorted(flown["flight_id"])
    late = dict(zip(flown["flight_id"], flown["arr_delay"] > 15, strict=True))
    labels = [label for hour in told for label in hour["labels"]]
    assert len({label["entity"] for label in labels}) == len(labels) > 80
    assert all(label["value"] == late[label["entity"]] for label in labels)
