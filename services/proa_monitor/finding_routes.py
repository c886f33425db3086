"""Findings over HTTP: listed, one of them, and Evidently's report of one. Right: `read`."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.errors import InvalidInput
from proa.http import rights
from proa.http.clock import parse_time, rfc3339
from proa.ledger.keys import KeyStore
from proa_monitor.finding_store import MOST, FindingStore
from proa_monitor.progress import Progress
from proa_monitor.reports import Reports
from proa_monitor.wire import authorized, json_answer, number_of

__all__ = ["finding_routes"]

_PROTECTED_TYPE: Final = "fairness"
_OPEN: Final[dict[str, Literal["open", "closed"] | None]] = {
    "true": "open",
    "false": "closed",
    "all": None,
}


def finding_routes(
    findings: FindingStore, progress: Progress, reports: Reports, keys: KeyStore
) -> list[BaseRoute]:
    """The routes. Groups of protected attributes are in a finding's evidence only for keys with
    the right `protected`; that there is such a finding everybody may know."""

    async def listed(request: Request) -> Response:
        """Query: `model`, `open` (true, false; all by default), `type`, `since`, `limit`.

        `through` says how far each model was judged, and with `model` up to when labels have come.
        """
        key = authorized(keys, request, rights.READ)
        query = request.query_params
        state = query.get("open", "all")
        if state not in _OPEN:
            raise InvalidInput(f"open = {state!r:.40}: expected true, false or all", param="open")
        since = rfc3339(parse_time(query["since"], what="since")) if "since" in query else None
        limit = number_of(request, "limit", default=100, most=MOST)
        found, truncated = await asyncio.to_thread(
            findings.find,
            query.get("model"),
            only=_OPEN[state],
            kind=query.get("type"),
            since=since,
            limit=limit,
        )
        through = await asyncio.to_thread(progress.of, query.get("model"))
        protected = key.may(rights.PROTECTED)
        shown = [finding.to_wire() for finding in found]
        return json_answer(
            {
                "findings": [_for(one, protected) for one in shown],
                "truncated": truncated,
                "through": through,
            }
        )

    async def one(request: Request) -> Response:
        key = authorized(keys, request, rights.READ)
        found = await asyncio.to_thread(findings.get, request.path_params["id"])
        return json_answer(_for(found.to_wire(), key.may(rights.PROTECTED)))

    async def report(request: Request) -> Response:
        """Make Evidently's report of the window that showed it."""
        authorized(keys, request, rights.READ)
        found = await asyncio.to_thread(findings.get, request.path_params["id"])
        facts = await reports.of_finding(found)
        url = request.url_for("page", name=facts.pop("name"))
        about = {"release": found.release, "track": found.track or None, "window": found.window}
        return json_answer(facts | about | {"html_url": str(url)})

    return [
        Route("/v1/findings", listed),
        Route("/v1/findings/{id}", one),
        Route("/v1/findings/{id}/report", report, methods=["POST"]),
    ]


def _for(finding: dict[str, object], protected: bool) -> dict[str, object]:
    if protected or finding["type"] != _PROTECTED_TYPE:
        return finding
    return finding | {"evidence": {"withheld": "needs a key with the right 'protected'"}}
