"""The fastest upstream Python can be: fixed bytes on a raw protocol, for benchmarks.

Faked: everything but the connection and the bytes of the answers. A real predictor or engine
would take most of the machine that is to measure the gateway.

    python -m tests.standins.bare --port 8000 [--delay-ms 20] [--deltas 64] [--pace-ms 20]
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import orjson
import uvloop

_INFER = orjson.dumps(
    {
        "model_name": "m",
        "outputs": [
            {"name": "probability", "datatype": "FP64", "shape": [1], "data": [0.31]},
            {"name": "label", "datatype": "BOOL", "shape": [1], "data": [False]},
        ],
    }
)
_CHAT = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "words and more words " * 12},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 330, "completion_tokens": 48, "total_tokens": 378},
    }
)
_DELTA = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":330,"completion_tokens":%d}}\n\n'
_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Bare(asyncio.Protocol):
    """One connection."""

    def __init__(self, delay: float, deltas: int, pace: float) -> None:
        self._delay, self._deltas, self._pace = delay, deltas, pace
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + size:
            return
        body, self._buffer = self._buffer[end + 4 :], b""
        if self._delay:
            self._loop.call_later(self._delay, self._answer, head, body)
        else:
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if b'"stream":true' in body:
            self._transport.write(_SSE_HEAD)
            self._send_delta(0)
            return
        answer = _CHAT if b"/chat/" in head[:40] else _INFER
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(answer), answer)
        )

    def _send_delta(self, number: int) -> None:
        if number < self._deltas:
            self._transport.write(_chunk(_DELTA))
            self._loop.call_later(self._pace, self._send_delta, number + 1)
            return
        last = _chunk(_USAGE % self._deltas) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self._transport.write(last)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--deltas", type=int, default=64)
    parser.add_argument("--pace-ms", type=float, default=20)
    asked = parser.parse_args()
    server = await asyncio.get_running_loop().create_server(
        lambda: Bare(asked.delay_ms / 1000, asked.deltas, asked.pace_ms / 1000),
        "127.0.0.1",
        asked.port,
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main())
