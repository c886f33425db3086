"""A stand-in for a predictor, an assistant or an engine behind the gateway.

Faked: what is answered. Real: an HTTP server in a process of its own that streams, stalls, breaks
and dies the way the real ones do, on command. The real ones take 1 to 100 s to start and cannot
be told to die after the third token; the gateway's tests need exactly that, hundreds of times.

The last message's content of a chat (or `parameters.standin` of an inference request) is a JSON
object of orders, see `Orders`. `GET /seen` tells what arrived and how many streams were cut.

    python -m tests.standins.upstream --port 8000 --release m/1@sha256:… [--host HOST] [--uds PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


@dataclass(frozen=True)
class Orders:
    """What the stand-in shall do.

    Attributes:
        deltas: pieces of content, `w0 w1 …`; also the completion tokens of the usage.
        pace_ms: between two pieces.
        wait_ms: before anything is answered.
        status: answer this error instead.
        die_after: end the process after this many pieces.
        cut_after: close the connection after this many pieces.
        error_after: tell an error inside the stream, then `[DONE]`, as vLLM does.
        done: send `[DONE]`.
        split: write the stream in parts of this many bytes.
        raw: send these frames instead of pieces.
        proa: the last chunk carries what an assistant adds.
    """

    deltas: int = 3
    pace_ms: float = 0
    wait_ms: float = 0
    status: int | None = None
    die_after: int | None = None
    cut_after: int | None = None
    error_after: int | None = None
    done: bool = True
    split: int | None = None
    raw: list[str] | None = None
    proa: bool = False


@dataclass
class Upstream:
    """The stand-in's state."""

    release: str
    delay_ms: float
    model: str | None
    facts: str | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    cut: int = 0

    async def chat(self, request: Request) -> Response:
        body = await self._note(request)
        if self.model is not None and body["model"] != self.model:
            return self._error(404, "model_not_found")
        orders = _orders(body["messages"][-1]["content"])
        await asyncio.sleep((self.delay_ms + orders.wait_ms) / 1000)
        if orders.status is not None:
            return self._error(orders.status, "standin_says_no")
        if body.get("stream"):
            frames = self._cut_counted(_frames(body, orders))
            return StreamingResponse(frames, headers=self._head(), media_type="text/event-stream")
        answer: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": _text(orders.deltas)}}
            ],
            "usage": _usage(orders.deltas),
        }
        return JSONResponse(answer, headers=self._head())

    async def infer(self, request: Request) -> Response:
        body = await self._note(request)
        orders = _orders(json.dumps(body.get("parameters", {}).get("standin", {})))
        await asyncio.sleep((self.delay_ms + orders.wait_ms) / 1000)
        if orders.die_after is not None:
            os._exit(9)
        if orders.status is not None:
            return self._error(orders.status, "standin_says_no")
        rows = len(body["inputs"][0]["data"])
        output = {"name": "probability", "datatype": "FP64", "shape": [rows], "data": [0.5] * rows}
        return JSONResponse({"model_name": "m", "outputs": [output]}, headers=self._head())

    async def predict(self, request: Request) -> Response:
        body = await self._note(request)
        rows = body.get("rows") or body.get("entities")
        answer = {"predictions": [{"probability": 0.5}] * len(rows), "release": self.release}
        return JSONResponse(answer, headers=self._head())

    async def ready(self, _: Request) -> Response:
        return Response("ok")

    async def tell(self, _: Request) -> Response:
        return JSONResponse({"seen": self.seen, "cut": self.cut})

    async def _note(self, request: Request) -> Any:
        raw = await request.body()
        self.seen = self.seen[-99:]
        note = {"path": request.url.path, "headers": dict(request.headers), "body": raw.decode()}
        self.seen.append({**note, "peer": request.client and request.client.port})
        return orjson.loads(raw)

    async def _cut_counted(self, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        whole = False
        try:
            async for frame in frames:
                yield frame
            whole = True
        finally:
            self.cut += not whole

    def _head(self) -> dict[str, str]:
        head = {"x-proa-release": self.release} if self.release else {}
        return head if self.facts is None else {**head, "x-proa-facts": self.facts}

    def _error(self, status: int, code: str) -> Response:
        body = {"error": {"message": f"stand-in: {code}", "type": "standin", "code": code}}
        return JSONResponse(body, status, headers=self._head())


async def _frames(body: dict[str, Any], orders: Orders) -> AsyncIterator[bytes]:
    async for frame in _whole_frames(body, orders):
        size = orders.split or len(frame)
        for start in range(0, len(frame), size):
            yield frame[start : start + size]
            if orders.split:
                await asyncio.sleep(0)


async def _whole_frames(body: dict[str, Any], orders: Orders) -> AsyncIterator[bytes]:
    options = body.get("stream_options") or {}
    if orders.raw is not None:
        for text in orders.raw:
            yield text.encode()
            await asyncio.sleep(orders.pace_ms / 1000)
        return
    yield _chunk({"role": "assistant", "content": ""})
    for number in range(orders.deltas):
        if number == orders.die_after:
            await asyncio.sleep(0.05)  # what was written before is on the wire
            os._exit(9)
        if number == orders.cut_after:
            raise ConnectionResetError("ordered")
        if number == orders.error_after:
            yield b'data: {"error":{"message":"engine died","code":500}}\n\ndata: [DONE]\n\n'
            return
        usage = _usage(number + 1) if options.get("continuous_usage_stats") else None
        yield _chunk({"content": f"w{number} "}, usage=usage)
        await asyncio.sleep(orders.pace_ms / 1000)
    yield _chunk({}, finish="stop")
    if options.get("include_usage") or orders.proa:
        last: dict[str, Any] = {"object": "chat.completion.chunk", "choices": []}
        last["usage"] = _usage(orders.deltas)
        if orders.proa:
            last["proa"] = {"citations": []}
        yield b"data: %b\n\n" % orjson.dumps(last)
    if orders.done:
        yield b"data: [DONE]\n\n"


def _chunk(
    delta: dict[str, Any], *, finish: str | None = None, usage: dict[str, int] | None = None
) -> bytes:
    chunk: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if usage is not None:
        chunk["usage"] = usage
    return b"data: %b\n\n" % orjson.dumps(chunk)


def _usage(tokens_out: int) -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": tokens_out, "total_tokens": 7 + tokens_out}


def _text(deltas: int) -> str:
    return "".join(f"w{number} " for number in range(deltas))


def _orders(text: Any) -> Orders:
    with contextlib.suppress(ValueError, TypeError):
        value = json.loads(text)
        if isinstance(value, dict):
            return Orders(**value)
    return Orders()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--uds")
    parser.add_argument("--release", default="")
    parser.add_argument("--model")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--facts", help="the header x-proa-facts of every answer")
    asked = parser.parse_args()
    state = Upstream(asked.release, asked.delay_ms, asked.model, asked.facts)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", state.chat, methods=["POST"]),
            Route("/v2/models/{name}/infer", state.infer, methods=["POST"]),
            Route("/v1/predict", state.predict, methods=["POST"]),
            Route("/readyz", state.ready),
            Route("/seen", state.tell),
        ]
    )
    uvicorn.run(
        app, host=asked.host, port=asked.port, uds=asked.uds, log_level="critical", loop="uvloop"
    )


if __name__ == "__main__":
    main()
