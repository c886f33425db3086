"""The assistant's HTTP surface: the chat endpoint, what is served, and how it is."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proa.errors import InvalidInput, NotFound
from proa.http import headers as names
from proa.http.bodies import Receive, Scope, Send, encode_error
from proa.http.ids import new_id
from proa.http.serving import App
from proa_assistant.exchange import Chat
from proa_assistant.loading import Loaded

__all__ = ["make_app"]

_REQUEST = names.REQUEST.encode()


def make_app(chat: Chat, loaded: Loaded, operations: list[BaseRoute]) -> App:
    """Every route of an assistant that serves one release, and those that every process has."""
    served = orjson.dumps(
        {
            "release": str(loaded.ref),
            "kind": loaded.manifest.kind,
            "runtime": loaded.manifest.runtime.fingerprint(),
            "selftest": {"cases": loaded.cases, "passed": True},
        }
    )

    async def release(_: Request) -> Response:
        return Response(served, media_type="application/json")

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/release", release),
            *operations,
        ],
        exception_handlers={HTTPException: _not_served},
    )
    return _stamped(app, str(loaded.ref).encode())


def _stamped(app: App, release: bytes) -> App:
    """Every answer says which release and which request it is of."""

    async def stamped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = next((value for name, value in scope["headers"] if name == _REQUEST), b"")
        if not request:
            request = new_id().encode()
            scope["headers"] = [*scope["headers"], (_REQUEST, request)]
        stamps = [(names.RELEASE.encode(), release), (_REQUEST, request)]

        async def send_stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *stamps]}
            await send(message)

        await app(scope, receive, send_stamped)

    return stamped


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        fault: InvalidInput | NotFound = InvalidInput(f"{asked}: another method is expected")
    else:
        fault = NotFound(f"{asked}: no such path", code="unknown_path")
    body = encode_error(fault, request.headers.get(names.REQUEST))
    return Response(body, error.status_code, error.headers, "application/json")
