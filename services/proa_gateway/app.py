"""The gateway's two apps: every route on this screen."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proa.errors import Internal, InvalidInput, NotFound, ProaError
from proa.http.bodies import Receive, Scope, Send, encode_error, status_of
from proa.http.serving import App, Health, operations
from proa_gateway.admin import Admin
from proa_gateway.engine_door import EngineDoor
from proa_gateway.user_door import UserDoor

__all__ = ["engine_app", "user_app"]

_log = logging.getLogger(__name__)


def user_app(door: UserDoor, admin: Admin, health: Health, registry: CollectorRegistry) -> App:
    """The user door and `/proa/v1`."""
    routes = [
        Route("/v1/chat/completions", Raw(door.chat), methods=["POST"]),
        Route("/v2/models/{name}/infer", Raw(door.infer), methods=["POST"]),
        Route("/v1/models/{name}/predict", Raw(door.predict), methods=["POST"]),
        Route("/v1/models", admin.models),
        Route("/proa/v1/calls", admin.calls),
        Route("/proa/v1/costs", admin.costs),
        Route("/proa/v1/counts", admin.counts),
        Route("/proa/v1/routes", admin.loaded_routes),
        Route("/proa/v1/keys", admin.list_keys, methods=["GET"]),
        Route("/proa/v1/keys", admin.create_key, methods=["POST"]),
        Route("/proa/v1/keys/{id}", admin.revoke_key, methods=["DELETE"]),
        *operations(health, registry),
    ]
    return Starlette(routes=routes, exception_handlers=_ERRORS)


def engine_app(door: EngineDoor, health: Health, registry: CollectorRegistry) -> App:
    """The engine door."""
    routes = [
        Route("/v1/chat/completions", Raw(door.chat), methods=["POST"]),
        *operations(health, registry),
    ]
    return Starlette(routes=routes, exception_handlers=_ERRORS)


class Raw:
    """An ASGI handler as a route's endpoint: Starlette would take a bare method for a view."""

    def __init__(self, handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._handler = handler

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._handler(scope, receive, send)


async def _on_proa_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProaError)
    return Response(encode_error(error), status_of(error), media_type="application/json")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        wrong: ProaError = InvalidInput(f"{where}: use {allowed}", code="wrong_method")
    else:
        wrong = NotFound(f"{where}: there is no such path", code="unknown_path")
    return Response(encode_error(wrong), error.status_code, media_type="application/json")


async def _on_fault(request: Request, error: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    wrong = Internal("an unexpected fault of the gateway; its log names it")
    return Response(encode_error(wrong), 500, media_type="application/json")


_ERRORS = {ProaError: _on_proa_error, HTTPException: _on_http_error, Exception: _on_fault}
