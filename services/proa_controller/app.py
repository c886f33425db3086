"""The controller's HTTP API: wishes in, state and journal out. Rights by key."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.http.bodies import decode_object, read_body
from proa.http.faults import error_handlers
from proa.http.rights import ADMIN, APPROVE, JUDGE, PROMOTE, READ
from proa.http.serving import App
from proa.ledger.journal import Head
from proa.ledger.keys import Key, KeyStore
from proa.ledger.worklist import Worklist
from proa.release.reference import ReleaseRef
from proa.rollout.people import By, person_of, reason_of
from proa_controller.core import Controller
from proa_controller.retraining import check_verb
from proa_controller.worklist import resolve

if TYPE_CHECKING:
    from proa_controller.leadership import Leadership

log = logging.getLogger("proa.controller")
_EVIDENCE_LIMIT = 256 << 20
_POLL_SECONDS = 0.05
Handler = Callable[[Request], Awaitable[Response]]


def make_app(
    controller: Controller,
    keys: KeyStore,
    operations: list[BaseRoute],
    *,
    slot_seconds: float,
    leadership: Leadership | None = None,
    worklist: Worklist | None = None,
) -> App:
    """The ASGI application over a controller.

    Args:
        slot_seconds: bounds the wait for a challenger.
        leadership: who of several controllers may act; None where there is only one.
        worklist: bad answers of language models.
    """
    api = _Api(controller, keys, slot_seconds, leadership, worklist)
    one = "/v1/models/{name}"
    routes = [
        Route("/v1/platform", api.platform),
        Route("/v1/models", api.models),
        Route("/v1/journal", api.journal),
        Route(one, api.status),
        Route(f"{one}/history", api.history),
        Route(f"{one}/releases", api.announce, methods=["POST"]),
        Route(f"{one}/gate", api.gate, methods=["POST"]),
        Route(f"{one}/gate/{{slot}}", api.release_slot, methods=["DELETE"]),
        Route(f"{one}/gate/{{slot}}", api.keep_slot, methods=["PUT"]),
        Route("/v1/evidence/{digest}", api.evidence),
        Route("/v1/journal/verify", api.verify),
        Route("/v1/revoked", api.revoked),
        Route(f"{one}/approve", api.approve, methods=["POST"]),
        Route(f"{one}/revoke", api.revoke, methods=["POST"]),
        Route(f"{one}/unrevoke", api.unrevoke, methods=["POST"]),
        Route(f"{one}/carried", api.carried, methods=["POST"]),
        Route(f"{one}/verdicts", api.verdict, methods=["POST"]),
        Route(f"{one}/promote", api.promote, methods=["POST"]),
        Route(f"{one}/rollback", api.rollback, methods=["POST"]),
        Route(f"{one}/undo", api.undo, methods=["POST"]),
        Route(f"{one}/abort", api.abort, methods=["POST"]),
        Route(f"{one}/pause", api.pause, methods=["POST"]),
        Route(f"{one}/resume", api.resume, methods=["POST"]),
        Route(f"{one}/retraining", api.retraining, methods=["POST"]),
        Route(f"{one}/retraining", api.retraining_of),
        Route(f"{one}/retraining/{{verb}}", api.decide_retraining, methods=["POST"]),
        Route("/v1/retraining", api.retrainings),
        Route(f"{one}/worklist", api.worklist_of),
        Route("/v1/worklist/{item}", api.worklist_item),
        Route("/v1/worklist/{item}", api.resolve_item, methods=["POST"]),
        *operations,
    ]
    app = Starlette(routes=routes, exception_handlers=error_handlers("controller", log))
    if leadership is None:
        return app
    from proa_controller.leadership import LeaderOnly

    return LeaderOnly(app, leadership)


class _Api:
    def __init__(
        self,
        controller: Controller,
        keys: KeyStore,
        slot_seconds: float,
        leadership: Leadership | None,
        worklist: Worklist | None = None,
    ) -> None:
        self._controller = controller
        self._keys = keys
        self._slot_seconds = slot_seconds
        self._leadership = leadership
        self._worklist = worklist

    async def platform(self, request: Request) -> Response:
        """Who leads, the routes' generation, and every gateway."""
        self._key(request, READ)
        told = await run_in_threadpool(self._controller.platform)
        leads = {"leader": None, "identity": socket.gethostname(), "leading": True}
        if self._leadership is not None:
            leads = self._leadership.to_json()
        return _json({**leads, **told})

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
        release, caller = _release(request, body), Caller.of(key, body)
        rollout, retrain = _object(body, "rollout"), _object(body, "retrain")

        def act() -> dict[str, Any] | None:
            return self._controller.announce(
                release,
                caller.who,
                _text(body, "reason", ""),
                by=caller.by,
                rollout=rollout,
                retrain=retrain,
                may_loosen=key.may(APPROVE),
            )

        return _json({"release": str(release), "rules": await run_in_threadpool(act)})

    async def gate(self, request: Request) -> Response:
        """Take the slot and answer once the candidate is ready in it."""
        self._key(request, JUDGE)
        body = await _body(request)
        release, held = _release(request, body), _text(body, "slot", "")
        slot = await run_in_threadpool(self._controller.take_slot, release, held or None)
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

    async def keep_slot(self, request: Request) -> Response:
        """A gate's sign of life; 409 `slot_lost` when the slot is no longer its own."""
        self._key(request, JUDGE)
        name, slot = request.path_params["name"], request.path_params["slot"]
        await run_in_threadpool(self._controller.keep_slot, name, slot)
        return _json({"slot": slot})

    async def evidence(self, request: Request) -> Response:
        """The evidence of a verdict by the digest that its journal line names."""
        self._key(request, READ)
        digest = request.path_params["digest"]
        data = await run_in_threadpool(self._controller.evidence, digest)
        return Response(data, media_type="application/json")

    async def verdict(self, request: Request) -> Response:
        key = self._key(request, JUDGE)
        body = await _body(request, limit=_EVIDENCE_LIMIT)
        evidence = body.get("evidence")
        if not isinstance(evidence, dict):
            raise InvalidInput("evidence: expected an object", param="evidence")
        name, slot, caller = request.path_params["name"], _text(body, "slot"), Caller.of(key, body)
        tasks = _object(body, "tasks")

        def act() -> dict[str, Any]:
            if body.get("smoke") is True:
                return self._controller.record_smoke(name, slot, evidence, caller.who, by=caller.by)
            verdict = self._controller.record_verdict(
                name, slot, evidence, caller.who, by=caller.by, tasks=tasks
            )
            return verdict.to_json()

        return _json(await run_in_threadpool(act))

    async def carried(self, request: Request) -> Response:
        """A verdict from another environment, with its evidence."""
        key = self._key(request, JUDGE)
        body = await _body(request, limit=_EVIDENCE_LIMIT)
        release, caller = _release(request, body), Caller.of(key, body)
        evidence, source = _object(body, "evidence"), _object(body, "source")
        if evidence is None or source is None:
            raise InvalidInput("expected the objects evidence and source", param="evidence")
        verdict = await run_in_threadpool(
            lambda: self._controller.carry_verdict(
                release,
                evidence,
                source,
                caller.who,
                by=caller.by,
                tasks=_object(body, "tasks"),
            )
        )
        return _json(verdict.to_json())

    async def promote(self, request: Request) -> Response:
        """Ask for a rollout; with `override` the key needs the right to approve."""
        key = self._keys.authenticate(request.headers.get("authorization"))
        body = await _body(request)
        override = body.get("override") is True
        key.require(APPROVE if override else PROMOTE)
        release, caller, reason = (
            _release(request, body),
            Caller.of(key, body, required="an override" if override else None),
            _text(body, "reason", ""),
        )
        policy = _object(body, "policy")
        if body.get("dry_run") is True:
            plan = await run_in_threadpool(
                lambda: self._controller.plan(release, policy=policy, by=caller.by)
            )
            return _json({**await self._status_of(release.name), "plan": plan})
        if override:
            reason = reason_of(reason, required="an override")
        await run_in_threadpool(
            lambda: self._controller.promote(
                release,
                who=caller.who,
                reason=reason,
                policy=policy,
                by=caller.by,
                override=override,
            )
        )
        return _json(await self._status_of(release.name), status=202)

    async def approve(self, request: Request) -> Response:
        """Approve a release, or `exam` (its digest or ""), or `rules`."""
        caller, body = await self._decision(request, APPROVE, "an approval")
        name = request.path_params["name"]
        said: dict[str, Any] = {"who": caller.who, "reason": _text(body, "reason"), "by": caller.by}

        def act() -> dict[str, Any]:
            if body.get("rules") is True:
                return self._controller.approve_rules(name, **said)
            if "exam" in body:
                return self._controller.approve_exam(name, _text(body, "exam") or None, **said)
            return self._controller.approve(_release(request, body), **said)

        return _json(await run_in_threadpool(act))

    async def revoke(self, request: Request) -> Response:
        caller, body = await self._decision(request, ADMIN, "a revocation", named=False)
        return await self._revocation(request, body, caller, self._controller.revoke)

    async def unrevoke(self, request: Request) -> Response:
        caller, body = await self._decision(request, APPROVE, "taking a revocation back")
        return await self._revocation(request, body, caller, self._controller.unrevoke)

    async def _revocation(
        self, request: Request, body: dict[str, Any], caller: Caller, act: Callable[..., Any]
    ) -> Response:
        name, digest, reason = request.path_params["name"], _text(body, "digest"), body["reason"]
        return _json(
            await run_in_threadpool(
                lambda: act(name, digest, who=caller.who, reason=reason, by=caller.by)
            )
        )

    async def _decision(
        self, request: Request, right: str, what: str, *, named: bool = True
    ) -> tuple[Caller, dict[str, Any]]:
        """Who decides, with a reason in `body["reason"]` that others can read."""
        key = self._key(request, right)
        body = await _body(request)
        caller = Caller.of(key, body, required=what if named else None)
        body["reason"] = reason_of(_text(body, "reason", ""), required=what)
        return caller, body

    async def revoked(self, request: Request) -> Response:
        self._key(request, READ)
        return _json({"revoked": await run_in_threadpool(self._controller.revoked)})

    async def verify(self, request: Request) -> Response:
        """Check the journal's chain; `head` is one that was noted before."""
        self._key(request, READ)
        text = request.query_params.get("head")
        noted = None if text is None else Head.parse(text)
        return _json(await run_in_threadpool(self._controller.verify, noted))

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

    async def retraining(self, request: Request) -> Response:
        """Write down that a new release is asked for, and why."""
        key, name = self._key(request, PROMOTE), request.path_params["name"]
        body = await _body(request)
        caller, reason = (
            Caller.of(key, body),
            reason_of(_text(body, "reason"), required="retraining"),
        )
        asked = await run_in_threadpool(
            lambda: self._controller.ask_retraining(
                name,
                cause=_text(body, "cause", "asked"),
                evidence=_text(body, "evidence", ""),
                who=caller.who,
                reason=reason,
                by=caller.by,
            )
        )
        return _json(asked)

    async def retraining_of(self, request: Request) -> Response:
        """A model's rules of retraining, what holds it back, its requests with their story."""
        self._key(request, READ)
        name = request.path_params["name"]
        return _json(await run_in_threadpool(self._controller.retraining, name))

    async def retrainings(self, request: Request) -> Response:
        self._key(request, READ)
        names = await run_in_threadpool(self._controller.retraining_models)
        return _json(
            {
                "models": [
                    await run_in_threadpool(self._controller.retraining, name) for name in names
                ]
            }
        )

    async def decide_retraining(self, request: Request) -> Response:
        """A person approves or refuses the open request, or resets the circuit breaker."""
        verb = check_verb(request.path_params["verb"])
        caller, body = await self._decision(request, APPROVE, f"{verb} of a retraining")
        name = request.path_params["name"]
        return _json(
            await run_in_threadpool(
                lambda: self._controller.decide_retraining(
                    name, verb, who=caller.who, reason=body["reason"], by=caller.by
                )
            )
        )

    async def worklist_of(self, request: Request) -> Response:
        """Open items of a model, the oldest first; with `?resolved=true`, those too."""
        self._key(request, READ)
        name, every = request.path_params["name"], request.query_params.get("resolved") == "true"
        items = await run_in_threadpool(lambda: self._items.items(name, resolved=every))
        return _json({"items": [item.to_json() for item in items]})

    async def worklist_item(self, request: Request) -> Response:
        self._key(request, READ)
        item = await run_in_threadpool(self._items.get, request.path_params["item"])
        return _json(item.to_json())

    async def resolve_item(self, request: Request) -> Response:
        """A person says what became of a bad answer."""
        caller, body = await self._decision(request, PROMOTE, "resolving an item", named=False)
        said: dict[str, Any] = {"who": caller.who, "reason": body["reason"], "by": caller.by}
        item, resolution = request.path_params["item"], _text(body, "resolution")
        done = await run_in_threadpool(
            lambda: resolve(self._controller, self._items, item, resolution, **said)
        )
        return _json(done.to_json())

    @property
    def _items(self) -> Worklist:
        if self._worklist is None:
            raise Unavailable("this controller keeps no worklist")
        return self._worklist

    async def _hold(self, request: Request, *, paused: bool) -> Response:
        return await self._wish(request, partial(self._controller.pause, paused=paused), status=200)

    async def _wish(
        self, request: Request, act: Callable[..., Any], *, status: int = 202
    ) -> Response:
        key, name = self._key(request, PROMOTE), request.path_params["name"]
        body = await _body(request)
        caller, reason = Caller.of(key, body), _text(body, "reason", "")
        await run_in_threadpool(lambda: act(name, who=caller.who, reason=reason))
        return _json(await self._status_of(name), status=status)

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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `who` for people, `by` to compare."""

    who: str
    by: By

    @classmethod
    def of(cls, key: Key, body: Mapping[str, Any], required: str | None = None) -> Caller:
        """The key's owner, and the person whom the body names under `as`.

        Args:
            required: what a person's name is needed for, if it is.
        """
        name = body.get("as")
        if name is not None and not isinstance(name, str):
            raise InvalidInput(f"as = {name!r}: expected a person's name", param="as")
        person = person_of(name, required=required)
        owner = f"{key.team}/{key.feature}#{key.id[:4]}"
        return cls(f"{person} ({owner})" if person else owner, By(key.id, person))


async def _body(request: Request, limit: int = 1 << 20) -> dict[str, Any]:
    body = await read_body(request.scope, request.receive, limit=limit)
    return decode_object(body) if body else {}


def _text(body: dict[str, Any], key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise InvalidInput(f"{key} = {value!r}: expected a string", param=key)
    return value


def _object(body: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{key}: expected an object", param=key)
    return value


def _release(request: Request, body: dict[str, Any]) -> ReleaseRef:
    release = ReleaseRef.parse(_text(body, "release"))
    name = request.path_params["name"]
    if release.name != name:
        raise NotFound(f"{release.short} is not a release of {name}")
    return release


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
