"""Freeze windows: against the wall clock, minute by minute, through both changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.project.check import check_settings
from proa.project.rollout import Freeze
from proa.rollout.freeze import frozen_until, read_freezes

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
         "Pacific/Apia", "America/Santiago"]  # fmt: skip


def window(**keys: Any) -> Freeze:
    return check_settings(Freeze, {key.rstrip("_"): value for key, value in keys.items()}, what="f")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def shows(freeze: Freeze, at: datetime) -> bool:
    """Whether the wall clock reads a time inside the window: the plain reading of the words."""
    wall = at.astimezone(ZoneInfo(freeze.zone))
    now, start, end = wall.hour * 60 + wall.minute, minutes(freeze.from_), minutes(freeze.to)
    today, yesterday = DAYS[wall.weekday()], DAYS[wall.weekday() - 1]
    if start < end:
        return (not freeze.days or today in freeze.days) and start <= now < end
    begun = (not freeze.days or today in freeze.days) and now >= start
    carried = (not freeze.days or yesterday in freeze.days) and now < end
    return begun or carried


START = utc("2026-01-01")
clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
# Moments near a change of the clock, and any others.
moments = st.one_of(
    st.integers(0, 2 * 365 * 24 * 60).map(lambda n: START + timedelta(minutes=n)),
    st.builds(
        lambda day, minute: utc(day) + timedelta(minutes=minute),
        st.sampled_from(
            [
                "2026-03-29",
                "2026-10-25",
                "2026-03-08",
                "2026-11-01",
                "2026-04-05",
                "2026-04-04",
                "2026-10-04",
                "2026-09-06",
            ]
        ),
        st.integers(-600, 1800),
    ),
)


@given(
    at=moments,
    zone=st.sampled_from(ZONES),
    days=st.lists(st.sampled_from(DAYS), unique=True, max_size=4),
    start=clocks,
    end=clocks | st.just("24:00"),
)
@example(at=utc("2026-10-25T00:40"), zone="Europe/Berlin", days=["sun"], start="01:00", end="02:30")
@example(at=utc("2026-03-29T00:59"), zone="Europe/Berlin", days=[], start="02:10", end="02:50")
def test_a_window_is_what_the_wall_clock_shows(
    at: datetime, zone: str, days: list[str], start: str, end: str
) -> None:
    if start == end:
        return
    freeze = window(days=days, from_=start, to=end, zone=zone)
    until = frozen_until([freeze], at)
    if shows(freeze, at):
        assert until is not None
    if until is None or until - at > timedelta(days=10):
        return
    assert until > at
    assert frozen_until([freeze], until) is None
    # Every minute up to the end is frozen, and the wall clock agrees but in an hour that is
    # repeated, or where days without a gap follow on one another.
    here = ZoneInfo(zone)
    for share in range(10):
        moment = at + timedelta(minutes=int((until - at).total_seconds() // 60 * share // 10))
        assert frozen_until([freeze], moment) == until
        repeated = any(
            (moment + timedelta(minutes=gap)).astimezone(here).utcoffset()
            != moment.astimezone(here).utcoffset()
            for gap in (-90, 90)
        )
        assert shows(freeze, moment) or repeated


@given(at=moments, ahead=st.integers(1, 5000), back=st.integers(0, 5000))
def test_windows_that_touch_are_one(at: datetime, ahead: int, back: int) -> None:
    text = "%Y-%m-%dT%H:%M:%S"
    middle, first, last = at, at - timedelta(minutes=back + 1), at + timedelta(minutes=ahead)
    one = window(from_=first.strftime(text), to=middle.strftime(text))
    two = window(from_=middle.strftime(text), to=last.strftime(text))
    inside = first + (middle - first) / 2
    assert frozen_until([one, two], inside) == last
    assert frozen_until([one], inside) == middle
    assert frozen_until([one, two], last) is None


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-11-20T14:59", None),  # Friday 15:59 in Berlin
        ("2026-11-20T15:00", "2026-11-20T23:00"),
        ("2026-11-20T22:59", "2026-11-20T23:00"),
        ("2026-11-20T23:00", None),
        ("2026-07-17T14:00", "2026-07-17T22:00"),  # summer time
        ("2026-11-21T16:00", None),
        ("2026-12-19T23:30", "2027-01-01T23:00"),
        ("2027-01-01T22:59", "2027-01-01T23:00"),
        ("2027-01-01T23:00", None),
    ],
)
def test_the_example_of_the_readme(at: str, until: str | None) -> None:
    windows = [
        window(days=["fri"], from_="16:00", to="24:00", zone="Europe/Berlin"),
        window(from_="2026-12-20", to="2027-01-02", zone="Europe/Berlin"),
    ]
    assert frozen_until(windows, utc(at)) == (until and utc(until))


@pytest.mark.parametrize(
    ("start", "end", "at", "until"),
    [
        # 25 October: 02:00 to 03:00 comes twice, at 00:00Z and at 01:00Z.
        ("02:15", "02:45", "2026-10-25T00:14", None),
        ("02:15", "02:45", "2026-10-25T00:15", "2026-10-25T01:45"),
        ("02:15", "02:45", "2026-10-25T00:50", "2026-10-25T01:45"),
        ("02:15", "02:45", "2026-10-25T01:45", None),
        # 29 March: at 01:00Z the clock goes from 02:00 to 03:00.
        ("01:30", "02:30", "2026-03-29T00:45", "2026-03-29T01:00"),
        ("01:30", "02:30", "2026-03-29T01:00", None),
        ("02:30", "04:00", "2026-03-29T01:00", "2026-03-29T02:00"),
        ("02:30", "04:00", "2026-03-29T00:59", None),
        ("02:10", "02:50", "2026-03-29T01:00", None),
    ],
)
def test_when_the_clock_is_changed(start: str, end: str, at: str, until: str | None) -> None:
    freeze = window(from_=start, to=end, zone="Europe/Berlin")
    assert frozen_until([freeze], utc(at)) == (until and utc(until))


def test_every_hour_of_every_day_has_an_end_that_can_be_computed() -> None:
    until = frozen_until([window(from_="00:00", to="24:00")], utc("2026-11-20T12:00"))
    assert until is not None
    assert until > utc("2027-01-15T12:00")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"from": "16:00", "to": "25:00"}, "to = '25:00'"),
        ({"from": 960, "to": "24:00"}, 'in quotes as "16:00"'),
        ({"from": "16:00", "to": "16:00"}, "to differ"),
        ({"from": "24:00", "to": "16:00"}, "before 24:00"),
        ({"from": "16:00", "to": "2026-01-01"}, "two clock times or two dates"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "from before to"),
        ({"days": ["fri"], "from": "2026-01-01", "to": "2026-02-01"}, "days only with clock times"),
        ({"days": ["friday"], "from": "16:00", "to": "18:00"}, "days.0 = 'friday'"),
        ({"from": "16:00", "to": "18:00", "zone": "Berlin"}, "zone = 'Berlin'"),
        ({"from": "16:00"}, "to is missing"),
        ({"from": "16:00", "to": "18:00", "day": "fri"}, "day is not a key"),
    ],
)
def test_a_mistake_is_named(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=r"^f: ") as caught:
        check_settings(Freeze, keys, what="f")
    assert said in caught.value.message


def test_the_platform_s_file(tmp_path: Path) -> None:
    file = tmp_path / "freeze.yaml"
    assert read_freezes(file) == ()
    file.write_text("freeze:\n  - {from: 2026-12-20, to: 2027-01-02 12:00:00, zone: Asia/Tokyo}\n")
    (found,) = read_freezes(file)
    assert frozen_until([found], utc("2026-12-25T00:00")) == utc("2027-01-02T03:00")
    for text in ("", "freeze: 3", "other: []", "freeze: [{from: 1}]", "approval: true\nfreeze: []"):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=r"freeze\.yaml"):
            read_freezes(file)
