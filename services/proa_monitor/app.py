"""The monitor's HTTP interface: every route, who may use it, what it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from proa.errors import InvalidInput, NotFound
from proa.events.emitter import DROPPED, EMITTER
from proa.http import rights
from proa.http.bodies import ClientGone, decode_object, read_body
from proa.http.clock import parse_time, rfc3339
from proa.http.faults import error_handlers
from proa.http.serving import App
from proa.ledger.keys import Key, KeyStore
from proa_monitor.bad_answers import bad_routes
from proa_monitor.finding_routes import finding_routes
from proa_monitor.ingest import BODY_BYTES
from proa_monitor.labelled import compare, labels_of
from proa_monitor.monitor import Monitor
from proa_monitor.overview import fleet_view, model_view
from proa_monitor.quality_view import quality_view
from proa_monitor.skewing import skew_routes
from proa_monitor.windows import Track, window_end
from proa_monitor.wire import authorized, json_answer, number_of

__all__ = ["monitor_app"]

_BODIES: Final = 8
"""Bodies held in memory at once: 64 MiB."""
_BODY_SECONDS: Final = 30.0
_MOST_REQUESTS: Final = 100_000
# The page is Evidently's: it may run its own scripts and must not reach anything else.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:; sandbox allow-scripts"
)
_log = logging.getLogger(__name__)


def monitor_app(monitor: Monitor, keys: KeyStore, operations: Sequence[BaseRoute]) -> App:
    """Routes of the monitor."""
    doors = _Doors(monitor, keys)
    routes = [
        Route("/v1/events", doors.events, methods=["POST"]),
        Route("/v1/models", doors.models),
        Route("/v1/models/{name}", doors.model),
        Route("/v1/models/{name}/report", doors.report, methods=["POST"]),
        Route("/v1/models/{name}/labels", doors.labels, methods=["POST"]),
        Route("/v1/models/{name}/truth", doors.truth),
        Route("/v1/models/{name}/quality", doors.quality),
        Route("/v1/reports/{name}", doors.page),
        Route("/v1/requests", doors.requests),
        *bad_routes(monitor.store, keys),
        *skew_routes(monitor.store, monitor.findings, keys),
        *finding_routes(monitor.findings, monitor.progress, monitor.reports, keys),
        *operations,
    ]
    return Starlette(routes=routes, exception_handlers=error_handlers("monitor", _log))


class _Doors:
    """One method per route."""

    def __init__(self, monitor: Monitor, keys: KeyStore) -> None:
        self._monitor, self._keys = monitor, keys
        self._bodies = asyncio.Semaphore(_BODIES)

    async def events(self, request: Request) -> Response:
        """Take events; answered when the accepted ones are stored. Right: `events`."""
        key = self._key(request, rights.EVENTS)
        replay = key.may(rights.REPLAY) or key.may(rights.INTERNAL)
        ingest = self._monitor.ingest
        async with self._bodies:
            try:
                reading = read_body(request.scope, request.receive, limit=BODY_BYTES)
                body = await asyncio.wait_for(reading, _BODY_SECONDS)
            except ClientGone:
                return Response(status_code=499)  # nobody reads it
            except TimeoutError:
                raise InvalidInput(
                    f"the body did not arrive within {_BODY_SECONDS:g} s", code="body_too_slow"
                ) from None
            verdict = await ingest.take(body, may_replay=replay)
        if EMITTER in request.headers:
            ingest.report_drops(request.headers[EMITTER], request.headers.get(DROPPED, "0"))
        return json_answer(verdict.to_wire())

    async def models(self, request: Request) -> Response:
        """Every model with its newest window. Right: `read`."""
        self._key(request, rights.READ)
        return json_answer(fleet_view(self._monitor.windows, self._monitor.clock.now()))

    async def model(self, request: Request) -> Response:
        """Windows of one model, the newest first. Right: `read`."""
        self._key(request, rights.READ)
        name = request.path_params["name"]
        count = number_of(request, "windows", default=14, most=400)
        windows, now = self._monitor.windows, self._monitor.clock.now()
        return json_answer(model_view(name, self._tracks(name), windows.length, now, count=count))

    async def report(self, request: Request) -> Response:
        """Make an Evidently report. Right: `read`.

        Body, all optional: `release` (`name/version` or whole), `track`, `window`.
        """
        self._key(request, rights.READ)
        body = await read_body(request.scope, request.receive)
        asked = decode_object(body) if body else {}
        _check_keys(asked, ("release", "track", "window"))
        track = self._asked_track(request.path_params["name"], asked)
        window = asked.get("window") or track.newest
        if window is None or window not in track.windows:
            held = ", ".join(sorted(track.windows)[-5:]) or "none"
            raise NotFound(
                f"{track.key.release} has no window {window!r}; the newest are: {held}",
                param="window",
            )
        facts = await self._monitor.reports.make(track, window)
        url = request.url_for("page", name=facts.pop("name"))
        about = {"release": track.key.release, "track": track.key.track or None, "window": window}
        return json_answer(facts | about | {"html_url": str(url)})

    async def labels(self, request: Request) -> Response:
        """Take what came true: `{"labels": [{"request" or "entity", "value", "time"}]}`.

        Answered when they are stored. Right: `events`.
        """
        key = self._key(request, rights.EVENTS)
        body = decode_object(await read_body(request.scope, request.receive, limit=BODY_BYTES))
        lines = [orjson.dumps(event) for event in labels_of(request.path_params["name"], body)]
        replay = key.may(rights.REPLAY) or key.may(rights.INTERNAL)
        verdict = await self._monitor.ingest.take(b"\n".join(lines), may_replay=replay)
        return json_answer(verdict.to_wire())

    async def truth(self, request: Request) -> Response:
        """What later labels say of a champion's answers and a shadow's. Right: `read`.

        Query: `since` (RFC 3339, time of arrival here), `champion`, `candidate` (whole releases).
        """
        self._key(request, rights.READ)
        query = request.query_params
        for name in ("since", "champion", "candidate"):
            if name not in query:
                raise InvalidInput(f"the query lacks {name}", param=name)
        since = rfc3339(parse_time(query["since"], what="since"))
        name, sides = request.path_params["name"], (query["champion"], query["candidate"])
        pairs = await asyncio.to_thread(
            lambda: compare(
                self._monitor.store.since(since, model=name), champion=sides[0], candidate=sides[1]
            )
        )
        return json_answer(pairs.to_wire())

    async def quality(self, request: Request) -> Response:
        """How good a model's answers were, as far as that is known. Right: `read`; groups of
        protected attributes only with `protected`.

        Query: `window` (its end is the moment; the newest event's time by default), `release`,
        `track`.
        """
        key = self._key(request, rights.READ)
        name, query = request.path_params["name"], request.query_params
        self._tracks(name)
        try:
            window = query.get("window")
            moment = None if window is None else window_end(window)
        except ValueError:
            raise InvalidInput(
                f"window = {query['window']!r:.40}: expected 2013-04-01 or 2013-04-01T10",
                param="window",
            ) from None
        now = self._monitor.windows.latest[name][0] if moment is None else rfc3339(moment)
        shown = await asyncio.to_thread(
            quality_view,
            self._monitor.quality,
            name,
            protected=key.may(rights.PROTECTED),
            now=now,
            release=query.get("release"),
            track=query.get("track"),
        )
        return json_answer(shown)

    async def page(self, request: Request) -> Response:
        """A report's page. Right: `read`."""
        self._key(request, rights.READ)
        path = self._monitor.reports.page(request.path_params["name"])
        headers = {"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"}
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)

    async def requests(self, request: Request) -> Response:
        """Ids of requests that have an event. Right: `read`.

        Query: `since` (RFC 3339, time of arrival here; a day back by default), `model`,
        `purpose`, `limit`.
        """
        self._key(request, rights.READ)
        query = request.query_params
        back = datetime.now(UTC) - timedelta(days=1)
        since = parse_time(query["since"], what="since") if "since" in query else back
        limit = number_of(request, "limit", default=_MOST_REQUESTS, most=_MOST_REQUESTS)
        found = await asyncio.to_thread(
            self._requests, rfc3339(since), query.get("model"), query.get("purpose")
        )
        ids = sorted(found)
        return json_answer(
            {
                "since": rfc3339(since),
                "count": len(ids),
                "truncated": len(ids) > limit,
                "requests": ids[:limit],
            }
        )

    def _requests(self, since: str, model: str | None, purpose: str | None) -> set[str]:
        rows = self._monitor.store.select(
            "ingested,model,purpose,request,type", since=since, model=model
        )
        return {
            row["request"]
            for row in rows
            if row["type"] in ("prediction", "answer")
            and (purpose is None or row["purpose"] == purpose)
        }

    def _key(self, request: Request, right: str) -> Key:
        return authorized(self._keys, request, right)

    def _tracks(self, name: str) -> list[Track]:
        tracks = self._monitor.windows.of_model(name)
        if not tracks:
            raise NotFound(f"no event of the model {name!r:.80} has come", code="unknown_model")
        return tracks

    def _asked_track(self, name: str, asked: dict[str, Any]) -> Track:
        release, place = asked.get("release"), asked.get("track")
        for track in self._tracks(name):
            whole, short = track.key.release, track.key.release.partition("@")[0]
            if release in (None, whole, short) and place in (None, track.key.track):
                return track
        raise NotFound(
            f"no event of {release or name} as {place or 'any track'} has come",
            code="unknown_release",
        )


def _check_keys(asked: dict[str, Any], known: tuple[str, ...]) -> None:
    for key, value in asked.items():
        if key not in known:
            raise InvalidInput(f"{key!r:.80}: expected {', '.join(known)}", param=key[:80])
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{key} = {value!r:.80}: expected a string", param=key)
