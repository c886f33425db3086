"""Who is calling: the key, and which of the internal headers that key may set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from proa.errors import InvalidInput
from proa.http import headers as names
from proa.http import rights
from proa.http.clock import parse_time, rfc3339
from proa.ledger.keys import Key

__all__ = ["PURPOSES", "Caller", "caller_of", "checked_text"]

PURPOSES: Final = ("user", "gate", "judge", "agent")
# `shadow` is missing on purpose: nobody but the gateway makes such calls.
TEXT_LIMIT: Final = 256

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PARENT, _REQUEST = names.PARENT.encode(), names.REQUEST.encode()
_RELEASE, _TRACK = names.RELEASE.encode(), names.TRACK.encode()
_PURPOSE, _UNIT = names.PURPOSE.encode(), names.UNIT.encode()
_TEAM, _FEATURE = names.TEAM.encode(), names.FEATURE.encode()
_VARIANT = names.VARIANT.encode()
_USER, _CONVERSATION = names.USER.encode(), names.CONVERSATION.encode()
_EVENT_TIME, _TRACE = names.EVENT_TIME.encode(), names.TRACEPARENT.encode()


@dataclass(slots=True)
class Caller:
    """One request's caller, after its headers were held against its key's rights.

    Attributes:
        unit: who is served, as far as the client said so itself.
        user, conversation: what the unit falls back to.
        track: the pinned track (right `judge`), or what a service passed on (right `internal`).
        parent: the request that caused this one (right `internal`).
        event_time: RFC 3339 (right `replay`).
        traceparent: as the client sent it, when it is well formed; `trace` is its trace id.
    """

    key: Key
    team: str
    feature: str
    purpose: str
    track: str | None = None
    release: str | None = None
    variant: str | None = None
    parent: str | None = None
    unit: str | None = None
    user: str | None = None
    conversation: str | None = None
    event_time: str | None = None
    traceparent: str | None = None
    trace: str | None = None

    def forwarded(self, request: str) -> dict[str, str]:
        """The headers a service is sent; nothing of the client's own passes but these."""
        pairs = {
            "content-type": "application/json",
            names.REQUEST: request,
            names.TEAM: self.team,
            names.FEATURE: self.feature,
            names.PURPOSE: self.purpose,
        }
        if self.variant is not None:
            pairs[names.VARIANT] = self.variant
        if self.parent is not None:
            pairs[names.PARENT] = self.parent
        if self.unit is not None:
            pairs[names.UNIT] = _printable(self.unit)
        if self.event_time is not None:
            pairs[names.EVENT_TIME] = self.event_time
        if self.traceparent is not None:
            pairs[names.TRACEPARENT] = self.traceparent
        return pairs


def caller_of(key: Key, headers: Mapping[bytes, bytes]) -> Caller:
    """Read the caller from its headers; a header the key has no right to is as if not sent.

    Raises:
        InvalidInput: a header the key may set has a value that means nothing.
    """
    caller = Caller(key, key.team, key.feature, "user")
    internal, judge = key.may(rights.INTERNAL), key.may(rights.JUDGE)
    if internal or judge:
        caller.purpose = _purpose(headers.get(_PURPOSE))
        caller.track = _text(headers, _TRACK)
    if internal:
        caller.team = _text(headers, _TEAM) or key.team
        caller.feature = _text(headers, _FEATURE) or key.feature
        caller.release, caller.variant = _text(headers, _RELEASE), _text(headers, _VARIANT)
        # A service names its own request either way.
        caller.parent = _text(headers, _PARENT) or _text(headers, _REQUEST)
    caller.unit, caller.user = _text(headers, _UNIT), _text(headers, _USER)
    caller.conversation = _text(headers, _CONVERSATION)
    if _EVENT_TIME in headers and key.may(rights.REPLAY):
        text = headers[_EVENT_TIME].decode("latin-1")
        caller.event_time = rfc3339(parse_time(text, what=names.EVENT_TIME))
    if _TRACE in headers and (match := _TRACEPARENT.fullmatch(headers[_TRACE])):
        caller.traceparent, caller.trace = headers[_TRACE].decode(), match[1].decode()
    return caller


def checked_text(value: object, what: str) -> str | None:
    """A short text or nothing; an empty one is nothing.

    Raises:
        InvalidInput: another type, or longer than 256 characters.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(
            f"{what} = {str(value)[:80]}: expected a string", code="wrong_type", param=what
        )
    if len(value) > TEXT_LIMIT:
        raise InvalidInput(
            f"{what} has {len(value):,} characters: at most {TEXT_LIMIT} are allowed", param=what
        )
    return value


def _purpose(value: bytes | None) -> str:
    purpose = "user" if value is None else value.decode("latin-1")
    if purpose not in PURPOSES:
        raise InvalidInput(
            f"{names.PURPOSE} = {purpose!r}: expected one of {', '.join(PURPOSES)}",
            param=names.PURPOSE,
        )
    return purpose


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else checked_text(value.decode("latin-1"), name.decode())


def _printable(text: str) -> str:
    """A header cannot carry line ends or other alphabets: those are percent-encoded."""
    return text if text.isascii() and text.isprintable() else quote(text)
