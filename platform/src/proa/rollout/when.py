"""Times as people give them: RFC 3339, a date, `2 hours ago`, `yesterday`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from proa.errors import InvalidInput
from proa.http.clock import parse_time

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week|[smhdw])s?(?:\s+ago)?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
EXPECTED = "expected RFC 3339 as 2026-11-21T11:30:00Z, a date, or as 2 hours ago"


def parse_when(text: str, *, now: datetime, what: str = "at") -> datetime:
    """A moment in UTC. A bare date is its midnight in UTC.

    Args:
        now: what `ago` counts from.
        what: names the time in the error.

    Raises:
        InvalidInput: another form, no time zone, or a time that has not come yet.
    """
    plain = " ".join(text.strip().lower().split())
    moment = _parse(plain, text, now, what)
    if moment > now:
        raise InvalidInput(f"{what} = {text!r}: that has not come yet", param=what)
    return moment


def _parse(plain: str, text: str, now: datetime, what: str) -> datetime:
    if plain == "now":
        return now
    if plain in ("today", "yesterday"):
        back = timedelta(days=int(plain == "yesterday"))
        return datetime.combine((now - back).astimezone(UTC).date(), time(), UTC)
    found = _AGO.fullmatch(plain)
    if found is not None:
        unit = _UNITS[found[2][0]]
        try:
            return now - timedelta(**{unit: float(found[1])})
        except OverflowError as error:
            raise InvalidInput(f"{what} = {text!r}: too long ago", param=what) from error
    try:
        return datetime.combine(date.fromisoformat(plain), time(), UTC)
    except ValueError:
        pass
    try:
        datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(f"{what} = {text!r}: {EXPECTED}", param=what) from error
    return parse_time(text.strip(), what=what)
