"""The predictor's HTTP: every path on this screen.

The two paths that answer rows are raw ASGI: at one row, Starlette's request, response and routing
objects would take as long as half of the model (tests/bench/predictor.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from proa.errors import Internal, InvalidInput, NotFound, ProaError, Unavailable
from proa.http import headers as names
from proa.http.bodies import (
    ClientGone,
    Receive,
    Scope,
    Send,
    decode_object,
    encode_error,
    read_body,
    send_json,
    status_of,
)
from proa.http.caller import Caller, caller_of
from proa.http.serving import App, Health
from proa.release.facts import facts_of
from proa_predictor.answer import Answer, Writer
from proa_predictor.metrics import Metrics
from proa_predictor.predictor import Predictor
from proa_predictor.question import Question, Reader

__all__ = ["Endpoint", "Faults", "answer_error", "dispatch", "endpoints", "routes"]

BODY_BYTES: Final = 8 << 20
"""Bytes one request body may have: 8 MiB, about 10,000 rows of 20 columns."""
_log = logging.getLogger(__name__)
_RELEASE, _REQUEST = names.RELEASE.encode(), names.REQUEST.encode()
_FACTS = names.FACTS.encode()


@dataclass(frozen=True, slots=True)
class Faults:
    """Planted faults, for tests of what is around a predictor. Off by default.

    Attributes:
        delay_ms: added to every answer.
        error_ratio: share of requests answered with 503 instead.
    """

    delay_ms: float = 0.0
    error_ratio: float = 0.0

    async def strike(self) -> None:
        """Wait and fail as planted."""
        if self.delay_ms:
            await asyncio.sleep(self.delay_ms / 1000)
        if self.error_ratio and random.random() < self.error_ratio:
            raise Unavailable("a fault planted with --fault-error-ratio", code="planted_fault")


class Endpoint:
    """One path that answers rows, as an ASGI app.

    Args:
        read: body → question.  write: question, answer → body.
    """

    def __init__(
        self,
        predictor: Predictor,
        metrics: Metrics,
        faults: Faults,
        *,
        read: Callable[[Mapping[str, Any]], Question],
        write: Callable[[Question, Answer], bytes],
    ) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._faults = faults
        self._read = read
        self._write = write
        self._release = (_RELEASE, str(predictor.loaded.ref).encode())
        self._facts = facts_of(predictor.loaded.spec)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_of(scope["headers"])
        head = [self._release, (_REQUEST, caller.request.encode("latin-1"))]
        question: Question | None = None
        answer: Answer | None = None
        started = perf_counter()
        try:
            body = await read_body(scope, receive, limit=BODY_BYTES)
            started = perf_counter()
            question = self._read(decode_object(body))
            await self._faults.strike()
            answer = await self._predictor.answer(question, caller)
            status, payload = 200, self._write(question, answer)
            head.append((_FACTS, self._facts(answer.outputs)))
        except ClientGone:
            return
        except Exception as error:
            answer = None
            failure = self._failure(error, caller)
            status, payload = status_of(failure), encode_error(failure, caller.request)
        seconds = perf_counter() - started
        self._record(caller, status, seconds, question, answer)
        if status == 503:
            head.append((b"retry-after", b"1"))
        await send_json(send, payload, status=status, headers=head)

    def _failure(self, error: Exception, caller: Caller) -> ProaError:
        if not isinstance(error, ProaError):
            _log.exception("request %s", caller.request, exc_info=error)
            error = Internal("an unexpected fault of proa; the log of this process names it")
        self._metrics.error(error.code)
        return error

    def _record(
        self,
        caller: Caller,
        status: int,
        seconds: float,
        question: Question | None,
        answer: Answer | None,
    ) -> None:
        rows = question.rows if question is not None and answer is not None else 0
        self._metrics.count(status, seconds, rows)
        self._predictor.record(
            caller, status=status, latency_ms=seconds * 1000, question=question, answer=answer
        )


def dispatch(hot: Mapping[str, App], cold: App, predictor: Predictor) -> App:
    """Send POSTs of the `hot` paths straight to their endpoint, everything else to `cold`.

    Every answer of `cold` gets `x-proa-release` and the request's `x-proa-request`.
    """
    release = (_RELEASE, str(predictor.loaded.ref).encode())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        endpoint = hot.get(scope["path"])
        if endpoint is not None and scope["method"] == "POST":
            await endpoint(scope, receive, send)
            return
        request = (_REQUEST, caller_of(scope["headers"]).request.encode("latin-1"))

        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], release, request]
            await send(message)

        await cold(scope, receive, send_named)

    return app


def routes(predictor: Predictor, writer: Writer, health: Health) -> list[BaseRoute]:
    """Everything but the two paths that answer rows, and what every process has."""
    loaded = predictor.loaded
    name = loaded.ref.name
    state = {
        "release": str(loaded.ref),
        "kind": "classic",
        "runtime": loaded.manifest.runtime.fingerprint(),
        "selftest": {"cases": loaded.cases, "passed": True},
        "compiled": loaded.scorer.plan is not None,
        "compiled_reason": loaded.scorer.reason or None,
    }

    async def release(_: Request) -> Response:
        return JSONResponse(state)

    async def server(_: Request) -> Response:
        return JSONResponse({"name": "proa_predictor", "version": "1", "extensions": []})

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        return JSONResponse({"ready": health.ready}, 200 if health.ready else 503)

    async def metadata(request: Request) -> Response:
        _check_model(request, name)
        return JSONResponse(writer.metadata())

    async def model_ready(request: Request) -> Response:
        _check_model(request, name)
        return JSONResponse({"name": name, "ready": health.ready}, 200 if health.ready else 503)

    async def elsewhere(request: Request) -> Response:
        """A POST that `endpoints` does not know: another model or another version."""
        _check_model(request, name)
        raise NotFound(
            f"this predictor serves {loaded.ref.short}, not {request.url.path[:200]!r}",
            code="unknown_version",
        )

    return [
        Route("/release", release),
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/{name}", metadata),
        Route("/v2/models/{name}/ready", model_ready),
        Route("/v2/models/{name}/infer", elsewhere, methods=["POST"]),
        Route("/v2/models/{name}/versions/{version}/infer", elsewhere, methods=["POST"]),
        Route("/v1/models/{name}/predict", elsewhere, methods=["POST"]),
    ]


def _check_model(request: Request, name: str) -> None:
    asked = request.path_params["name"]
    if asked != name:
        raise NotFound(
            f"this predictor serves {name!r}, not {asked!r:.80}", code="unknown_model", param="name"
        )


async def answer_error(request: Request, error: Exception) -> Response:
    """Starlette's handler: proa's errors, and what Starlette and BentoML raise of their own."""
    if isinstance(error, HTTPException):
        path = request.url.path[:200]
        status = error.status_code
        if status == 404:
            hint = "expected /v1/predict or /v2/models/NAME/infer"
            error = NotFound(f"no path {path!r}: {hint}", code="unknown_path")
        elif status == 405:
            error = InvalidInput(f"{request.method} is no method of {path!r}", code="wrong_method")
        else:
            error = Unavailable(str(error.detail), code="not_ready")
    else:
        assert isinstance(error, ProaError)
        status = status_of(error)
    body = encode_error(error, request.headers.get(names.REQUEST))
    return Response(body, status, media_type="application/json")


def endpoints(
    predictor: Predictor, reader: Reader, writer: Writer, metrics: Metrics, faults: Faults
) -> dict[str, App]:
    """The paths that answer rows."""
    name, version = predictor.loaded.ref.name, predictor.loaded.ref.version
    infer = Endpoint(predictor, metrics, faults, read=reader.infer, write=writer.infer)
    predict = Endpoint(predictor, metrics, faults, read=reader.predict, write=writer.predict)
    return {
        f"/v2/models/{name}/infer": infer,
        f"/v2/models/{name}/versions/{version}/infer": infer,
        "/v1/predict": predict,
        f"/v1/models/{name}/predict": predict,
    }
