"""Whether a decoded JSON value is an event of version 1. Closed: an unknown key is an error.

The usual case is one pass of type look-ups, a few microseconds; sentences are only built when
something is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from proa.errors import InvalidInput
from proa.events.event import EVENT_BYTES, SCHEMA_VERSION, Event
from proa.http.clock import parse_time
from proa.release.reference import ReleaseRef, check_name

__all__ = ["check_event", "event_time"]

Types = frozenset[type]
_NONE: Final[type] = type(None)
_TEXT: Final[Types] = frozenset({str})
_TEXT_OR_NULL: Final[Types] = frozenset({str, _NONE})
_WHOLE: Final[Types] = frozenset({int})
_WHOLE_OR_NULL: Final[Types] = frozenset({int, _NONE})
_NUMBER_OR_NULL: Final[Types] = frozenset({int, float, _NONE})
_SCALARS: Final[Types] = frozenset({str, int, float, bool, _NONE})
_LIST_OR_NULL: Final[Types] = frozenset({list, _NONE})
_OBJECT: Final[Types] = frozenset({dict})
_OBJECT_OR_NULL: Final[Types] = frozenset({dict, _NONE})
_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SHORT: Final = 256
"""Characters of an identifying text: request, team, unit, …"""
_ATTRIBUTES: Final = 16
"""Protected attributes of one prediction."""
_NAME: Final = 64
"""Characters of an attribute's name."""
_COLUMNS: Final = 2000
"""Columns of one prediction."""
_VECTOR: Final = 1 << 14
"""Characters of a vector: 6,144 numbers of float16 in base64."""
_WEIGHT: Final = 1_000_000
"""The most answers that one judged answer may stand for."""

_COMMON: Final[dict[str, Types]] = {
    "schema_version": _WHOLE,
    "type": _TEXT,
    "id": _TEXT,
    "request": _TEXT_OR_NULL,
    "model": _TEXT,
    "kind": _TEXT,
    "release": _TEXT_OR_NULL,
    "track": _TEXT_OR_NULL,
    "purpose": _TEXT,
    "team": _TEXT_OR_NULL,
    "feature": _TEXT_OR_NULL,
    "unit": _TEXT_OR_NULL,
    "variant": _TEXT_OR_NULL,
    "time": _TEXT,
    "status": _WHOLE_OR_NULL,
    "latency_ms": _NUMBER_OR_NULL,
    "trace": _TEXT_OR_NULL,
}
_SHORT_TEXTS: Final = ("request", "team", "feature", "unit", "variant", "trace")
_FIELDS: Final[dict[str, tuple[tuple[str, Types], ...]]] = {
    name: tuple((_COMMON | own).items())
    for name, own in {
        "prediction": {
            "rows": _WHOLE,
            "entity": _LIST_OR_NULL,
            "inputs": _OBJECT,
            "outputs": _OBJECT,
            "reasons": _LIST_OR_NULL,
            "features": _OBJECT_OR_NULL,
        },
        "answer": {
            "question": _TEXT,
            "answer": _TEXT,
            "tokens_in": _WHOLE_OR_NULL,
            "tokens_out": _WHOLE_OR_NULL,
            "ttft_ms": _NUMBER_OR_NULL,
            "finish_reason": _TEXT_OR_NULL,
            "refused": frozenset({bool}),
            "retrieved": frozenset({list}),
            "guard": frozenset({list}),
            "context": _OBJECT_OR_NULL,
        },
        "judgement": {
            "name": _TEXT,
            "score": _WHOLE_OR_NULL,
            "good": frozenset({bool, _NONE}),
            "judge": _TEXT,
            "digest": _TEXT,
            "weight": frozenset({int, float}),
            "topic": _WHOLE_OR_NULL,
            "tokens": _WHOLE,
            "why": _TEXT_OR_NULL,
        },
        "label": {"entity": _SCALARS | _OBJECT, "value": _SCALARS},
        "feedback": {"value": _SCALARS, "comment": _TEXT_OR_NULL},
    }.items()
}
_OPTIONAL: Final[dict[str, dict[str, Types]]] = {
    "prediction": {"attributes": _OBJECT_OR_NULL},
    "answer": {
        "embeddings": _OBJECT_OR_NULL,
        "index": _OBJECT_OR_NULL,
        "groundedness": _NUMBER_OR_NULL,
        "tokens_cached": _WHOLE_OR_NULL,
    },
}
"""Keys that an event of version 1 may leave out: they came later. Absent means not known."""
_KINDS: Final = {"prediction": ("classic",), "answer": ("llm",), "judgement": ("llm",)}
_WORDS: Final[dict[type, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    _NONE: "null",
}


def check_event(event: object, *, size: int = 0) -> Event:
    """Return `event` if it is an event of version 1.

    Args:
        event: a decoded JSON value.
        size: its bytes as JSON, when known; more than `EVENT_BYTES` is refused.

    Raises:
        InvalidInput: `param` is the key at fault, the message says what was expected.
    """
    if type(event) is not dict:
        raise InvalidInput(f"an event must be an object, got {_words(event)}")
    if size > EVENT_BYTES:
        raise InvalidInput(f"the event has {size:,} bytes: at most {EVENT_BYTES:,} are allowed")
    if event.get("schema_version") != SCHEMA_VERSION or event["schema_version"] is True:
        raise _wrong(event, "schema_version", f"{SCHEMA_VERSION}, the only version known here")
    event_type = event.get("type")
    fields = _FIELDS.get(event_type) if type(event_type) is str else None
    if fields is None:
        raise _wrong(event, "type", f"one of {', '.join(_FIELDS)}")
    try:
        for key, types in fields:
            if type(event[key]) not in types:
                raise _wrong(event, key, " or ".join(sorted(_WORDS[t] for t in types)))
    except KeyError:
        missing = next(key for key, _ in fields if key not in event)
        raise InvalidInput(f"{missing} is missing", param=missing) from None
    if len(event) != len(fields):
        _check_optional(event, {key for key, _ in fields}, _OPTIONAL.get(str(event_type), {}))
    _check_common(event)
    _CHECKS[event["type"]](event)
    return event


def _check_optional(event: Event, known: set[str], optional: Mapping[str, Types]) -> None:
    for key in event:
        if key in known:
            continue
        if key not in optional:
            raise InvalidInput(
                f"{key!r:.80} is not a key of a version {SCHEMA_VERSION} {event['type']}",
                param=str(key)[:80],
            )
        if type(event[key]) not in optional[key]:
            raise _wrong(event, key, " or ".join(sorted(_WORDS[t] for t in optional[key])))


def event_time(event: Event) -> datetime:
    """The event time, in UTC.

    Raises:
        InvalidInput: no RFC 3339 date-time, or without a time zone.
    """
    try:
        moment = datetime.fromisoformat(event["time"])
        if moment.tzinfo is UTC:
            return moment
    except ValueError:
        pass
    return parse_time(event["time"])


def _check_common(event: Event) -> None:
    if not _ULID.fullmatch(event["id"]):
        raise _wrong(event, "id", "a ULID: 26 characters of Crockford's base 32")
    _known_name(event["model"])
    kind, track = event["kind"], event["track"]
    if kind not in _KINDS.get(event["type"], ("classic", "llm")):
        expected = " or ".join(_KINDS.get(event["type"], ("classic", "llm")))
        raise _wrong(event, "kind", f"{expected} for a {event['type']}")
    if track is not None and track != "champion" and track != "challenger":
        raise _wrong(event, "track", "champion, challenger or null")
    if event["purpose"] not in ("user", "gate", "judge", "agent", "shadow"):
        raise _wrong(event, "purpose", "user, gate, judge, agent or shadow")
    release = event["release"]
    if release is not None and _release_name(release) != event["model"]:
        raise _wrong(event, "release", f"a release of {event['model']}")
    for key in _SHORT_TEXTS:
        text = event[key]
        if text is not None and len(text) > _SHORT:
            raise _wrong(event, key, f"at most {_SHORT} characters")
    if event["latency_ms"] is not None and not 0 <= event["latency_ms"] < 1e9:
        raise _wrong(event, "latency_ms", "milliseconds, from 0")
    if event["status"] is not None and not 100 <= event["status"] <= 599:
        raise _wrong(event, "status", "an HTTP status from 100 to 599")
    event_time(event)


def _check_answered(event: Event) -> None:
    for key in ("release", "request", "status", "latency_ms"):
        if event[key] is None or event[key] == "":
            raise _wrong(event, key, "a value: somebody was answered")


def _check_prediction(event: Event) -> None:
    _check_answered(event)
    rows = event["rows"]
    if rows < 0:
        raise _wrong(event, "rows", "a number of rows, from 0")
    for key in ("inputs", "outputs"):
        columns = event[key]
        if len(columns) > _COLUMNS:
            raise InvalidInput(
                f"{key} has {len(columns):,} columns: at most {_COLUMNS:,} are allowed", param=key
            )
        for column, values in columns.items():
            if type(values) is not list or len(values) != rows:
                raise _wrong_column(f"{key}.{column}", values, f"an array of {rows} values")
            if not _SCALARS.issuperset(map(type, values)) and key == "inputs":
                raise _wrong_column(f"{key}.{column}", values, "strings, numbers, booleans, nulls")
    for key in ("entity", "reasons"):
        if event[key] is not None and len(event[key]) != rows:
            raise _wrong_column(key, event[key], f"an array of {rows} values")
    if "attributes" in event:
        _check_attributes(event)


def _check_attributes(event: Event) -> None:
    attributes, rows = event["attributes"] or {}, event["rows"]
    if len(attributes) > _ATTRIBUTES:
        raise InvalidInput(
            f"attributes has {len(attributes):,} names: at most {_ATTRIBUTES} are allowed",
            param="attributes",
        )
    for name, values in attributes.items():
        if not 0 < len(name) <= _NAME:
            raise InvalidInput(
                f"attributes: a name has {len(name):,} characters: expected 1 to {_NAME}",
                param="attributes",
            )
        if type(values) is not list or len(values) != rows:
            raise _wrong_column(f"attributes.{name}", values, f"an array of {rows} values")
        if not _SCALARS.issuperset(map(type, values)):
            raise _wrong_column(f"attributes.{name}", values, "strings, numbers, booleans, nulls")


def _check_answer(event: Event) -> None:
    _check_answered(event)
    for key in ("tokens_in", "tokens_out", "ttft_ms"):
        if event[key] is not None and not 0 <= event[key] < 1e12:
            raise _wrong(event, key, "a number from 0")
    for key in ("retrieved", "guard"):
        for item in event[key]:
            if type(item) is not dict:
                raise _wrong(event, key, "an array of objects")
    _check_embeddings(event, event.get("embeddings"))
    _check_index(event, event.get("index"))
    grounded, cached = event.get("groundedness"), event.get("tokens_cached")
    if grounded is not None and not 0 <= grounded <= 1:
        raise _wrong(event, "groundedness", "a share from 0 to 1")
    if cached is not None and not 0 <= cached < 1e12:
        raise _wrong(event, "tokens_cached", "a number from 0")


def _check_embeddings(event: Event, given: Mapping[str, Any] | None) -> None:
    """Base64 is not decoded here: whoever counts leaves out what is none."""
    if given is None:
        return
    known = {"embedder", "name", "question", "answer"}
    if not known.issuperset(given) or type(given.get("embedder")) is not str:
        raise InvalidInput(
            f"embeddings has the keys {sorted(map(str, given))!r:.80}: expected embedder, name, "
            "question, answer",
            param="embeddings",
        )
    for key in known:
        text = given.get(key)
        if text is not None and (type(text) is not str or len(text) > _VECTOR):
            raise _wrong_column(
                f"embeddings.{key}", text, f"a text of at most {_VECTOR:,} characters"
            )


def _check_index(event: Event, given: Mapping[str, Any] | None) -> None:
    for key, value in (given or {}).items():
        if type(key) is not str or type(value) not in _SCALARS or len(str(value)) > _SHORT:
            raise _wrong(event, "index", "digest, documents, newest")


def _check_judgement(event: Event) -> None:
    for key in ("request", "release"):
        if not event[key]:
            raise _wrong(event, key, "a value: it judges one answer")
    for key in ("name", "judge", "digest", "why"):
        if event[key] is not None and len(event[key]) > _SHORT:
            raise _wrong(event, key, f"at most {_SHORT} characters")
    score, weight = event["score"], event["weight"]
    if score is not None and not 1 <= score <= 5:
        raise _wrong(event, "score", "1 to 5, or null when it cannot be read")
    if (score is None) != (event["good"] is None):
        raise _wrong(event, "good", "true or false with a score, null without")
    if not 0 <= weight <= _WEIGHT:
        raise _wrong(event, "weight", f"a number from 0 to {_WEIGHT:,}")
    if not 0 <= event["tokens"] < 1e9:
        raise _wrong(event, "tokens", "a number from 0")


def _check_label(event: Event) -> None:
    if event["value"] is None:
        raise _wrong(event, "value", "the true label: a string, number or boolean")
    if event["request"] is None and event["entity"] is None:
        raise InvalidInput(
            "a label needs request or entity: what it is the truth of", param="request"
        )


def _check_feedback(event: Event) -> None:
    if event["value"] is None:
        raise _wrong(event, "value", "a string, number or boolean")
    if not event["request"]:
        raise _wrong(event, "request", "the request that the feedback is about")


_CHECKS: Final[dict[str, Callable[[Event], None]]] = {
    "prediction": _check_prediction,
    "answer": _check_answer,
    "judgement": _check_judgement,
    "label": _check_label,
    "feedback": _check_feedback,
}


@lru_cache(maxsize=1024)
def _release_name(text: str) -> str:
    try:
        return ReleaseRef.parse(text[:_SHORT]).name
    except InvalidInput as error:
        raise InvalidInput(error.message, param="release") from error


@lru_cache(maxsize=1024)
def _known_name(text: str) -> str:
    try:
        return check_name(text)
    except InvalidInput as error:
        raise InvalidInput(error.message[:200], param="model") from error


def _wrong(event: Event, key: str, expected: str) -> InvalidInput:
    if key not in event:
        return InvalidInput(f"{key} is missing: expected {expected}", param=key)
    return _wrong_column(key, event[key], expected)


def _wrong_column(key: str, value: Any, expected: str) -> InvalidInput:
    shown = f"{value!r:.80}" if len(str(key)) < _SHORT else "…"
    return InvalidInput(f"{key[:_SHORT]} = {shown}: expected {expected}", param=key[:_SHORT])


def _words(value: object) -> str:
    return _WORDS.get(type(value), type(value).__name__)
