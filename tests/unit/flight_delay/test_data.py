"""The example's data: labels, time zones, ids, and that no feature looks into the future."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from flight_delay import data, exam_data, features
from proa.errors import InvalidInput
from proa.exam.exam import load as exam
from proa.project import Project, load
from proa.retraining.windows import shift

NEW_YORK = ZoneInfo(data.ZONE)


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """The real tables, read and prepared once instead of once per call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "source", cache(data.source))
        patch.setattr(data, "flights", cache(data.flights))
        patch.setattr(features, "tables", lambda *_: _tables())
        yield


@cache
def _tables() -> Mapping[str, pd.DataFrame]:
    weather = data.source("weather.csv")
    return {
        "schedule_v1": features.schedule(data.flights()),
        "weather_v1": features.hourly_weather(weather),
        "origin_delay_v1": features.origin_delay(data.flights()),
    }


@pytest.fixture(scope="module")
def flights(_read_once: None) -> pd.DataFrame:
    return data.flights()


@pytest.fixture(scope="module")
def tables(_read_once: None) -> Mapping[str, pd.DataFrame]:
    return _tables()


def test_every_flight_has_an_id_of_its_own(flights: pd.DataFrame) -> None:
    assert len(flights) == 336_776
    assert flights["flight_id"].is_unique
    assert flights["flight_id"].iloc[0] == "2013-01-01-UA-1545-EWR"


def test_local_times_become_utc_in_winter_and_in_summer(flights: pd.DataFrame) -> None:
    due = flights.set_index("flight_id")["scheduled_departure"]
    assert due["2013-01-01-UA-1545-EWR"] == pd.Timestamp("2013-01-01T10:15Z")  # 5:15, UTC-5
    summer = flights[(flights["month"] == 7) & (flights["hour"] == 5)].iloc[0]
    assert summer["scheduled_departure"].hour == 9  # UTC-4
    # the files carry the hour in UTC too: a second opinion on all of them
    stated = pd.to_datetime(flights["time_hour"], utc=True)
    assert (flights["scheduled_departure"].dt.floor("h") == stated).all()


def test_flights_that_never_arrived_have_no_label(flights: pd.DataFrame) -> None:
    examples = data.label(flights)
    never = set(flights.loc[flights["arr_delay"].isna(), "flight_id"])
    assert len(never) == 9_430
    assert not never & set(examples["flight_id"])
    assert len(examples) == len(flights) - len(never)
    assert examples["late"].dtype == bool


def test_late_begins_after_fifteen_minutes() -> None:
    delays = [15.0, 16.0, np.nan, -30.0]
    flown = pd.DataFrame({"flight_id": list("abcd"), "scheduled_departure": 0, "day": 0})
    examples = data.label(flown.assign(arr_delay=delays))
    assert examples.set_index("flight_id")["late"].to_dict() == {"a": False, "b": True, "d": False}


def test_ingest_keeps_to_its_window_and_loses_no_row(flights: pd.DataFrame) -> None:
    start, end = datetime(2013, 2, 1, tzinfo=NEW_YORK), datetime(2013, 2, 3, tzinfo=NEW_YORK)
    found = data.ingest(start, end)["examples"]
    inside = flights["day"].isin(["2013-02-01", "2013-02-02"]) & flights["arr_delay"].notna()
    assert set(found["flight_id"]) == set(flights.loc[inside, "flight_id"])


def test_the_timetable_keeps_cancelled_flights(
    flights: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> None:
    assert len(tables["schedule_v1"]) == len(flights)
    assert (tables["schedule_v1"]["known_at"] < flights["scheduled_departure"]).all(), (
        "a flight is known before it is due"
    )


def test_weather_is_known_when_its_hour_is_over(tables: Mapping[str, pd.DataFrame]) -> None:
    weather = tables["weather_v1"]
    first = weather[weather["airport"] == "EWR"].iloc[0]
    assert first["known_at"] == pd.Timestamp("2013-01-01T07:00Z")  # local hour 1 is 06:00 UTC
    assert not weather.duplicated(["airport", "known_at"]).any(), "3 November has 25 hours"


def test_origin_delay_counts_only_flights_that_had_left(
    flights: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> None:
    """Recomputed by hand at random moments, from departures at or before the moment."""
    delays = tables["origin_delay_v1"]
    left = flights[flights["departed"].notna()]
    for _, row in delays.sample(60, random_state=0).iterrows():
        since = row["known_at"] - timedelta(seconds=features.WINDOW)
        recent = left[
            (left["origin"] == row["airport"])
            & (left["departed"] > since)
            & (left["departed"] <= row["known_at"])
        ]
        assert row["departures_2h"] == len(recent)
        if len(recent):
            assert row["departure_delay_2h"] == pytest.approx(recent["dep_delay"].mean())
        else:
            assert np.isnan(row["departure_delay_2h"])


def test_nothing_known_later_changes_a_feature(flights: pd.DataFrame) -> None:
    """Leakage: rewrite everything that happens after a moment; rows until then stay the same."""
    moment = pd.Timestamp("2013-02-10T15:00Z")
    changed = flights.copy()
    later = ~(changed["departed"] <= moment)
    changed.loc[later, "dep_delay"] = changed.loc[later, "dep_delay"] + 500
    changed["departed"] = changed["scheduled_departure"] + pd.to_timedelta(
        changed["dep_delay"], unit="min"
    ).astype("timedelta64[us]")
    before, after = features.origin_delay(flights), features.origin_delay(changed)
    known = before[before["known_at"] <= moment].reset_index(drop=True)
    same = after[after["known_at"] <= moment].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, same)
    assert len(known) > 10_000


def test_no_feature_tells_the_outcome(tables: Mapping[str, pd.DataFrame]) -> None:
    leaks = {"tailnum", "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    for name, table in tables.items():
        assert not leaks & set(table.columns), name


def test_validate_names_what_does_not_hold() -> None:
    start, end = datetime(2013, 1, 1, tzinfo=NEW_YORK), datetime(2013, 1, 4, tzinfo=NEW_YORK)
    found = dict(data.ingest(start, end))
    assert len(data.validate(found)) == 7
    doubled = pd.concat([found["examples"], found["examples"]])
    with pytest.raises(InvalidInput, match="expected that flight_id is unique"):
        data.validate({**found, "examples": doubled})
    early = found["examples"].assign(late=False)
    with pytest.raises(InvalidInput, match="between 5 % and 60 % are late"):
        data.validate({**found, "examples": early})


def test_the_exam_is_sealed_and_apart_from_training() -> None:
    rows = exam_data.build(*_window())
    assert len({row["id"] for row in rows}) == len(rows) == 27_902
    days = sorted({row["unit"] for row in rows})
    assert (days[0], days[-1], len(days)) == ("2013-03-01", "2013-03-31", 31)
    assert {row["label"] for row in rows} == {0, 1}
    text = json.dumps(rows, allow_nan=False)  # NaN would not survive the wire
    assert text == json.dumps(exam_data.build(*_window()), allow_nan=False)


def _project(**overrides: str) -> Project:
    return load(Path(str(data.__file__)).parent, overrides)


def _window() -> tuple[datetime, datetime]:
    window = _project().classic.data.exam
    assert window is not None
    return datetime.fromisoformat(window.start), datetime.fromisoformat(window.end)


def test_a_retraining_moves_training_and_exam() -> None:
    moved = shift(datetime(2013, 5, 1, tzinfo=UTC), 21, data.ZONE)
    project = _project(**moved.overrides())
    assert project.classic.data.train.end == "2013-04-09T04:00:00+00:00"
    found = exam(project)
    days = sorted({row.unit for row in found.rows})
    assert (days[0], days[-1], len(days)) == ("2013-04-09", "2013-04-29", 21)
    assert project.digest != _project().digest  # another training is another project
    later = {"data.exam.end": "2013-05-02"}
    assert _project(**later).digest == _project().digest  # another exam is not


def test_an_exam_that_begins_before_training_ends_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a start at or after the end of train"):
        _project(**{"data.train.end": "2013-03-02"})
