"""Freeze windows: is this moment frozen, and until when?

A recurring window on a day runs from the first moment at which that day's wall clock shows `from`
to the last moment at which it shows `to`, so that a clock that is set back lengthens a window and
a clock that is set forward never opens a hole in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from proa.errors import InvalidInput, NotFound
from proa.project.check import check_settings
from proa.project.rollout import Freeze, RolloutSection
from proa.project.yamlfile import parse_yaml

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOK_AHEAD = 60  # windows that follow on one another for longer than that end there


def frozen_until(windows: Sequence[Freeze], at: datetime) -> datetime | None:
    """The end of the freeze that `at` lies in, UTC; None when it lies in none.

    Windows that overlap or touch are one freeze. A freeze without an end within 60 further
    windows is reported to end there.
    """
    end = _end(windows, at)
    for _ in range(_LOOK_AHEAD):
        further = None if end is None else _end(windows, end)
        if further is None or further == end:
            break
        end = further
    return end


def _end(windows: Sequence[Freeze], at: datetime) -> datetime | None:
    ends = [
        until for window in windows for since, until in _spans(window, at) if since <= at < until
    ]
    return max(ends, default=None)


def _spans(window: Freeze, at: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The spans of a window that may hold `at`."""
    if not window.recurs:
        yield (
            _instant(window.local(window.from_), first=True),
            _instant(window.local(window.to), first=False),
        )
        return
    zone = ZoneInfo(window.zone)
    today = at.astimezone(zone).date()
    for back in (-1, 0, 1, 2):  # two days back: a window past midnight when the clock is set back
        day = today - timedelta(days=back)
        if not window.days or _DAYS[day.weekday()] in window.days:
            crosses = window.to <= window.from_
            yield (
                _instant(_wall(day, window.from_, zone), first=True),
                _instant(_wall(day + timedelta(days=int(crosses)), window.to, zone), first=False),
            )


def _wall(day: date, clock: str, zone: ZoneInfo) -> datetime:
    if clock == "24:00":
        return datetime.combine(day + timedelta(days=1), time(), zone)
    return datetime.combine(day, time.fromisoformat(clock), zone)


def _instant(wall: datetime, *, first: bool) -> datetime:
    """The moment at which a wall clock shows this, UTC: the first or the last of two.

    A time that the clock skips is the moment of the skip.
    """
    early, late = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return early if first else late
    low, high = late, early  # skipped: the offset changes somewhere between
    zone = wall.tzinfo
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def read_freezes(path: Path) -> tuple[Freeze, ...]:
    """The platform-wide windows of a YAML file with the one key `freeze`; none without the file.

    Raises:
        InvalidInput: names file, key, value and line. A freeze that cannot be read freezes.
    """
    try:
        value, lines = parse_yaml(path.read_bytes(), what=path.name)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from error
    if not isinstance(value, dict) or set(value) != {"freeze"}:
        raise InvalidInput(f"{path.name}: expected the one key freeze with a list of windows")
    section = check_settings(RolloutSection, value, what=path.name, lines=lines)
    return tuple(section.freeze)
