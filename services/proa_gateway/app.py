"""The gateway's two apps: every route on this screen."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from proa.http.bodies import Receive, Scope, Send
from proa.http.faults import error_handlers
from proa.http.serving import App
from proa_gateway.admin import Admin
from proa_gateway.engine_door import EngineDoor
from proa_gateway.user_door import UserDoor

__all__ = ["engine_app", "user_app"]

_log = logging.getLogger(__name__)


def user_app(door: UserDoor, admin: Admin, operations: Sequence[BaseRoute]) -> App:
    """The user door and `/proa/v1`."""
    routes = [
        Route("/v1/chat/completions", Raw(door.chat), methods=["POST"]),
        Route("/v2/models/{name}/infer", Raw(door.infer), methods=["POST"]),
        Route("/v1/models/{name}/predict", Raw(door.predict), methods=["POST"]),
        Route("/v1/models", admin.models),
        Route("/proa/v1/calls", admin.calls),
        Route("/proa/v1/costs", admin.costs),
        Route("/proa/v1/counts", admin.counts),
        Route("/proa/v1/tallies", admin.tallies),
        Route("/proa/v1/routes", admin.loaded_routes),
        Route("/proa/v1/keys", admin.list_keys, methods=["GET"]),
        Route("/proa/v1/keys", admin.create_key, methods=["POST"]),
        Route("/proa/v1/keys/{id}", admin.revoke_key, methods=["DELETE"]),
        *operations,
    ]
    return Starlette(routes=routes, exception_handlers=error_handlers("gateway", _log))


def engine_app(door: EngineDoor, operations: Sequence[BaseRoute]) -> App:
    """The engine door."""
    routes = [
        Route("/v1/chat/completions", Raw(door.chat), methods=["POST"]),
        *operations,
    ]
    return Starlette(routes=routes, exception_handlers=error_handlers("gateway", _log))


class Raw:
    """An ASGI handler as a route's endpoint: Starlette would take a bare method for a view."""

    def __init__(self, handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._handler = handler

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._handler(scope, receive, send)
