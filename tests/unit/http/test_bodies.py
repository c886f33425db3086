from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from proa.errors import Conflict, InvalidInput, ProaError, Unauthenticated, Unavailable
from proa.http.bodies import ClientGone, decode_object, read_body, send_error, status_of


def read(parts: list[bytes], *, headers: Any = (), limit: int = 10, gone: bool = False) -> bytes:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1 or gone}
        for i, part in enumerate(parts)
    ]
    messages.append({"type": "http.disconnect"})
    source = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(source)

    return asyncio.run(read_body({"headers": headers}, receive, limit=limit))


def test_a_body_comes_in_parts() -> None:
    assert read([b"abc"]) == b"abc"
    assert read([b"abc", b"", b"def"]) == b"abcdef"
    assert read([b"0123456789"]) == b"0123456789"


@pytest.mark.parametrize(
    ("parts", "headers", "size"),
    [
        ([b"x" * 11], [], "at least 11 bytes"),
        ([b"x" * 6, b"x" * 6], [], "at least 12 bytes"),
        ([b""], [(b"content-length", b"4096")], "4,096 bytes"),
    ],
)
def test_too_large_names_size_and_limit(parts: list[bytes], headers: Any, size: str) -> None:
    with pytest.raises(InvalidInput, match=f"too large: {size}, at most 10 are allowed") as caught:
        read(parts, headers=headers)
    assert status_of(caught.value) == 413


def test_a_client_that_leaves_is_no_error_of_its_own() -> None:
    with pytest.raises(ClientGone):
        read([b"abc"], gone=True)
    with pytest.raises(ClientGone):
        read([])


def test_compressed_bodies_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="content-encoding 'gzip' is not supported"):
        read([b"x"], headers=[(b"content-encoding", b"gzip")])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is empty"),
        (b"{", "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[1]", "is a JSON array"),
        (b'"x"', "is a JSON string"),
        (b"3", "is a JSON number"),
        (b"null", "is a JSON null"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_json_object_is_named(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_object(body)


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (Unavailable("down"), 503, b"retry-after"),
        (Unauthenticated("who"), 401, b"www-authenticate"),
        (Conflict("taken"), 409, None),
        (ValueError("a secret path"), 500, None),
    ],
)
def test_errors_are_rendered_once(error: Exception, status: int, header: bytes | None) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(send_error(send, error, request="R"))
    assert sent[0]["status"] == status
    body = orjson.loads(sent[1]["body"])["error"]
    assert body["request"] == "R"
    assert "secret" not in body["message"]
    if isinstance(error, ProaError):
        assert body["message"] == error.message
    if header is not None:
        assert header in dict(sent[0]["headers"])
