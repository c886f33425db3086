"""The engine, through the gateway's engine door: deltas as they come, faults as proa's errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from proa.errors import (
    InvalidInput,
    LimitReached,
    ProaError,
    Unavailable,
    error_from_wire,
)
from proa.http.sse import FrameParser, data_of
from proa.release.manifest import Engine, Sampling
from proa_assistant.wire import Usage

__all__ = ["Delta", "EngineDoor"]

_CONNECT_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 60.0
_TOTAL_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: text, the reason it ends, or the usage; the others are empty."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None


class EngineDoor:
    """Streams chat answers from one engine. Open and close it inside the running loop.

    Args:
        url: the engine door with its `/v1`.
        key: a key with the rights `engine` and `internal`.
        engine: which engine, and its sampling.
        idle_seconds: longest silence between two pieces.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        engine: Engine,
        sampling: Sampling,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._url = url.rstrip("/") + "/chat/completions"
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._engine, self._sampling = engine, sampling
        self._timeout = aiohttp.ClientTimeout(
            total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=idle_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=self._timeout, auto_decompress=False
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int | None,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[Delta, None]:
        """Ask and yield the answer's pieces; closing the generator ends the engine's work.

        Raises:
            Unavailable: the engine is down, refuses, is silent too long or dies in the middle.
            LimitReached: the caller's budget or rate is used up.
            InvalidInput: the engine cannot take this prompt.
        """
        assert self._session is not None
        body = orjson.dumps(self._body(messages, max_tokens))
        try:
            async with self._session.post(
                self._url, data=body, headers={**self._headers, **headers}
            ) as response:
                if response.status >= 400:
                    raise self._refused(response.status, await response.read())
                ended = False
                async for delta in _deltas(response.content):
                    ended = ended or delta.finish_reason is not None
                    yield delta
                if not ended:
                    raise self._broken("ended in the middle of an answer")
        except TimeoutError as error:
            raise self._broken("did not answer in time", code="engine_timeout") from error
        except aiohttp.ClientConnectorError as error:
            raise self._broken("cannot be reached", code="engine_down") from error
        except aiohttp.ClientError as error:
            raise self._broken(f"broke off: {type(error).__name__}") from error

    def _body(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int | None
    ) -> dict[str, Any]:
        sampling = self._sampling
        limit = sampling.max_tokens if max_tokens is None else min(max_tokens, sampling.max_tokens)
        body: dict[str, Any] = {
            "model": self._engine.identity,
            "messages": list(messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": limit,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = sampling.stop
        return body

    def _refused(self, status: int, data: bytes) -> ProaError:
        """The engine door's refusal in terms of the user's call: its keys are not the user's."""
        try:
            body: object = orjson.loads(data)
        except orjson.JSONDecodeError:
            body = data.decode("utf-8", "replace")
        error = error_from_wire(status, body)
        if status == 429:
            return LimitReached(error.message, hint=error.hint, code=error.code)
        if status in (400, 413, 422):
            return InvalidInput(f"the engine refused the prompt: {error.message}")
        return Unavailable(
            f"the engine {self._engine.identity} answered {status}: {error.message}",
            code="engine_missing" if status == 404 else "engine_error",
        )

    def _broken(self, what: str, *, code: str = "engine_died") -> Unavailable:
        return Unavailable(f"the engine {self._engine.identity} {what}", code=code)


async def _deltas(content: aiohttp.StreamReader) -> AsyncGenerator[Delta, None]:
    frames = FrameParser()
    async for data in content.iter_any():
        for frame in frames.feed(data):
            value = data_of(frame)
            if value is None or value == b"[DONE]":
                continue
            for delta in _read(value):
                yield delta


def _read(data: bytes) -> list[Delta]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Unavailable("the engine sent a chunk that is no JSON", code="engine_died") from error
    if isinstance(chunk.get("error"), Mapping):
        failed = error_from_wire(503, chunk)
        raise Unavailable(f"the engine failed: {failed.message}", code="engine_died")
    deltas = []
    for choice in chunk.get("choices") or ():
        text = (choice.get("delta") or {}).get("content") or ""
        if text or choice.get("finish_reason"):
            deltas.append(Delta(text, choice.get("finish_reason")))
    usage = chunk.get("usage")
    if usage:
        given = Usage(
            usage.get("prompt_tokens") or 0,
            usage.get("completion_tokens") or 0,
            (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        )
        deltas.append(Delta(usage=given))
    return deltas
