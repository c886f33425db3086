"""Bodies in and out: bounded reads, JSON whose faults are named, errors as JSON.

Raw ASGI, because the gateway and the predictor answer thousands of requests a second here and
Starlette's Request and Response objects would be half of their time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import orjson

from proa.errors import Internal, InvalidInput, ProaError, Unavailable

__all__ = [
    "BODY_LIMIT",
    "JSON_TYPE",
    "ClientGone",
    "decode_object",
    "encode_error",
    "read_body",
    "send_error",
    "send_json",
    "status_of",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

BODY_LIMIT: Final = 1 << 20
"""Bytes of one request body, unless a service says otherwise: 1 MiB."""
JSON_TYPE: Final[Header] = (b"content-type", b"application/json")

# HTTP has its own status for these two; the class of the error stays InvalidInput.
_STATUS_BY_CODE: Final = {"body_too_large": 413, "headers_too_large": 431}


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(scope: Scope, receive: Receive, *, limit: int = BODY_LIMIT) -> bytes:
    """The whole request body.

    Args:
        scope: the ASGI scope; a `content-length` above the limit is refused before reading.
        receive: the ASGI receive function.
        limit: bytes allowed.

    Raises:
        InvalidInput: the body is larger than `limit` (code `body_too_large`, HTTP 413), or sent
            with a content encoding.
        ClientGone: the connection closed first.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if int(value) > limit:
                raise _too_large(f"{int(value):,} bytes", limit)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise InvalidInput(
                f"content-encoding {value.decode('latin-1')!r} is not supported: send the body "
                "without compression",
                param="content-encoding",
            )
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    parts, size, more = [body], len(body), message.get("more_body", False)
    while more and size <= limit:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    if size > limit:
        raise _too_large(f"at least {size:,} bytes", limit)
    return b"".join(parts)


def _too_large(size: str, limit: int) -> InvalidInput:
    return InvalidInput(
        f"the request body is too large: {size}, at most {limit:,} are allowed",
        code="body_too_large",
    )


def decode_object(body: bytes, *, what: str = "the request body") -> dict[str, Any]:
    """Decode a JSON object.

    Raises:
        InvalidInput: no UTF-8 JSON, or JSON of another type; the message says which and where.
    """
    if not body:
        raise InvalidInput(f"{what} is empty: expected a JSON object", code="invalid_json")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{what} is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise InvalidInput(
            f"{what} is a JSON {_json_type(value)}: expected an object", code="invalid_json"
        )
    return value


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names.get(type(value), "value")


def status_of(error: ProaError) -> int:
    """The HTTP status an error is answered with."""
    return _STATUS_BY_CODE.get(error.code, error.status)


def encode_error(error: ProaError, request: str | None = None) -> bytes:
    """The JSON body of an error, see `ProaError.to_wire`."""
    return orjson.dumps(error.to_wire(request))


async def send_json(
    send: Send, value: Any, *, status: int = 200, headers: Iterable[Header] = ()
) -> None:
    """Answer with `value` as JSON; bytes are taken as JSON already encoded."""
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    head = [JSON_TYPE, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, error: Exception, *, request: str | None = None, headers: Iterable[Header] = ()
) -> None:
    """Answer with an error; anything but a ProaError is `Internal` and says nothing more."""
    if not isinstance(error, ProaError):
        error = Internal("an unexpected fault of proa; the log of this process names it")
    head = list(headers)
    if isinstance(error, Unavailable):
        head.append((b"retry-after", b"1"))
    if error.code == "unauthenticated":
        head.append((b"www-authenticate", b"Bearer"))
    await send_json(send, encode_error(error, request), status=status_of(error), headers=head)
