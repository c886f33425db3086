"""Answers that somebody or something found bad, for the controller's worklist.

Signals: a person's thumb down, a label that says the answer was wrong, a judgement below what was
asked for, a guard's rule that only flags what it lets out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.events.event import Event
from proa.http import rights
from proa.http.clock import parse_time, rfc3339
from proa.http.ids import is_id
from proa.ledger.keys import KeyStore
from proa_monitor.store import EventStore
from proa_monitor.wire import authorized, json_answer, number_of

__all__ = ["bad_answers", "bad_routes", "signal_of"]

_BAD_WORDS: Final = frozenset(
    {"bad", "down", "wrong", "no", "false", "incorrect", "thumbs_down", "thumbsdown", "👎"}
)
_TEXT: Final = 8000
"""Characters of a question or an answer that an item keeps."""
_SHOWN: Final = 20
_MOST: Final = 200
_BEGINNING: Final = "1970-01-01T00:00:00Z"
_SLACK: Final = timedelta(minutes=5)
_FOREIGN: Final = timedelta(days=7)
_ULID: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Read = Callable[[str], Iterable[Event]]
"""Ingest time (RFC 3339) → the model's events that came since."""


def bad_routes(store: EventStore, keys: KeyStore) -> list[BaseRoute]:
    """`GET /v1/models/{name}/bad?since=&limit=`. Right: `read`."""

    async def bad(request: Request) -> Response:
        """Query: `since` (RFC 3339, time of arrival here), `limit`."""
        authorized(keys, request, rights.READ)
        name, query = request.path_params["name"], request.query_params
        since = rfc3339(parse_time(query.get("since", _BEGINNING), what="since"))
        limit = number_of(request, "limit", default=_MOST, most=_MOST)
        return json_answer(
            await asyncio.to_thread(
                bad_answers, lambda begin: store.since(begin, model=name), since, limit=limit
            )
        )

    return [Route("/v1/models/{name}/bad", bad)]


def bad_answers(read: Read, since: str, *, limit: int) -> dict[str, Any]:
    """What was found bad in events ingested at `since` or later.

    Args:
        limit: about so many answers; with more, `truncated` is true and `through` is such that
            nothing is left out by asking again from there.

    Returns:
        `items` (`request release time question answer retrieved signals`), the oldest first;
        `through`: ingest time up to which everything was read; `waiting`: signals whose answer has
        not come, which are not lost: `through` stays before them for a day.
    """
    signals: dict[str, list[dict[str, Any]]] = {}
    came: dict[str, str] = {}
    answers: dict[str, Event] = {}
    newest = since
    for event in read(since):
        newest = max(newest, event["ingested"])
        if event["type"] == "answer" and event.get("purpose") == "user":
            answers[event["request"]] = event
        signal = signal_of(event)
        if signal is not None:
            signals.setdefault(event["request"], []).append(signal)
            first = came.get(event["request"], event["ingested"])
            came[event["request"]] = min(first, event["ingested"])
    answers = _find(read, set(signals), answers, since)
    order = sorted((request for request in signals if request in answers), key=came.__getitem__)
    # What came in one moment stays together: the next look begins at a moment.
    last = came[order[limit - 1]] if len(order) > limit else ""
    shown = [request for request in order if not last or came[request] <= last]
    left = order[len(shown) :]
    waiting = [request for request in signals if request not in answers]
    return {
        "items": [_item(answers[request], signals[request]) for request in shown],
        "through": _through(newest, [came[request] for request in left], waiting, came),
        "truncated": bool(left),
        "waiting": len(waiting),
    }


def signal_of(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an event says against an answer; None when it says nothing."""
    kind, value = event["type"], event.get("value")
    why = str(event.get("comment") or event.get("why") or "")[:500]
    if not event.get("request"):
        return None
    match kind:
        case "feedback" | "label" if _is_bad(value):
            pass
        case "judgement" if event.get("good") is False:
            value = event.get("score")
            why = why or f"{event.get('name')} by {event.get('judge')}"
        case "answer" if event.get("purpose") == "user" and _leaks(event):
            kind, value, why = "guard", _leaks(event), "the rule flags, and lets out"
        case _:
            return None
    return {"event": event["id"], "kind": kind, "value": value, "why": why, "time": event["time"]}


def _is_bad(value: Any) -> bool:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value <= 0
    return isinstance(value, str) and value.strip().casefold() in _BAD_WORDS


def _leaks(event: Mapping[str, Any]) -> list[str]:
    """Rules of the guard that saw something in what went out, and only flagged it."""
    return [
        str(hit.get("rule"))
        for hit in event.get("guard") or ()
        if hit.get("where") == "output" and hit.get("action") == "flag"
    ]


def _find(read: Read, wanted: set[str], known: Mapping[str, Event], since: str) -> dict[str, Event]:
    """The answers that signals are about; older ones are looked for from when they were asked."""
    found = {request: known[request] for request in wanted if request in known}
    missing = wanted - set(found)
    begin = min((_asked(request, since) for request in missing), default=since)
    if begin < since:
        for event in read(begin):
            if event["type"] == "answer" and event["request"] in missing:
                found[event["request"]] = event
    return found


def _asked(request: str, since: str) -> str:
    """When a request was made, from its ULID, less some slack; of a foreign id, some days back."""
    if not is_id(request):
        return rfc3339(parse_time(since) - _FOREIGN)
    milliseconds = 0
    for letter in request[:10]:
        milliseconds = milliseconds * 32 + _ULID.index(letter)
    try:
        return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC) - _SLACK)
    except (OverflowError, ValueError):
        return since  # a moment that no clock ever says


def _through(newest: str, left: list[str], waiting: Iterable[str], came: Mapping[str, str]) -> str:
    """The latest moment from which nothing is left out; an answer is waited for a day."""
    day = rfc3339(datetime.fromisoformat(newest) - timedelta(days=1))
    held = [came[request] for request in waiting if came[request] > day]
    return min([newest, *left, *held])


def _item(answer: Mapping[str, Any], signals: list[dict[str, Any]]) -> dict[str, Any]:
    retrieved = [dict(passage) for passage in (answer.get("retrieved") or ())[:_SHOWN]]
    return {
        "request": answer["request"],
        "release": answer["release"],
        "time": answer["time"],
        "question": str(answer.get("question") or "")[:_TEXT],
        "answer": str(answer.get("answer") or "")[:_TEXT],
        "retrieved": retrieved,
        "signals": signals,
    }
