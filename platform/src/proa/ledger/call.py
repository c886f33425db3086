"""The call, version 1: one record for each request that went through a door of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import orjson

from proa.errors import InvalidInput

__all__ = ["BROKEN_STREAM", "CALL_FIELDS", "CALL_VERSION", "CLIENT_GONE", "Call", "Door"]

CALL_VERSION: Final = 1
Door = Literal["user", "engine"]

CLIENT_GONE: Final = "client_gone"
"""`error` of a call whose client left before the end; no fault of the release."""
BROKEN_STREAM: Final = "broken_stream"
"""`error` of a call whose upstream ended a stream without its end mark; a fault of the release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who called what, when, how it ended and what it cost.

    `request` and `door` identify a call.

    Attributes:
        request: ULID minted by the gateway.
        parent: at the engine door, the request id of the user's call that caused this one.
        started: RFC 3339, microseconds, UTC.
        latency_ms: from the request's arrival until its answer was complete.
        ttft_ms: until the first content of a stream.
        key: id of the key.
        user: the `user` field of a chat request.
        unit: who was served; the canary's stickiness goes by it.
        model: at the engine door None, unless the caller said whom it serves.
        engine: identity, at the engine door.
        status: the HTTP status that the client was sent; a broken stream keeps its 200.
        error: code of the error, if any.
        tokens_in: tokens of the prompt as the upstream counted them; None when it did not say.
        tokens_out: the same of the answer; of a stream that was cut, what had come until then.
        cost_micro: millionths of the currency.
        price: the rates applied, see `proa.ledger.prices`.
        rows: rows predicted by a classic model.
        bins: of what was predicted, `{bin: rows}` as JSON, see `proa.release.facts`.
        finish_reason: why a language answer ended, as OpenAI says: `stop`, `length`, …
        refused, guard_hits: what the assistant said of its answer; None when it said nothing.
        agreed: of a shadow call, the share of rows that were decided as the champion did.
        complete: the answer reached its end.
        trace: trace id of a W3C `traceparent`, 32 hex digits.
    """

    schema_version: int = CALL_VERSION
    request: str
    parent: str | None = None
    door: Door
    started: str
    latency_ms: float
    ttft_ms: float | None = None
    key: str
    team: str
    feature: str
    user: str | None = None
    unit: str | None = None
    purpose: str
    kind: str
    model: str | None = None
    release: str | None = None
    track: str | None = None
    engine: str | None = None
    status: int
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_micro: int = 0
    price: str | None = None
    rows: int | None = None
    stream: bool = False
    complete: bool = True
    trace: str | None = None
    bins: str | None = None
    finish_reason: str | None = None
    refused: bool | None = None
    guard_hits: int | None = None
    agreed: float | None = None

    def to_bytes(self) -> bytes:
        """One line of JSON without its line end."""
        return orjson.dumps(self)

    @classmethod
    def from_bytes(cls, line: bytes) -> Call:
        """Read what `to_bytes` wrote.

        Raises:
            InvalidInput: no JSON object, another version, a missing or an unknown key.
        """
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"a call is not valid JSON: {error}") from error
        return cls.from_wire(value)

    @classmethod
    def from_wire(cls, value: object) -> Call:
        """Read a decoded call; see `from_bytes`."""
        if not isinstance(value, Mapping):
            raise InvalidInput("a call is not a JSON object")
        if value.get("schema_version") != CALL_VERSION:
            raise InvalidInput(
                f"schema_version = {value.get('schema_version')!r} of a call: "
                f"expected {CALL_VERSION}",
                param="schema_version",
            )
        missing, unknown = _REQUIRED - value.keys(), value.keys() - _NAMES
        if missing or unknown:
            raise InvalidInput(f"a call lacks {sorted(missing)} and has unknown {sorted(unknown)}")
        return cls(**value)

    def to_wire(self) -> dict[str, Any]:
        """The call as a JSON object."""
        return {name: getattr(self, name) for name in CALL_FIELDS}


CALL_FIELDS: Final = tuple(field.name for field in fields(Call))
_NAMES: Final = frozenset(CALL_FIELDS)
# A spool may hold calls that a gateway before these fields wrote.
_REQUIRED: Final = _NAMES - {"bins", "finish_reason", "refused", "guard_hits", "agreed"}
