"""A stand-in for vLLM: its OpenAI API, its errors and its metrics, without a model.

    python tests/standins/engine.py --model IDENTITY (--socket PATH | --port N) [--key-file FILE]

With `--served-model-name` it takes vLLM's own arguments, as the chart vllm gives them, and leaves
aside those that mean nothing here. On SIGUSR1 its engine freezes: requests stay, no token comes,
and /health and /metrics answer on, as when vLLM's engine process hangs behind its API server.

Faked: the text (see `answer`), token counts (words and signs) and the time they take. Why: vLLM
needs a minute and 4 GB, and does not break on demand. `tests/contract/test_engine.py` holds the
shapes of this file to those of the real server. Every option has an environment variable
(`--die-after-deltas` is `STANDIN_DIE_AFTER_DELTAS`), for processes that others start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

FINGERPRINT = "standin-engine"
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# Where a passage begins in a system message: `[1] title` on its own line, or a word and a colon.
_NUMBERED = re.compile(r"^\[\d+\][^\n]*\n", re.MULTILINE)
_LABELLED = re.compile(
    r"(?:passages?|context|documentation|documents?|excerpts?|sources?)\b[^:\n.]*:\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and when; nothing by default.

    Attributes:
        delay_seconds: wait before the first byte of an answer.
        tokens_per_second: pace of deltas; 0 is as fast as possible.
        die_after_deltas: close the connection without its end after so many deltas of a stream.
        exit_after_deltas: end the whole process there, as a crash does.
        freeze_after_deltas: send nothing more after so many, with the connection open.
        error_ratio: share of chat requests answered with 500, evenly spread.
    """

    delay_seconds: float = 0.0
    tokens_per_second: float = 0.0
    die_after_deltas: int | None = None
    exit_after_deltas: int | None = None
    freeze_after_deltas: int | None = None
    error_ratio: float = 0.0


class Died(Exception):
    """Raised inside a stream so that the server closes the connection without its last chunk."""


class Rejected(Exception):
    """A request that vLLM would refuse, with the body it would send."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None
    ) -> None:
        super().__init__(message)
        self.status = status
        error = {"message": message, "type": kind, "param": param, "code": status}
        self.body = {"error": error}


def tokens_of(text: str) -> list[str]:
    """Words and signs with the space before them; joined again they are `text`, right-stripped."""
    return _TOKEN.findall(text)


def passage_of(system: str) -> str | None:
    """The first passage a system message carries, or None."""
    if numbered := list(_NUMBERED.finditer(system)):
        end = numbered[1].start() if len(numbered) > 1 else len(system)
        return system[numbered[0].end() : end].strip() or None
    if labelled := _LABELLED.search(system):
        return system[labelled.end() :].strip().strip('"') or None
    return None


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """The first two sentences of the system message's passage, else an echo of the question."""
    system = "\n".join(text_of(m) for m in messages if m.get("role") == "system")
    if passage := passage_of(system):
        first_paragraph = " ".join(passage.split("\n\n")[0].split())
        return " ".join(_SENTENCE_END.split(first_paragraph)[:2])
    users = [text_of(m) for m in messages if m.get("role") == "user"]
    return f"You said: {users[-1] if users else ''}".strip()


def text_of(message: Mapping[str, Any]) -> str:
    """A message's text, also when it comes as a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


@dataclass
class Metrics:
    """vLLM's metric names, of those that proa reads."""

    model: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        names = ["model_name", "engine"]

        def make(kind: Any, name: str, extra: Sequence[str] = ()) -> Any:
            metric = kind(f"vllm:{name}", name, [*names, *extra], registry=self.registry)
            return metric if extra else metric.labels(self.model, "0")

        self.running = make(Gauge, "num_requests_running")
        self.waiting = make(Gauge, "num_requests_waiting")
        self.iterations = make(Histogram, "iteration_tokens_total")
        self.cache_usage = make(Gauge, "kv_cache_usage_perc")
        self.prompt_tokens = make(Counter, "prompt_tokens")
        self.generation_tokens = make(Counter, "generation_tokens")
        self.cache_queries = make(Counter, "prefix_cache_queries")
        self.cache_hits = make(Counter, "prefix_cache_hits")
        self.success = make(Counter, "request_success", ["finished_reason"])
        self.first_token = make(Histogram, "time_to_first_token_seconds")
        self.inter_token = make(Histogram, "inter_token_latency_seconds")
        self.latency = make(Histogram, "e2e_request_latency_seconds")
        for reason in ("stop", "length", "abort", "error"):
            self.success.labels(self.model, "0", reason)


@dataclass(frozen=True)
class Job:
    """One accepted chat request: what will be answered and how it ends."""

    id: str
    created: int
    model: str
    pieces: list[str]
    finish_reason: str
    prompt_tokens: int
    include_usage: bool

    @property
    def usage(self) -> dict[str, int]:
        done = len(self.pieces)
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + done,
            "completion_tokens": done,
        }


class Engine:
    """The state behind the routes: one served model, its faults and its counters."""

    def __init__(
        self, model: str, *, max_model_len: int, faults: Faults, max_num_seqs: int = 256
    ) -> None:
        self.model = model
        self.max_model_len = max_model_len
        self.faults = faults
        self.metrics = Metrics(model)
        self.chats = 0
        self.going = asyncio.Event()
        self.going.set()
        self._seats = asyncio.Semaphore(max_num_seqs)

    def read(self, body: Any) -> Job:
        """Check a chat request as vLLM does.

        Raises:
            Rejected: with vLLM's status, type and param.
        """
        if not isinstance(body, dict):
            raise _invalid("model_attributes_type", "body", "Input should be a valid dictionary")
        messages = body.get("messages")
        if messages is None:
            raise _invalid("missing", "body.messages", "Field required")
        if not isinstance(messages, list):
            raise _invalid("list_type", "body.messages", "Input should be a valid list")
        for name in ("temperature", "top_p", "max_tokens", "max_completion_tokens"):
            if not isinstance(body.get(name), int | float | None):
                raise _invalid("float_parsing", f"body.{name}", "Input should be a valid number")
        asked = body.get("model") or self.model
        if asked != self.model:
            message = f"The model `{asked}` does not exist. Valid aliases: {self.model}."
            raise Rejected(message, status=404, kind="NotFoundError", param="model")
        if not messages:
            raise Rejected("Cannot apply chat template to an empty conversation.", param=None)
        if (temperature := body.get("temperature")) is not None and temperature < 0:
            message = f"temperature must be non-negative, got {temperature}."
            raise Rejected(message, param="temperature")
        return self._job(body, messages)

    def _job(self, body: Mapping[str, Any], messages: list[Mapping[str, Any]]) -> Job:
        prompt = sum(4 + len(tokens_of(text_of(message))) for message in messages)
        if prompt >= self.max_model_len:
            message = (
                f"This model's maximum context length is {self.max_model_len} tokens. However, "
                f"your prompt contains at least {prompt} input tokens."
            )
            raise Rejected(message, param="input_tokens")
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit is None:
            limit = self.max_model_len - prompt
        if limit < 1:
            raise Rejected(f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
        if limit > self.max_model_len:
            message = f"max_tokens={limit} cannot be greater than {self.max_model_len}."
            raise Rejected(message, param="max_tokens")
        pieces = tokens_of(answer(messages))
        return Job(
            id=f"chatcmpl-{secrets.token_hex(8)}",
            created=int(time.time()),
            model=self.model,
            pieces=pieces[:limit],
            finish_reason="length" if len(pieces) > limit else "stop",
            prompt_tokens=prompt,
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )

    def fails_now(self) -> bool:
        """Whether this chat request is one of the `error_ratio` that fail."""
        self.chats += 1
        ratio = self.faults.error_ratio
        return math.floor(self.chats * ratio) > math.floor((self.chats - 1) * ratio)

    async def pieces(self, job: Job) -> AsyncGenerator[str, None]:
        """The answer's tokens at the pace and with the faults asked for, counted as vLLM counts."""
        metrics, faults = self.metrics, self.faults
        began = last = time.monotonic()
        with metrics.waiting.track_inprogress():
            await self._seats.acquire()
        metrics.running.inc()
        metrics.prompt_tokens.inc(job.prompt_tokens)
        metrics.cache_queries.inc(job.prompt_tokens)
        reason = "abort"
        try:
            for number, piece in enumerate(job.pieces):
                await self._break(number)
                if faults.tokens_per_second:
                    await asyncio.sleep(1 / faults.tokens_per_second)
                now = time.monotonic()
                (metrics.inter_token if number else metrics.first_token).observe(now - last)
                last = now
                metrics.generation_tokens.inc()
                metrics.iterations.observe(1)
                yield piece
            await self._break(len(job.pieces))
            reason = job.finish_reason
        finally:
            self._seats.release()
            metrics.running.dec()
            metrics.success.labels(self.model, "0", reason).inc()
            metrics.latency.observe(time.monotonic() - began)

    async def _break(self, sent: int) -> None:
        faults = self.faults
        await self.going.wait()
        if faults.exit_after_deltas is not None and sent >= faults.exit_after_deltas:
            os._exit(139)
        if faults.die_after_deltas is not None and sent >= faults.die_after_deltas:
            raise Died
        if faults.freeze_after_deltas is not None and sent >= faults.freeze_after_deltas:
            await asyncio.Event().wait()

    async def stream(self, job: Job) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""

        def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
            chunk = {
                "id": job.id,
                "object": "chat.completion.chunk",
                "created": job.created,
                "model": job.model,
                "choices": choices,
                **more,
            }
            return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"

        def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

        fingerprint, last = {"system_fingerprint": FINGERPRINT}, ""
        yield event(choice({"role": "assistant", "content": ""}))
        left = len(job.pieces)
        async with contextlib.aclosing(self.pieces(job)) as pieces:
            async for piece in pieces:
                left -= 1
                # A cut answer's last token carries the reason; a whole one ends in an empty delta.
                if left or job.finish_reason == "stop":
                    yield event(choice({"content": piece}))
                else:
                    last = piece
        yield event(
            choice({"content": last}, job.finish_reason),
            **({} if job.include_usage else fingerprint),
        )
        if job.include_usage:
            yield event([], usage=job.usage, **fingerprint)
        yield b"data: [DONE]\n\n"

    async def whole(self, job: Job) -> dict[str, Any]:
        """The answer as one object."""
        text = "".join([piece async for piece in self.pieces(job)])
        message = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": job.finish_reason,
            "stop_reason": None,
        }
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        return {
            "id": job.id,
            "object": "chat.completion",
            "created": job.created,
            "model": job.model,
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": {**job.usage, **details},
        }


def _invalid(kind: str, where: str, message: str) -> Rejected:
    text = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{where}', 'msg': '{message}'}}"
    return Rejected(text, kind="Bad Request", param=where)


def make_app(engine: Engine, key: str | None) -> ASGIApp:
    """vLLM's routes over one engine; `/v1` asks for the key, the others do not, as in vLLM."""

    async def chat(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ClientDisconnect:
            return Response(status_code=499)
        except ValueError as error:
            return _rejection(_invalid("json_invalid", "body.1", f"JSON decode error: {error}"))
        if engine.faults.delay_seconds:
            await asyncio.sleep(engine.faults.delay_seconds)
        if engine.fails_now():
            fault = Rejected("asked to fail", status=500, kind="InternalServerError", param=None)
            return _rejection(fault)
        try:
            job = engine.read(body)
        except Rejected as rejected:
            return _rejection(rejected)
        if body.get("stream"):
            return StreamingResponse(engine.stream(job), media_type="text/event-stream")
        return JSONResponse(await engine.whole(job))

    async def models(_: Request) -> Response:
        card = {
            "id": engine.model,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "vllm",
            "root": engine.model,
            "parent": None,
            "max_model_len": engine.max_model_len,
        }
        return JSONResponse({"object": "list", "data": [card]})

    async def health(_: Request) -> Response:
        return Response()

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(generate_latest(engine.metrics.registry))

    async def not_routed(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"detail": error.detail}, error.status_code)

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/models", models),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: not_routed})
    return _guarded(app, key)


def _guarded(app: ASGIApp, key: str | None) -> ASGIApp:
    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and key and scope["path"].startswith("/v1"):
            sent = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(sent, f"Bearer {key}".encode()):
                refusal = JSONResponse({"error": "Unauthorized"}, 401)
                await refusal(scope, receive, send)
                return
        await app(scope, receive, send)

    return guard


def _rejection(rejected: Rejected) -> Response:
    return JSONResponse(rejected.body, rejected.status)


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    """Options from `argv`, with defaults from `STANDIN_*` variables."""
    parser = argparse.ArgumentParser(description="a stand-in for vLLM")

    def option(name: str, kind: Any, default: Any = None) -> None:
        variable = "STANDIN_" + name.replace("-", "_").upper()
        given = environ.get(variable)
        parser.add_argument(f"--{name}", type=kind, default=kind(given) if given else default)

    option("model", str, "standin")
    option("served-model-name", str)
    option("host", str, "127.0.0.1")
    option("max-num-seqs", int, 256)
    option("start-seconds", float, 0.0)
    option("socket", Path)
    option("port", int)
    option("key-file", Path)
    option("max-model-len", int, 2048)
    option("delay-seconds", float, 0.0)
    option("tokens-per-second", float, 0.0)
    option("die-after-deltas", int)
    option("exit-after-deltas", int)
    option("freeze-after-deltas", int)
    option("error-ratio", float, 0.0)
    options, others = parser.parse_known_args(argv)
    if others and options.served_model_name is None:
        parser.error(f"unknown: {' '.join(others)}")
    if (options.socket is None) == (options.port is None):
        parser.error("expected one of --socket and --port")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    options = parse(sys.argv[1:] if argv is None else argv, os.environ)
    key = options.key_file.read_text().strip() if options.key_file else None
    faults = Faults(
        delay_seconds=options.delay_seconds,
        tokens_per_second=options.tokens_per_second,
        die_after_deltas=options.die_after_deltas,
        exit_after_deltas=options.exit_after_deltas,
        freeze_after_deltas=options.freeze_after_deltas,
        error_ratio=options.error_ratio,
    )
    engine = Engine(
        options.served_model_name or options.model,
        max_model_len=options.max_model_len,
        faults=faults,
        max_num_seqs=options.max_num_seqs,
    )
    signal.signal(signal.SIGUSR1, lambda *_: engine.going.clear())
    time.sleep(options.start_seconds)
    if options.socket is not None:
        options.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        options.socket.unlink(missing_ok=True)
    uvicorn.run(
        make_app(engine, key or os.environ.get("VLLM_API_KEY")),
        host=options.host,
        port=options.port or 0,
        uds=str(options.socket) if options.socket else None,
        # A stream that died on purpose is no error worth a traceback.
        log_level="critical",
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
