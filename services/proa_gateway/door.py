"""What both doors do alike: let in, forward, record, answer. In that order, always."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import aiohttp
import orjson

from proa.errors import Forbidden, Internal, ProaError, Unauthenticated, Unavailable
from proa.http import headers as names
from proa.http.bodies import (
    BODY_LIMIT,
    ClientGone,
    Header,
    Receive,
    Scope,
    Send,
    encode_error,
    read_body,
    send_error,
    status_of,
)
from proa.http.clock import Clock, rfc3339
from proa.http.ids import new_id
from proa.ledger.call import BROKEN_STREAM, CLIENT_GONE, Door
from proa.ledger.keys import KeyStore
from proa_gateway.caller import caller_of
from proa_gateway.calls import CallUnderWay, Recorder
from proa_gateway.errand import Errand
from proa_gateway.metrics import Metrics
from proa_gateway.streams import StreamTally, WhileConnected, relay
from proa_gateway.upstream import Upstream

__all__ = ["Gate", "Plan"]

Plan = Callable[[CallUnderWay, Scope, bytes], Errand]
"""Decides from a call, its scope and its body what is asked of whom; raises ProaError."""

CLIENT_GONE_STATUS: Final = 499
"""Recorded, never sent: nobody is left to send it to (nginx's convention)."""
_REST_SECONDS: Final = 1.0
_EVENT_STREAM: Final = "text/event-stream"
_REQUEST, _RELEASE, _TRACK = names.REQUEST.encode(), names.RELEASE.encode(), names.TRACK.encode()
_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """One door's way from a request to a recorded answer.

    Attributes:
        door: its name in the ledger.
        right: what a key needs to pass.
    """

    door: Door
    right: str
    keys: KeyStore
    upstream: Upstream
    recorder: Recorder
    metrics: Metrics
    clock: Clock
    body_limit: int = BODY_LIMIT

    async def handle(
        self, scope: Scope, receive: Receive, send: Send, *, kind: str, plan: Plan
    ) -> None:
        """Answer one request; every outcome for a caller with a valid key is recorded."""
        begun, request, call = perf_counter(), new_id(), None
        try:
            headers = dict(scope["headers"])
            key = self.keys.authenticate(headers.get(b"authorization"))
            key.require(self.right)
            caller = caller_of(key, headers)
            started = rfc3339(self.clock.now())
            call = CallUnderWay(request, self.door, caller, started, begun, kind)
            body = await read_body(scope, receive, limit=self.body_limit)
            await self._forward(call, plan(call, scope, body), receive, send)
        except ClientGone:
            self._give_up(call, CLIENT_GONE)
        except asyncio.CancelledError:
            self._give_up(call, "shutdown")
            raise
        except Exception as error:
            await self._refuse(request, call, error, send)

    async def _forward(
        self, call: CallUnderWay, errand: Errand, receive: Receive, send: Send
    ) -> None:
        watch: AbstractContextManager[None] = (
            WhileConnected(receive) if errand.chat else nullcontext()
        )
        with watch:
            response = await self.upstream.post(
                errand.url,
                errand.path,
                body=errand.body,
                headers=errand.headers,
                stream=errand.tally is not None,
                what=errand.what,
            )
            try:
                call.release = response.headers.get(names.RELEASE) or call.release
                tally = errand.tally if _is_stream(response) else None
                body, broken = b"", None
                if tally is None:
                    body = await self.upstream.read(response, what=errand.what)
                else:
                    broken = await self._relay(call, errand, tally, response, send)
            except BaseException:
                response.close()
                raise
        if tally is None:
            await self._end_answer(call, errand, response, body, send)
        else:
            await self._end_stream(call, tally, broken, send)
            await _give_back(response)

    async def _end_answer(
        self,
        call: CallUnderWay,
        errand: Errand,
        response: aiohttp.ClientResponse,
        body: bytes,
        send: Send,
    ) -> None:
        status, error = response.status, None
        if status >= 400:
            if errand.own_key and status in (401, 403):
                raise Internal(f"{errand.what} refused the gateway's key", code="engine_key")
            error = _code_of(body, status)
        else:
            errand.count(call, body, response.headers.get(names.FACTS))
            errand.charge(call)
        self.recorder.record(call, status, error=error)
        head = _head(call)
        head.append((b"content-length", b"%d" % len(body)))
        for name in ("content-type", "retry-after"):
            if (value := response.headers.get(name)) is not None:
                head.append((name.encode(), value.encode("latin-1")))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})
        if errand.shadow is not None:
            errand.shadow(call, errand)

    async def _relay(
        self,
        call: CallUnderWay,
        errand: Errand,
        tally: StreamTally,
        response: aiohttp.ClientResponse,
        send: Send,
    ) -> ProaError | None:
        """Pass the stream on; returns what broke it. Before the first frame that is raised."""

        async def send_frames(frames: bytes) -> None:
            if not call.status:
                await _start_stream(call, send)
            await send({"type": "http.response.body", "body": frames, "more_body": True})

        def on_content() -> None:
            call.ttft_ms = call.elapsed_ms()

        broken: ProaError | None = None
        try:
            pieces = response.content.iter_any()
            await relay(pieces, tally, send_frames, on_content=on_content)
        except (aiohttp.ClientError, TimeoutError) as error:
            broken = self.upstream.translate(error, errand.what)
        except ProaError as error:
            broken = error
        finally:
            call.tokens_in, call.tokens_out = tally.tokens_in, tally.tokens_out
            call.finish_reason, call.refused = tally.finish_reason, tally.refused
            call.guard_hits = tally.guard_hits
            errand.charge(call)
        if tally.failed:
            broken = Unavailable(f"{errand.what} told an error inside the stream")
        elif broken is None and not tally.done:
            broken = Unavailable(f"{errand.what} ended the stream before its end")
        if broken is not None:
            broken.code = BROKEN_STREAM
            if not call.status:
                raise broken
        return broken

    async def _end_stream(
        self, call: CallUnderWay, tally: StreamTally, broken: ProaError | None, send: Send
    ) -> None:
        """The last frame: `[DONE]` once the call is written, else what went wrong."""
        if not call.status:
            await _start_stream(call, send)
        if broken is None:
            try:
                self.recorder.record(call, 200)
            except Unavailable as error:
                broken = error
        if broken is None:
            await send({"type": "http.response.body", "body": tally.end})
            return
        self._give_up(call, BROKEN_STREAM)
        # An error the upstream told itself has passed already.
        event = b"" if tally.failed else b"data: %b\n\n" % encode_error(broken, call.request)
        await send({"type": "http.response.body", "body": event})

    def _give_up(self, call: CallUnderWay | None, reason: str) -> None:
        """Record a call whose answer did not reach its end."""
        if call is None:
            return
        try:
            status = call.status or CLIENT_GONE_STATUS
            self.recorder.record(call, status, error=reason, complete=False)
        except Unavailable:
            _log.exception("the call %s could not be recorded", call.request)

    async def _refuse(
        self, request: str, call: CallUnderWay | None, error: Exception, send: Send
    ) -> None:
        if not isinstance(error, ProaError):
            _log.exception("request %s", request)
            error = Internal("an unexpected fault of the gateway; its log names this request")
        if isinstance(error, Unauthenticated | Forbidden):
            self.metrics.refused.labels(self.door, error.code).inc()
        if call is not None:
            try:
                self.recorder.record(call, status_of(error), error=error.code)
            except Unavailable as unwritable:
                error = unwritable
        head = [(_REQUEST, request.encode())] if call is None else _head(call)
        await send_error(send, error, request=request, headers=head)


async def _start_stream(call: CallUnderWay, send: Send) -> None:
    call.status = 200
    head = [*_STREAM_HEADERS, *_head(call)]
    await send({"type": "http.response.start", "status": 200, "headers": head})


def _head(call: CallUnderWay) -> list[Header]:
    head: list[Header] = [(_REQUEST, call.request.encode())]
    if call.release is not None:
        head.append((_RELEASE, call.release.encode("latin-1")))
    if call.track is not None:
        head.append((_TRACK, call.track.encode("latin-1")))
    return head


def _is_stream(response: aiohttp.ClientResponse) -> bool:
    kind = response.headers.get("content-type", "")
    return response.status == 200 and kind.startswith(_EVENT_STREAM)


def _code_of(body: bytes, status: int) -> str:
    """The code of an upstream's error, for the ledger."""
    try:
        code = orjson.loads(body)["error"]["code"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        code = None
    return code[:64] if isinstance(code, str) and code else f"http_{status}"


async def _give_back(response: aiohttp.ClientResponse) -> None:
    """Let the connection be used again: after `[DONE]` only the end of the body is missing."""
    try:
        async with asyncio.timeout(_REST_SECONDS):
            await response.read()
    except (aiohttp.ClientError, TimeoutError):
        response.close()
