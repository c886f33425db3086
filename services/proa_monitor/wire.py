"""What every route of the monitor does: who asks, a number in the query, an answer in JSON."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from proa.errors import InvalidInput
from proa.ledger.keys import Key, KeyStore

__all__ = ["authorized", "json_answer", "number_of"]


def authorized(keys: KeyStore, request: Request, right: str) -> Key:
    """The request's key, which has `right`.

    Raises:
        Unauthenticated, Forbidden: it is none, or lacks the right.
    """
    key = keys.authenticate(request.headers.get("authorization"))
    key.require(right)
    return key


def json_answer(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def number_of(request: Request, name: str, *, default: int, most: int) -> int:
    """A whole number of the query, from 1 to `most`.

    Raises:
        InvalidInput: another text.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise InvalidInput(f"{name} = {text[:40]!r}: expected 1 to {most:,}", param=name)
    return int(text)
