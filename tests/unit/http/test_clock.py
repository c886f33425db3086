from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.http.clock import ReplayClock, SteadyClock, WallClock, parse_time, rfc3339

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001
    timezones=st.just(UTC),
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
)


def test_the_wall_is_in_utc() -> None:
    assert WallClock().now().utcoffset() == timedelta(0)


def test_a_replay_moves_on_and_never_back() -> None:
    clock = ReplayClock(NOON)
    assert clock.now() == NOON
    assert clock.advance(timedelta(hours=1)) == clock.now() == NOON + timedelta(hours=1)
    with pytest.raises(InvalidInput, match="cannot go back"):
        clock.set(NOON)
    with pytest.raises(InvalidInput, match="time zone"):
        clock.set(datetime(2027, 1, 1))  # noqa: DTZ001


@given(MOMENTS, MOMENTS)
def test_texts_sort_as_times_and_come_back(one: datetime, other: datetime) -> None:
    assert (rfc3339(one) < rfc3339(other)) == (one < other)
    assert parse_time(rfc3339(one)) == one


def test_other_zones_are_read_as_utc() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert rfc3339(local) == "2026-11-21T12:00:00.000000Z"
    assert parse_time("2026-11-21T14:00:00+02:00") == NOON


@pytest.mark.parametrize("text", ["yesterday", "", "2026-11-21T12:00:00"])
def test_bad_times_are_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="since = ") as caught:
        parse_time(text, what="since")
    assert caught.value.param == "since"


def test_a_steady_clock_runs_on_while_the_wall_is_set() -> None:
    wall = ReplayClock(datetime(2026, 11, 21, tzinfo=UTC))
    uptime = [50.0]
    steady = SteadyClock(wall, lambda: uptime[0])
    begun = steady.now()
    assert begun == wall.now()
    wall.advance(timedelta(hours=5))
    assert steady.now() == begun
    uptime[0] += 3
    assert steady.now() == begun + timedelta(seconds=3)
