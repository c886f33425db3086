"""Feast behind `proa.features.store`: real DuckDB and SQLite files, no server."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from proa.errors import Conflict, InvalidInput, NotFound
from proa.features import store
from proa.release.manifest import FeatureView
from tests.services.features.airports import (
    START,
    TRIP,
    VIEWS,
    WEATHER,
    definitions,
    trips,
    weather,
)

# Feast, ibis and their dependencies use what their own dependencies deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "feast"
    assert store.apply(made, definitions) == ["trip_v1", "weather_v1"]
    store.write(made, "trip_v1", trips(40))
    store.write(made, "weather_v1", weather(30))
    return made


def test_a_join_keeps_every_row_and_looks_only_back(folder: Path) -> None:
    """Against pandas' own as-of join, with doubled rows, unknown trips and stale weather."""
    rng = np.random.default_rng(0)
    minutes = rng.integers(0, 40 * 60, 500)
    examples = pd.DataFrame(
        {
            "trip_id": [f"t{number}" for number in rng.integers(0, 45, 500)],
            "due": START + pd.to_timedelta(minutes, unit="min"),
        }
    )
    examples = pd.concat([examples, examples.head(50)], ignore_index=True)
    examples.index = pd.Index(range(7, 557))
    joined = store.join(folder, examples, VIEWS, time="due")
    assert list(joined.index) == list(examples.index)
    pd.testing.assert_frame_equal(joined[["trip_id", "due"]], examples)

    known = examples.merge(trips(40).drop(columns="known_at"), on="trip_id", how="left")
    weathers = weather(30).sort_values("known_at")
    expected = pd.merge_asof(
        known.assign(row=range(len(known))).sort_values("due"),
        weathers.rename(columns={"airport": "origin"}),
        left_on="due",
        right_on="known_at",
        by="origin",
        tolerance=timedelta(hours=3),
    ).sort_values("row")
    assert joined["temp"].isna().sum() > 50
    np.testing.assert_array_equal(
        joined["temp"].to_numpy(dtype=float), expected["temp"].to_numpy(dtype=float)
    )
    assert joined["origin"].isna().sum() == (~examples["trip_id"].isin(trips(40)["trip_id"])).sum()


def test_types_come_from_the_definitions(folder: Path) -> None:
    found = {column.name: column.type for column in store.columns(folder, VIEWS)}
    assert found == {"origin": "string", "miles": "long", "temp": "double"}


def test_a_changed_view_needs_a_new_name(folder: Path) -> None:
    assert store.apply(folder, definitions) == ["trip_v1", "weather_v1"]
    with pytest.raises(Conflict, match="feature view weather_v1 is registered as") as caught:
        store.apply(folder, lambda data: definitions(data, extra="gust"))
    assert caught.value.hint == "a view is never edited: name the new one weather_v2"
    with pytest.raises(Conflict, match="ttl"):
        store.apply(folder, lambda data: definitions(data, temp_hours=4))


def test_bad_tables_are_named(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"'rain_v1' is not registered; .*'trip_v1', 'weather_v1'"):
        store.write(folder, "rain_v1", weather(1))
    with pytest.raises(InvalidInput, match=r"weather_v1: its table lacks \['temp'\]"):
        store.write(folder, "weather_v1", weather(1).drop(columns="temp"))
    with pytest.raises(InvalidInput, match="is not unique"):
        store.write(folder, "weather_v1", pd.concat([weather(1), weather(1)]))
    naive = weather(1).assign(known_at=datetime(2013, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidInput, match=r"weather_v1.known_at: expected times with a zone"):
        store.write(folder, "weather_v1", naive)


def test_local_times_are_the_same_moments(folder: Path) -> None:
    local = weather(30)
    local["known_at"] = local["known_at"].dt.tz_convert(ZoneInfo("America/New_York"))
    store.write(folder, "weather_v1", local)
    examples = pd.DataFrame({"trip_id": ["t0"], "due": [START + timedelta(hours=5, minutes=30)]})
    assert store.join(folder, examples, VIEWS, time="due")["temp"].tolist() == [5.0]


def test_a_release_and_its_views_must_agree(folder: Path) -> None:
    examples = pd.DataFrame({"trip_id": ["t0"], "due": [START]})
    wrong_age = WEATHER.model_copy(update={"max_age_seconds": 60})
    with pytest.raises(InvalidInput, match="max_age_seconds = 60: the join uses its ttl, 10800 s"):
        store.join(folder, examples, [TRIP, wrong_age], time="due")
    unknown = FeatureView(view="trip_v1", features=["weight"], join_key="trip_id")
    with pytest.raises(InvalidInput, match=r"trip_v1 has no feature \['weight'\]"):
        store.join(folder, examples, [unknown], time="due")
    with pytest.raises(InvalidInput, match="examples lack 'trip_id'"):
        store.join(folder, examples.drop(columns="trip_id"), VIEWS, time="due")


def test_the_online_store_never_goes_back(folder: Path) -> None:
    later, earlier = START + timedelta(hours=10), START + timedelta(hours=4)
    first = store.materialize(folder, until=later)
    assert first["weather_v1"] == (later - timedelta(hours=3), later)
    assert store.materialize(folder, until=earlier) == {"trip_v1": None, "weather_v1": None}
    assert store.materialize(folder, until=later) == {"trip_v1": None, "weather_v1": None}
    on = store.materialize(folder, until=later + timedelta(hours=1))
    assert on["weather_v1"] == (later, later + timedelta(hours=1))
    with pytest.raises(InvalidInput, match="expected a time with a zone"):
        store.materialize(folder, until=datetime(2013, 1, 2))  # noqa: DTZ001


def test_what_is_pushed_is_online_at_once_and_no_materialization_puts_older_rows_over_it(
    folder: Path,
) -> None:
    store.materialize(folder, until=START + timedelta(hours=4))
    opened = store.open_store(folder)
    rows = weather(30)
    recent = rows[rows["known_at"] <= START + timedelta(hours=9)]
    assert store.push(opened, "weather_v1", recent) == rows["airport"].nunique()
    assert _online(folder) == 9.0
    assert store.materialize(folder, until=START + timedelta(hours=8)) == {
        "trip_v1": (START + timedelta(hours=4), START + timedelta(hours=8)),
        "weather_v1": None,
    }
    old = rows[rows["known_at"] <= START + timedelta(hours=5)]
    assert store.push(opened, "weather_v1", old) == 0
    assert _online(folder) == 9.0
    later = START + timedelta(hours=12)
    done = store.materialize(folder, until=later)
    assert done["weather_v1"] == (START + timedelta(hours=9), later)
    assert _online(folder) == 12.0


def _online(folder: Path) -> float:
    """The temperature online at the first airport."""
    airport = weather(1)["airport"].iloc[0]
    found = store.open_store(folder).get_online_features(
        features=["weather_v1:temp"], entity_rows=[{"airport": airport}]
    )
    return float(found.to_dict()["temp"][0])
