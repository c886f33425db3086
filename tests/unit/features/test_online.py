"""The online client's rules: stages of keys, parsing, ages. No process, no Feast."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.features.online import (
    check_ages,
    check_entities,
    groups,
    key_values,
    parse_view,
    request_body,
)
from proa.release.manifest import FeatureView

FLIGHT = FeatureView(view="schedule_v1", features=["origin", "dest"], join_key="flight_id")
WEATHER = FeatureView(
    view="weather_v1",
    features=["temp"],
    join_key="airport",
    from_feature="schedule_v1:origin",
    max_age_seconds=3600,
)
DELAY = FeatureView(
    view="delay_v1", features=["mean"], join_key="airport", from_feature="schedule_v1:origin"
)
THERE = FeatureView(
    view="arrival_v1", features=["wind"], join_key="airport", from_feature="schedule_v1:dest"
)


def vector(values: list[Any], statuses: list[str], times: list[str]) -> dict[str, Any]:
    return {"values": values, "statuses": statuses, "event_timestamps": times}


def answer(**features: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"feature_names": list(features)}, "results": list(features.values())}


def test_views_with_the_same_key_share_a_request_and_others_do_not() -> None:
    assert groups([FLIGHT, WEATHER, DELAY]) == [[FLIGHT], [WEATHER, DELAY]]
    # both are keyed by `airport`, but by another airport: one request would mix them up
    assert groups([FLIGHT, WEATHER, THERE]) == [[FLIGHT], [WEATHER], [THERE]]


def test_a_key_must_come_from_an_earlier_view() -> None:
    with pytest.raises(InvalidInput, match="weather_v1: from_feature = 'schedule_v1:origin'"):
        groups([WEATHER, FLIGHT])


def test_entities_are_checked_by_name() -> None:
    with pytest.raises(InvalidInput, match="lack 'flight_id', the key of feature view schedule_v1"):
        check_entities([FLIGHT, WEATHER], {"flight": ["a"]})
    with pytest.raises(InvalidInput, match=r"flight_id\[1\] is null"):
        check_entities([FLIGHT], {"flight_id": ["a", None]})
    two = FeatureView(view="b_v1", features=["x"], join_key="b")
    with pytest.raises(InvalidInput, match=r"differ in length: \{'flight_id': 1, 'b': 2\}"):
        check_entities([FLIGHT, two], {"flight_id": ["a"], "b": [1, 2]})
    assert check_entities([FLIGHT, WEATHER], {"flight_id": ["a"]}) == {"flight_id": ["a"]}


def test_the_second_key_is_read_from_the_first_view() -> None:
    assert key_values(WEATHER, {}, {"origin": ["EWR", "JFK"]}) == ["EWR", "JFK"]
    with pytest.raises(Unavailable, match="schedule_v1:origin is null for entity 1") as caught:
        key_values(WEATHER, {}, {"origin": ["EWR", None]})
    assert caught.value.code == "missing_feature"


def test_request_names_features_in_full() -> None:
    assert request_body([WEATHER, DELAY], ["EWR"]) == {
        "features": ["weather_v1:temp", "delay_v1:mean"],
        "entities": {"airport": ["EWR"]},
        "full_feature_names": True,
    }


def test_values_and_event_times_are_taken_apart() -> None:
    stamps = ["2013-01-01T10:00:00Z", "2013-01-01T11:00:00Z"]
    body = answer(
        airport=vector(["EWR", "JFK"], ["PRESENT"] * 2, ["1970-01-01T00:00:00Z"] * 2),
        weather_v1__temp=vector([39.0, None], ["PRESENT", "NULL_VALUE"], stamps),
    )
    rows = parse_view(body, WEATHER, ["EWR", "JFK"])
    assert rows.columns == {"temp": [39.0, None]}
    assert rows.times[1] == datetime(2013, 1, 1, 11, tzinfo=UTC)


def test_an_unknown_entity_is_named() -> None:
    gone = vector([None], ["NOT_FOUND"], ["1970-01-01T00:00:00Z"])
    body = answer(schedule_v1__origin=gone, schedule_v1__dest=gone)
    with pytest.raises(NotFound, match="flight_id 'X' has no row in feature view schedule_v1") as e:
        parse_view(body, FLIGHT, ["X"])
    assert (e.value.code, e.value.param) == ("unknown_entity", "flight_id")


def test_a_missing_row_behind_a_derived_key_is_not_the_callers_mistake() -> None:
    body = answer(weather_v1__temp=vector([None], ["NOT_FOUND"], ["1970-01-01T00:00:00Z"]))
    with pytest.raises(Unavailable, match=r"airport 'EWR' .* \(key from schedule_v1:origin\)") as e:
        parse_view(body, WEATHER, ["EWR"])
    assert e.value.code == "missing_feature"


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"metadata": {}},
        answer(),
        answer(weather_v1__temp={"values": [1.0]}),
        answer(weather_v1__temp=vector([1.0, 2.0], ["PRESENT"], ["2013-01-01T10:00:00Z"])),
    ],
)
def test_an_answer_of_another_shape_is_no_value(body: Any) -> None:
    with pytest.raises(Unavailable, match="feature server") as caught:
        parse_view(body, WEATHER, ["EWR"])
    assert caught.value.code == "features_unavailable"


def test_old_rows_are_refused_by_name_and_age() -> None:
    check_ages(WEATHER, ["EWR"], [3600.0])
    check_ages(WEATHER, ["EWR"], [-10.0])
    check_ages(DELAY, ["EWR"], [1e9])
    with pytest.raises(Unavailable, match="weather_v1: the row of airport 'JFK' is 3601 s") as e:
        check_ages(WEATHER, ["EWR", "JFK"], [10.0, 3601.0])
    assert (e.value.code, e.value.param) == ("stale_feature", "weather_v1")


def test_reading_online_needs_neither_feast_nor_pandas() -> None:
    code = (
        "import sys, proa.features.online; print(*(m in sys.modules for m in ('feast', 'pandas')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
