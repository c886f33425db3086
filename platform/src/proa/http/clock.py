"""Where time comes from: the wall, or a replay of past data."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from proa.errors import InvalidInput

__all__ = ["Clock", "ReplayClock", "SteadyClock", "WallClock", "parse_time", "rfc3339"]


class Clock(Protocol):
    """The one source of event time."""

    def now(self) -> datetime:
        """The present moment, time zone aware, in UTC."""


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SteadyClock:
    """A clock for waits: it begins at another clock's moment and runs on by the machine's uptime,
    so that a clock that is set back or forth neither ends a wait nor stretches it.

    Args:
        clock: says when it is now.
        uptime: seconds since any moment, never going back.
    """

    def __init__(self, clock: Clock, uptime: Callable[[], float] = time.monotonic) -> None:
        self._begun, self._uptime = clock.now(), uptime
        self._offset = uptime()

    def now(self) -> datetime:
        return self._begun + timedelta(seconds=self._uptime() - self._offset)


class ReplayClock:
    """A clock that stands still until it is moved, and never moves back.

    Args:
        start: the first moment; time zone aware.
    """

    def __init__(self, start: datetime) -> None:
        self._now = _aware(start)

    def now(self) -> datetime:
        return self._now

    def advance(self, step: timedelta) -> datetime:
        """Move on by `step` and return the new moment."""
        return self.set(self._now + step)

    def set(self, moment: datetime) -> datetime:
        """Move on to `moment`.

        Raises:
            InvalidInput: `moment` lies before the present one or has no time zone.
        """
        moment = _aware(moment)
        if moment < self._now:
            raise InvalidInput(
                f"a replay cannot go back: it is {rfc3339(self._now)}, asked for {rfc3339(moment)}"
            )
        self._now = moment
        return moment


def rfc3339(moment: datetime) -> str:
    """`2026-11-21T11:30:00.123456Z`: fixed width, so that texts sort as times do."""
    return _aware(moment).isoformat(timespec="microseconds")[:26] + "Z"


def parse_time(text: str, *, what: str = "time") -> datetime:
    """Read an RFC 3339 date-time; `what` names it in the error.

    Raises:
        InvalidInput: another form, or no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{what} = {text!r}: expected RFC 3339 as 2026-11-21T11:30:00Z", param=what
        ) from error
    if moment.tzinfo is None:
        raise InvalidInput(
            f"{what} = {text!r}: the time zone is missing; add Z for UTC", param=what
        )
    return moment.astimezone(UTC)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidInput(f"{moment.isoformat()} has no time zone")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
