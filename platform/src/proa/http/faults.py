"""What a Starlette application answers to errors: one JSON shape for all processes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from proa.errors import Internal, InvalidInput, NotFound, ProaError
from proa.http.bodies import encode_error, status_of

Handler = Callable[[Request, Exception], Awaitable[Response]]


def error_handlers(process: str, log: logging.Logger) -> Mapping[Any, Handler]:
    """Handlers for `Starlette(exception_handlers=…)`.

    Args:
        process: named to the caller when something unexpected went wrong; the rest is in `log`.
    """

    async def on_fault(request: Request, error: Exception) -> Response:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return _answer(Internal(f"an unexpected fault of the {process}; its log names it"))

    return {ProaError: _on_proa_error, HTTPException: _on_http_error, Exception: on_fault}


async def _on_proa_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProaError)
    return _answer(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return _answer(InvalidInput(f"{where}: use {allowed}", code="wrong_method"), 405)
    return _answer(
        NotFound(f"{where}: there is no such path", code="unknown_path"), error.status_code
    )


def _answer(error: ProaError, status: int | None = None) -> Response:
    return Response(encode_error(error), status or status_of(error), media_type="application/json")
