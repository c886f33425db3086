"""The controller's HTTP API: wishes in, state and journal out. Rights by key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.http.bodies import decode_object, read_body
from proa.http.faults import error_handlers
from proa.http.rights import JUDGE, PROMOTE, READ
from proa.ledger.keys import Key, KeyStore
from proa.release.reference import ReleaseRef
from proa.rollout.policy import parse_policy
from proa_controller.core import Controller

log = logging.getLogger("proa.controller")
_EVIDENCE_LIMIT = 256 << 20
_POLL_SECONDS = 0.05
Handler = Callable[[Request], Awaitable[Response]]


def make_app(
    controller: Controller, keys: KeyStore, operations: list[BaseRoute], *, slot_seconds: float
) -> Starlette:
    """The ASGI application over a controller; `slot_seconds` bounds the wait for a challenger."""
    api = _Api(controller, keys, slot_seconds)
    one = "/v1/models/{name}"
    routes = [
        Route("/v1/models", api.models),
        Route("/v1/journal", api.journal),
        Route(one, api.status),
        Route(f"{one}/history", api.history),
        Route(f"{one}/releases", api.announce, methods=["POST"]),
        Route(f"{one}/gate", api.gate, methods=["POST"]),
        Route(f"{one}/gate/{{slot}}", api.release_slot, methods=["DELETE"]),
        Route(f"{one}/verdicts", api.verdict, methods=["POST"]),
        Route(f"{one}/promote", api.promote, methods=["POST"]),
        Route(f"{one}/rollback", api.rollback, methods=["POST"]),
        Route(f"{one}/undo", api.undo, methods=["POST"]),
        Route(f"{one}/abort", api.abort, methods=["POST"]),
        Route(f"{one}/pause", api.pause, methods=["POST"]),
        Route(f"{one}/resume", api.resume, methods=["POST"]),
        *operations,
    ]
    return Starlette(routes=routes, exception_handlers=error_handlers("controller", log))


class _Api:
    def __init__(self, controller: Controller, keys: KeyStore, slot_seconds: float) -> None:
        self._controller = controller
        self._keys = keys
        self._slot_seconds = slot_seconds

    async def models(self, request: Request) -> Response:
        self._key(request, READ)
        names = await run_in_threadpool(self._controller.names)
        return _json({"models": [await self._status_of(name) for name in names]})

    async def status(self, request: Request) -> Response:
        self._key(request, READ)
        return _json(await self._status_of(request.path_params["name"]))

    async def history(self, request: Request) -> Response:
        self._key(request, READ)
        return await self._lines(request, request.path_params["name"])

    async def journal(self, request: Request) -> Response:
        self._key(request, READ)
        return await self._lines(request, request.query_params.get("model"))

    async def announce(self, request: Request) -> Response:
        key = self._key(request, JUDGE)
        body = await _body(request)
        release = _release(request, body)
        reason = _text(body, "reason", "")
        await run_in_threadpool(self._controller.announce, release, _who(key), reason)
        return _json({"release": str(release)})

    async def gate(self, request: Request) -> Response:
        """Take the slot and answer once the candidate is ready in it."""
        self._key(request, JUDGE)
        release = _release(request, await _body(request))
        slot = await run_in_threadpool(self._controller.take_slot, release)
        deadline = time.monotonic() + self._slot_seconds
        while not await run_in_threadpool(self._controller.slot_ready, slot):
            if time.monotonic() > deadline or await request.is_disconnected():
                await run_in_threadpool(self._controller.release_slot, release.name, slot.id)
                raise Unavailable(
                    f"{release.short} was not ready within {self._slot_seconds:.0f} s",
                    hint="proa status",
                )
            await asyncio.sleep(_POLL_SECONDS)
        return _json(
            {
                "slot": slot.id,
                "candidate": str(slot.candidate),
                "champion": None if slot.champion is None else str(slot.champion),
                "runtime": slot.runtime,
            }
        )

    async def release_slot(self, request: Request) -> Response:
        self._key(request, JUDGE)
        name, slot = request.path_params["name"], request.path_params["slot"]
        await run_in_threadpool(self._controller.release_slot, name, slot)
        return _json({"slot": None})

    async def verdict(self, request: Request) -> Response:
        key = self._key(request, JUDGE)
        body = await _body(request, limit=_EVIDENCE_LIMIT)
        evidence = body.get("evidence")
        if not isinstance(evidence, dict):
            raise InvalidInput("evidence: expected an object", param="evidence")
        name, slot = request.path_params["name"], _text(body, "slot")
        verdict = await run_in_threadpool(
            self._controller.record_verdict, name, slot, evidence, _who(key)
        )
        return _json(verdict.to_json())

    async def promote(self, request: Request) -> Response:
        key = self._key(request, PROMOTE)
        body = await _body(request)
        policy = parse_policy(body.get("policy") or {})
        release, reason = _release(request, body), _text(body, "reason", "")

        def act() -> None:
            self._controller.promote(
                release,
                who=_who(key),
                reason=reason,
                policy=policy,
                dry_run=body.get("dry_run") is True,
            )

        await run_in_threadpool(act)
        return _json(await self._status_of(release.name), status=202)

    async def rollback(self, request: Request) -> Response:
        return await self._wish(request, self._controller.rollback)

    async def undo(self, request: Request) -> Response:
        return await self._wish(request, self._controller.undo)

    async def abort(self, request: Request) -> Response:
        return await self._wish(request, self._controller.abort)

    async def pause(self, request: Request) -> Response:
        return await self._hold(request, paused=True)

    async def resume(self, request: Request) -> Response:
        return await self._hold(request, paused=False)

    async def _hold(self, request: Request, *, paused: bool) -> Response:
        key, name = self._key(request, PROMOTE), request.path_params["name"]
        await run_in_threadpool(lambda: self._controller.pause(name, who=_who(key), paused=paused))
        return _json(await self._status_of(name))

    async def _wish(self, request: Request, act: Callable[..., Any]) -> Response:
        key, name = self._key(request, PROMOTE), request.path_params["name"]
        reason = _text(await _body(request), "reason", "")
        await run_in_threadpool(lambda: act(name, who=_who(key), reason=reason))
        return _json(await self._status_of(name), status=202)

    async def _status_of(self, name: str) -> dict[str, Any]:
        return await run_in_threadpool(self._controller.status, name)

    async def _lines(self, request: Request, model: str | None) -> Response:
        text = request.query_params.get("after", "0")
        if not text.isdigit():
            raise InvalidInput(f"after = {text!r}: expected a line number", param="after")
        lines = await run_in_threadpool(self._controller.history, model, int(text))
        return _json({"lines": [line.to_json() for line in lines]})

    def _key(self, request: Request, right: str) -> Key:
        key = self._keys.authenticate(request.headers.get("authorization"))
        key.require(right)
        return key


def _who(key: Key) -> str:
    return f"{key.team}/{key.feature}#{key.id[:4]}"


async def _body(request: Request, limit: int = 1 << 20) -> dict[str, Any]:
    body = await read_body(request.scope, request.receive, limit=limit)
    return decode_object(body) if body else {}


def _text(body: dict[str, Any], key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise InvalidInput(f"{key} = {value!r}: expected a string", param=key)
    return value


def _release(request: Request, body: dict[str, Any]) -> ReleaseRef:
    release = ReleaseRef.parse(_text(body, "release"))
    name = request.path_params["name"]
    if release.name != name:
        raise NotFound(f"{release.short} is not a release of {name}")
    return release


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
