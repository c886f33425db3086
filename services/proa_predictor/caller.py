"""What the gateway says about a call, by header; trusted because only the gateway gets here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from proa.http import headers as names
from proa.http.clock import parse_time
from proa.http.ids import new_id

__all__ = ["Caller", "caller_of"]

_FIELDS: Final[dict[bytes, str]] = {
    names.REQUEST.encode(): "request",
    names.TRACK.encode(): "track",
    names.PURPOSE.encode(): "purpose",
    names.TEAM.encode(): "team",
    names.FEATURE.encode(): "feature",
    names.UNIT.encode(): "unit",
    names.VARIANT.encode(): "variant",
    names.EVENT_TIME.encode(): "event_time",
    names.TRACEPARENT.encode(): "traceparent",
}


@dataclass(slots=True)
class Caller:
    """Who asked, in the words of an event. `request` is made here when nobody gave one."""

    request: str
    track: str | None = None
    purpose: str = "user"
    team: str | None = None
    feature: str | None = None
    unit: str | None = None
    variant: str | None = None
    event_time: str | None = None
    traceparent: str | None = None

    @property
    def trace(self) -> str | None:
        """The trace id inside `traceparent` (W3C Trace Context)."""
        parts = self.traceparent.split("-") if self.traceparent else []
        return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None

    def moment(self) -> datetime | None:
        """The event time, when the gateway passed one on.

        Raises:
            InvalidInput: not an RFC 3339 time with a zone.
        """
        return (
            None if self.event_time is None else parse_time(self.event_time, what=names.EVENT_TIME)
        )


def caller_of(headers: list[tuple[bytes, bytes]]) -> Caller:
    """Read the caller from an ASGI scope's headers."""
    found: dict[str, Any] = {}
    for name, value in headers:
        field = _FIELDS.get(name)
        if field is not None and value:
            found[field] = value.decode("latin-1")
    if "unit" in found:
        found["unit"] = unquote(found["unit"])  # other alphabets come percent-encoded
    if "request" not in found:
        found["request"] = new_id()
    return Caller(**found)
