"""Skew that somebody measured: rows as they were served beside the same rows from the offline path.

The monitor has the online side (events); only a pipeline can make the offline side (the feature
store's history). So a pipeline takes a sample of events, computes the same entities at the same
times, and posts both; what is compared and what is said of it happens here, as for every finding.
"""

from __future__ import annotations

import asyncio
import heapq
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.errors import InvalidInput
from proa.events.event import Event
from proa.findings.book import BookKey
from proa.findings.observation import Observation
from proa.http import rights
from proa.http.bodies import decode_object, read_body
from proa.http.clock import parse_time, rfc3339
from proa.ledger.keys import KeyStore
from proa.quality.answered import entities_of
from proa.quality.skew import compare, skew_observations
from proa.release.reference import ReleaseRef
from proa_monitor.finding_store import FindingStore
from proa_monitor.store import EventStore
from proa_monitor.wire import authorized, json_answer, number_of

__all__ = ["SkewSeen", "served_rows", "skew_routes", "skew_seen"]

SCALE: Final = "skew"
"""The book's scale of these findings: what is posted is no window that the monitor counts."""
_BODY_BYTES: Final = 8 << 20
_ROWS: Final = 5000
_KEYS: Final = frozenset({"release", "track", "time", "online", "offline"})


@dataclass(frozen=True, slots=True)
class SkewSeen:
    """A comparison that was posted: of which release, and of which moment of event time."""

    release: str
    track: str
    time: str
    observations: list[Observation]


def skew_routes(store: EventStore, findings: FindingStore, keys: KeyStore) -> list[BaseRoute]:
    """`GET /v1/models/{name}/served` and `POST /v1/models/{name}/skew`."""

    async def served(request: Request) -> Response:
        """A sample of the rows that were served. Right: `read`.

        Query: `since` (RFC 3339, time of arrival here), `limit`. The same rows however often they
        are asked for.
        """
        authorized(keys, request, rights.READ)
        name, query = request.path_params["name"], request.query_params
        since = rfc3339(parse_time(query.get("since", "1970-01-01T00:00:00Z"), what="since"))
        limit = number_of(request, "limit", default=500, most=_ROWS)
        rows = await asyncio.to_thread(
            lambda: served_rows(store.since(since, model=name), limit=limit)
        )
        return json_answer({"rows": rows})

    async def skew(request: Request) -> Response:
        """Take a comparison; see `skew_seen`. Right: `events`."""
        authorized(keys, request, rights.EVENTS)
        body = decode_object(await read_body(request.scope, request.receive, limit=_BODY_BYTES))
        name = request.path_params["name"]
        seen = await asyncio.to_thread(skew_seen, name, body)
        start = parse_time(f"{seen.time[:10]}T00:00:00Z")
        key = BookKey(name, "classic", seen.release, seen.track, SCALE)
        changed = await asyncio.to_thread(
            findings.see,
            *(key, seen.time[:10], rfc3339(start), rfc3339(start + timedelta(days=1))),
            seen.observations,
        )
        return json_answer(
            {
                "columns": {
                    one.subject: {"holds": one.holds, "share": one.effect, **one.evidence}
                    for one in seen.observations
                },
                "findings": [finding.id for finding in changed],
            }
        )

    return [
        Route("/v1/models/{name}/served", served),
        Route("/v1/models/{name}/skew", skew, methods=["POST"]),
    ]


def skew_seen(model: str, body: Mapping[str, Any]) -> SkewSeen:
    """Compare the rows of `{"release", "track"?, "time", "online": [row…], "offline": [row…]}`.

    Args:
        body: rows are objects, column → value, the same entity and time at the same position;
            `time` is the event time of the newest row.

    Raises:
        InvalidInput: another shape; the message names the key.
    """
    if unknown := body.keys() - _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise InvalidInput(f"unknown {min(unknown)!r:.80}: expected {known}", param="skew")
    release, track = body.get("release"), body.get("track") or ""
    if not isinstance(release, str) or ReleaseRef.parse(release).name != model:
        raise InvalidInput(f"release = {release!r:.120}: expected one of {model}", param="release")
    if track not in ("", "champion", "challenger"):
        raise InvalidInput(f"track = {track!r:.80}: expected champion or challenger", param="track")
    online, offline = _rows(body, "online"), _rows(body, "offline")
    time = rfc3339(parse_time(str(body.get("time")), what="time"))
    return SkewSeen(release, track, time, skew_observations(compare(online, offline)))


def served_rows(events: Iterable[Event], *, limit: int) -> list[dict[str, Any]]:
    """What was served to whom and when: `{"entity", "time", "release", "track", "inputs"}` of rows
    whose entity is known, in order of time.

    Args:
        limit: of the calls, those whose request ids have the lowest checksums: a sample that does
            not depend on their order.
    """
    chosen = heapq.nsmallest(
        limit,
        (
            (zlib.crc32(event["request"].encode()), event["id"], event)
            for event in events
            if event["type"] == "prediction" and event["purpose"] in ("user", "agent")
        ),
        key=lambda one: one[:2],
    )
    found = []
    for _, _, event in sorted(chosen, key=lambda one: (one[2]["time"], one[1])):
        about = {name: event[name] for name in ("time", "release", "track")}
        entities = entities_of(event["rows"], event["entity"], event["unit"])
        for row, entity in enumerate(entities):
            if entity is not None:
                inputs = {name: values[row] for name, values in event["inputs"].items()}
                found.append({"entity": entity, **about, "inputs": inputs})
    return found[:limit]


def _rows(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = body.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(f"{key}: expected a list of objects, column to value", param=key)
    if not 1 <= len(rows) <= _ROWS:
        raise InvalidInput(f"{key}: {len(rows):,} rows: expected 1 to {_ROWS:,}", param=key)
    return rows
