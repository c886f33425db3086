"""`/proa/v1/*`: calls, costs, exact counts, routes and keys, each by right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from proa.errors import InvalidInput
from proa.http import rights
from proa.http.bodies import decode_object, read_body
from proa.http.clock import parse_time, rfc3339
from proa.ledger.keys import Key, KeyStore
from proa.ledger.mover import Mover
from proa.ledger.store import CallStore
from proa_gateway.last_good import LastGood
from proa_gateway.routes import RouteTable
from proa_gateway.shadows import Shadows

__all__ = ["Admin"]

_KEY_FIELDS = frozenset({"team", "feature", "rights", "models", "expires"})


@dataclass(frozen=True, slots=True)
class Admin:
    """What people and the controller ask of the gateway."""

    keys: KeyStore
    store: CallStore
    mover: Mover
    routes: LastGood[RouteTable]
    shadows: Shadows

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`: the models this key may call, in OpenAI's shape."""
        key = self._allow(request, rights.CALL)
        table = self.routes.value
        return _json(
            {
                "object": "list",
                "data": [
                    {
                        "id": name,
                        "object": "model",
                        "created": 0,
                        "owned_by": "proa",
                        "kind": model.kind,
                        "releases": {track.name: track.release for track in model.tracks.values()},
                    }
                    for name, model in sorted(table.models.items())
                    if key.models is None or name in key.models
                ],
            }
        )

    async def calls(self, request: Request) -> Response:
        """`GET /proa/v1/calls?since=&model=&request=&limit=`."""
        self._allow(request, rights.READ)
        query = _query(request, "since", "model", "request", "limit")
        since, limit = _time(query, "since"), _whole(query.get("limit", "1000"), "limit")
        model, cause = query.get("model"), query.get("request")
        found = await self._ask(
            lambda: self.store.calls(since=since, model=model, request=cause, limit=limit)
        )
        return _json({"calls": [call.to_wire() for call in found]})

    async def costs(self, request: Request) -> Response:
        """`GET /proa/v1/costs?by=&since=&until=`."""
        self._allow(request, rights.READ)
        query = _query(request, "by", "since", "until")
        by, since, until = query.get("by", "team"), _time(query, "since"), _time(query, "until")
        found = await self._ask(lambda: self.store.costs(by=by, since=since, until=until))
        return _json({"by": by, "costs": [cost.to_wire() for cost in found]})

    async def counts(self, request: Request) -> Response:
        """`GET /proa/v1/counts?model=&since=&purpose=user`: exact, per release."""
        self._allow(request, rights.READ)
        query = _query(request, "model", "since", "purpose")
        if "model" not in query:
            raise InvalidInput("the query lacks model=NAME", param="model")
        model, since = query["model"], _time(query, "since")
        purpose = query.get("purpose", "user")
        found = await self._ask(
            lambda: self.store.counts(model=model, since=since, purpose=purpose)
        )
        releases = {release: counts.to_wire() for release, counts in found.items()}
        return _json({"model": model, "since": since, "purpose": purpose, "releases": releases})

    async def tallies(self, request: Request) -> Response:
        """`GET /proa/v1/tallies?model=&since=&until=&purpose=user`: what releases are judged by.

        `ledger` names the ledger they come from: gateways that share one answer for all of it.
        """
        self._allow(request, rights.READ)
        query = _query(request, "model", "since", "until", "purpose")
        for name in ("model", "since"):
            if name not in query:
                raise InvalidInput(f"the query lacks {name}", param=name)
        model, purpose = query["model"], query.get("purpose", "user")
        since, until = _time(query, "since"), _time(query, "until")
        found, (ledger, created) = await self._ask(
            lambda: (
                self.store.tallies(model=model, since=since or "", until=until, purpose=purpose),
                self.store.identity,
            )
        )
        releases = {release: tally.to_wire() for release, tally in found.items()}
        return _json(
            {
                "ledger": ledger,
                "created": created,
                "shadows_dropped": self.shadows.dropped[model],
                "releases": releases,
            }
        )

    async def loaded_routes(self, request: Request) -> Response:
        """`GET /proa/v1/routes`: the generation in force, and why the file's is not, if so."""
        self._allow(request, rights.READ)
        self.routes.check()
        return _json({"generation": self.routes.value.generation, "error": self.routes.error})

    async def list_keys(self, request: Request) -> Response:
        """`GET /proa/v1/keys`, without secrets."""
        self._allow(request, rights.ADMIN)
        found = await asyncio.to_thread(self.keys.list)
        return _json({"keys": [key.to_wire() for key in found]})

    async def create_key(self, request: Request) -> Response:
        """`POST /proa/v1/keys`: the answer holds the key's text, this once."""
        self._allow(request, rights.ADMIN)
        wish = decode_object(await read_body(request.scope, request.receive))
        arguments = _key_arguments(wish)
        issued = await asyncio.to_thread(lambda: self.keys.create(**arguments))
        return _json({**issued.key.to_wire(), "key": issued.text}, 201)

    async def revoke_key(self, request: Request) -> Response:
        """`DELETE /proa/v1/keys/{id}`."""
        self._allow(request, rights.ADMIN)
        key = await asyncio.to_thread(self.keys.revoke, request.path_params["id"])
        return _json(key.to_wire())

    def _allow(self, request: Request, right: str) -> Key:
        key = self.keys.authenticate(request.headers.get("authorization"))
        key.require(right)
        return key

    async def _ask(self, question: Callable[[], Any]) -> Any:
        """Answer from the store once all calls answered so far are in it."""

        def flush_and_ask() -> Any:
            self.mover.flush()
            return question()

        return await asyncio.to_thread(flush_and_ask)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _query(request: Request, *known: str) -> dict[str, str]:
    unknown = set(request.query_params) - set(known)
    if unknown:
        raise InvalidInput(
            f"the query has unknown {', '.join(sorted(unknown))}: expected {', '.join(known)}",
            param=min(unknown),
        )
    return {name: value for name, value in request.query_params.items() if value}


def _time(query: dict[str, str], name: str) -> str | None:
    text = query.get(name)
    # An unescaped + of a time zone reaches us as a space.
    return None if text is None else rfc3339(parse_time(text.replace(" ", "+"), what=name))


def _whole(text: str, name: str) -> int:
    if not text.isdecimal():
        raise InvalidInput(f"{name} = {text!r}: expected a whole number", param=name)
    return int(text)


def _key_arguments(wish: dict[str, Any]) -> dict[str, Any]:
    unknown = wish.keys() - _KEY_FIELDS
    if unknown:
        raise InvalidInput(
            f"unknown {', '.join(sorted(unknown))}: expected {', '.join(sorted(_KEY_FIELDS))}",
            param=min(unknown),
        )
    expires: datetime | None = None
    if wish.get("expires") is not None:
        expires = parse_time(_string(wish, "expires"), what="expires")
    return {
        "team": _string(wish, "team"),
        "feature": _string(wish, "feature"),
        "rights": _strings(wish, "rights") or [],
        "models": _strings(wish, "models"),
        "expires": expires,
    }


def _string(wish: dict[str, Any], name: str) -> str:
    value = wish.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} = {value!r}: expected a string", param=name, code="wrong_type")
    return value


def _strings(wish: dict[str, Any], name: str) -> list[str] | None:
    value = wish.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidInput(
            f"{name} = {value!r}: expected a list of strings", param=name, code="wrong_type"
        )
    return value
