"""One request and its reply: a client that leaves is seen, and every request has its one event."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from proa.errors import Internal, ProaError
from proa.events.event import Event
from proa.http.bodies import (
    ClientGone,
    Receive,
    Scope,
    Send,
    decode_object,
    encode_error,
    read_body,
    send_error,
    send_json,
)
from proa.http.caller import caller_of
from proa_assistant.answer import Answer, Answerer
from proa_assistant.metrics import Metrics
from proa_assistant.question import Limits, Question, read_question
from proa_assistant.wire import DONE, Envelope, Usage, error_event

__all__ = ["Chat", "Emit", "Faults"]

Emit = Callable[[Event, Sequence[str]], bool]
"""Takes an event and the passages its answer was made from."""
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults on purpose, for tests of whoever calls; none by default."""

    delay_ms: float = 0.0
    error_ratio: float = 0.0

    async def strike(self) -> None:
        """Wait, and maybe fail."""
        if self.delay_ms:
            await asyncio.sleep(self.delay_ms / 1000)
        if self.error_ratio and random.random() < self.error_ratio:
            raise Internal("a fault on purpose (--fault-error-ratio)", code="fault")


@dataclass(frozen=True, slots=True)
class Chat:
    """`POST /v1/chat/completions` as a raw ASGI application."""

    answerer: Answerer
    emit: Emit
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    faults: Faults = field(default_factory=Faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(caller_of(scope["headers"]), time.perf_counter())
        with self.metrics.under_way.track_inprogress():
            await _Exchange(self, answer, scope, receive, send).run()


class _Exchange:
    def __init__(
        self, chat: Chat, answer: Answer, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._chat, self._answer = chat, answer
        self._scope, self._receive, self._send = scope, receive, send
        self._started = self._recorded = False

    async def run(self) -> None:
        """Answer; whatever happens, one event is emitted."""
        try:
            await self._serve()
        except (ClientGone, asyncio.CancelledError) as gone:
            self._record(gone=True)
            if isinstance(gone, asyncio.CancelledError):
                raise
        except Exception as fault:
            error = fault if isinstance(fault, ProaError) else _unexpected(self._answer)
            self._chat.metrics.errors.labels(error.code).inc()
            self._record(error)
            await self._fail(error)

    async def _serve(self) -> None:
        self._answer.time = self._answer.caller.moment()
        body = decode_object(await read_body(self._scope, self._receive))
        chat = self._chat
        question = read_question(body, model=chat.answerer.model, limits=chat.limits)
        self._answer.question = question
        await chat.faults.strike()
        work = asyncio.create_task(self._reply(question))
        watch = asyncio.create_task(self._left())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone
            work.result()
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _left(self) -> None:
        """Return when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _reply(self, question: Question) -> None:
        answer, answerer = self._answer, self._chat.answerer
        envelope = Envelope(answer.caller.request, int(time.time()), answerer.model)
        async with aclosing(answerer.pieces(answer, question)) as pieces:
            async for piece in pieces:
                if question.stream:
                    await self._open(envelope)
                    await self._chunk(envelope.delta(piece))
        reason, usage = answer.finish_reason or "stop", answer.usage or Usage()
        extra = answer.extra(answerer.release)
        # The event is queued before the last byte: no answered call lacks its event.
        if not question.stream:
            self._record()
            await send_json(
                self._send,
                envelope.whole(answer.text, finish_reason=reason, usage=usage, extra=extra),
            )
            return
        await self._open(envelope)
        await self._chunk(envelope.finish(reason))
        await self._chunk(envelope.last(usage=usage, extra=extra))
        self._record()
        await self._chunk(DONE, more=False)

    async def _open(self, envelope: Envelope) -> None:
        """Send head and first chunk, once; until then a fault still is an HTTP error."""
        if not self._started:
            self._started = True
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS}
            )
            await self._chunk(envelope.first())

    async def _chunk(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _fail(self, error: ProaError) -> None:
        request = self._answer.caller.request
        if self._started:
            await self._chunk(error_event(encode_error(error, request)), more=False)
        else:
            await send_error(self._send, error, request=request)

    def _record(self, error: ProaError | None = None, *, gone: bool = False) -> None:
        if not self._recorded:
            self._recorded = True
            answerer = self._chat.answerer
            event = answerer.event(self._answer, error=error, gone=gone)
            self._chat.metrics.count(event)
            self._chat.emit(event, answerer.passages(self._answer))


def _unexpected(answer: Answer) -> Internal:
    _log.exception("request %s failed", answer.caller.request)
    return Internal("an unexpected fault of proa; the log of this process names it")
