"""Server-sent events passed on as bytes, and what is learnt from them in passing.

Only `[DONE]` is held back, until the call is written. The gateway asks the upstream for the usage
when the client did not (`stream_options.include_usage`) and then keeps the usage frame, and only
that one, from the client. A stream without `[DONE]`, or with an error in it, never gets one here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import orjson

from proa.errors import InvalidInput
from proa.http.bodies import ClientGone, Receive
from proa.http.sse import FrameParser, data_of

__all__ = ["StreamTally", "WhileConnected", "ask_usage", "assistant_facts", "relay"]

_DONE: Final = b"[DONE]"
_CONTENT: Final = ("content", "tool_calls", "reasoning", "reasoning_content")

SendFrames = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class StreamTally:
    """What a stream has said so far.

    Attributes:
        hide_usage: the client did not ask for the usage frame that the gateway asked for.
        deltas: pieces of content; an engine sends one a token, as a rule.
        done: the end mark came; `end` is its frame.
        failed: the upstream told an error inside the stream.
    """

    hide_usage: bool = False
    deltas: int = 0
    tokens_in: int | None = None
    usage_out: int | None = None
    done: bool = False
    failed: bool = False
    end: bytes = b""
    finish_reason: str | None = None
    refused: bool | None = None
    guard_hits: int | None = None

    @property
    def tokens_out(self) -> int:
        """As the upstream counted; of a stream that was cut, the pieces that came."""
        return self.deltas if self.usage_out is None else self.usage_out

    def see(self, frame: bytes) -> bool:
        """Learn from a frame; returns whether it passes to the client now."""
        data = data_of(frame)
        if data is None:
            return True
        if data == _DONE:
            self.done, self.end = True, frame
            return False
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return True
        return self._see_chunk(value) if isinstance(value, dict) else True

    def _see_chunk(self, chunk: dict[str, Any]) -> bool:
        if chunk.get("error"):
            self.failed = True
            return True
        usage, choices = chunk.get("usage"), chunk.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self.deltas += _has_content(choice)
                    reason = choice.get("finish_reason")
                    if isinstance(reason, str):
                        self.finish_reason = reason[:32]
        if "proa" in chunk:
            self.refused, self.guard_hits = assistant_facts(chunk["proa"])
        if isinstance(usage, dict):
            self.tokens_in = _count(usage, "prompt_tokens", self.tokens_in)
            self.usage_out = _count(usage, "completion_tokens", self.usage_out)
            # `proa` is the assistant's: citations and context must reach the client.
            return not (self.hide_usage and not choices and "proa" not in chunk)
        return True


def assistant_facts(extra: Any) -> tuple[bool | None, int | None]:
    """Whether an assistant refused, and how many rules fired; None where its `proa` part is not."""
    if not isinstance(extra, dict):
        return None, None
    refused, guard = extra.get("refused"), extra.get("guard")
    return (
        refused if isinstance(refused, bool) else None,
        len(guard) if isinstance(guard, list) else None,
    )


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return False
    return any(delta.get(part) for part in _CONTENT)


def _count(usage: Mapping[str, Any], name: str, default: int | None) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else default


async def relay(
    pieces: AsyncIterable[bytes],
    tally: StreamTally,
    send_frames: SendFrames,
    *,
    on_content: Callable[[], None],
) -> None:
    """Pass a stream on until its end mark or its end, whole frames as they come.

    Raises:
        InvalidInput: a frame without an end.
    """
    parser = FrameParser()
    async for piece in pieces:
        before = tally.deltas
        passed = [frame for frame in parser.feed(piece) if not tally.done and tally.see(frame)]
        if not before and tally.deltas:
            on_content()
        if passed:
            await send_frames(b"".join(passed))
        if tally.done:
            return
    for frame in parser.close():
        if tally.see(frame):
            await send_frames(frame)


def ask_usage(body: bytes, chat: Mapping[str, Any], *, continuous: bool) -> tuple[bytes, bool]:
    """The body with a request for the usage in it, and whether the client itself asked.

    Args:
        body: a JSON object's bytes; when nothing about the stream was asked for they are kept
            and one member is added at the end.
        chat: `body`, decoded.
        continuous: ask for the usage so far in every chunk, too.

    Raises:
        InvalidInput: `stream_options` is no object.
    """
    options = chat.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidInput(
            f"stream_options = {str(options)[:80]}: expected an object",
            code="wrong_type",
            param="stream_options",
        )
    asked = bool(options and options.get("include_usage"))
    wanted: dict[str, Any] = {**(options or {}), "include_usage": True}
    if continuous:
        wanted["continuous_usage_stats"] = True
    if wanted == options:
        return body, asked
    if "stream_options" in chat:
        return orjson.dumps({**chat, "stream_options": wanted}), asked
    head = body.rstrip()[:-1]
    return b'%b,"stream_options":%b}' % (head, orjson.dumps(wanted)), asked


class WhileConnected(AbstractContextManager[None]):
    """Runs its block only as long as the client is there.

    Raises:
        ClientGone: it left; what the block awaited was cancelled.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    def __enter__(self) -> None:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner = owner
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._owner.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watcher.cancel()
        if self._gone and self._owner.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGone from error
