"""Answers in OpenAI's shapes: one object, or chunks of a stream, with the `proa` part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

__all__ = ["DONE", "Envelope", "Usage"]

DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int | None = None
    """Of those in, the ones the engine still had; None when it does not say."""

    def to_wire(self) -> dict[str, int]:
        """OpenAI's `usage`."""
        return {
            "prompt_tokens": self.tokens_in,
            "completion_tokens": self.tokens_out,
            "total_tokens": self.tokens_in + self.tokens_out,
        }


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of one answer repeats."""

    request: str
    created: int
    model: str

    def whole(
        self, text: str, *, finish_reason: str, usage: Usage, extra: Mapping[str, Any]
    ) -> bytes:
        """An answer that is not streamed."""
        message = {"role": "assistant", "content": text}
        return orjson.dumps(
            {
                **self._head("chat.completion"),
                "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
                "usage": usage.to_wire(),
                "proa": extra,
            }
        )

    def first(self) -> bytes:
        """The chunk that opens a stream."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def delta(self, text: str) -> bytes:
        """A piece of text."""
        return self._chunk({"content": text}, None)

    def finish(self, reason: str) -> bytes:
        """The chunk that says why the text ends."""
        return self._chunk({}, reason)

    def last(self, *, usage: Usage, extra: Mapping[str, Any]) -> bytes:
        """The chunk with usage and the `proa` part, before `[DONE]`."""
        return _event(
            {
                **self._head("chat.completion.chunk"),
                "choices": [],
                "usage": usage.to_wire(),
                "proa": extra,
            }
        )

    def _chunk(self, delta: Mapping[str, Any], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.request}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }


def error_event(body: bytes) -> bytes:
    """An error inside a stream; the stream ends after it, without `[DONE]`."""
    return b"data: " + body + b"\n\n"


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
