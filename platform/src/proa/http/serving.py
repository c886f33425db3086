"""The one shell of our Starlette processes: listen, tell their health, drain on SIGTERM.

SIGTERM: `/readyz` answers 503 at once; for `linger_seconds` new connections are still taken, so
that whoever routes to us notices, and every answer asks its client to use another connection next
(`connection: close`); then the sockets close, answers under way are finished within
`drain_seconds`, `on_drain` flushes what is held, and the process ends with 0. A second signal
skips the linger.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proa.errors import Conflict, InvalidInput
from proa.http.bodies import Receive, Scope, Send, encode_error, send_error

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = [
    "HEADERS_LIMIT",
    "App",
    "Health",
    "Listener",
    "metrics_listener",
    "operations",
    "serve",
]

STARTING: Final = "starting"
_DRAINING: Final = "draining"
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]

HEADERS_LIMIT: Final = 32 << 10
"""Bytes of all header names and values of one request; more is answered with 431."""
# Longer than any client's pool keeps an idle connection: if the server closes first, a request
# sent in that moment is lost.
_KEEP_ALIVE_SECONDS: Final = 75
_CUT_SECONDS: Final = 1.0
# What a client may send on a connection whose answer began before the drain, and could not say
# `connection: close` any more.
_LAST_REQUEST_SECONDS: Final = 1
_CLOSE: Final = (b"connection", b"close")


class Health:
    """What `/readyz` says: ready once nothing is waited for. `serve` waits for `on_start` and marks
    it draining on SIGTERM; parts of a process add what they wait for, each under its own name.
    """

    def __init__(self) -> None:
        self._reasons = {STARTING: STARTING}

    @property
    def reason(self) -> str | None:
        """Why it is not ready; None when it is."""
        return "; ".join(list(self._reasons.values())) or None

    @property
    def ready(self) -> bool:
        return not self._reasons

    def set_ready(self, part: str = "") -> None:
        """`part` is waited for no longer."""
        if part != _DRAINING:
            self._reasons.pop(part, None)

    def set_unready(self, reason: str, part: str = "") -> None:
        """Not ready before `part` is; `reason` is shown to whoever asks."""
        self._reasons[part] = reason

    def drain(self) -> None:
        """Not ready any more, for good."""
        self._reasons = {_DRAINING: _DRAINING}


@dataclass(frozen=True, slots=True)
class Listener:
    """An app on an address: `host` and `port`, or the path of a unix socket (mode 0600)."""

    app: App
    host: str = "127.0.0.1"
    port: int = 0
    uds: Path | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.uds}" if self.uds else f"http://{self.host}:{self.port}"


def operations(
    health: Health, registry: CollectorRegistry, *, metrics: bool = True
) -> list[BaseRoute]:
    """The routes every process has: `/healthz`, `/readyz`, `/metrics` (Prometheus text).

    Args:
        metrics: False where `metrics_listener` has `/metrics` on a port of its own.
    """

    async def healthz(_: Request) -> Response:
        return Response('{"status":"ok"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        body = orjson.dumps({"status": "ready" if health.ready else health.reason})
        return Response(body, 200 if health.ready else 503, media_type="application/json")

    routes: list[BaseRoute] = [Route("/healthz", healthz), Route("/readyz", readyz)]
    return [*routes, _metrics(registry)] if metrics else routes


def metrics_listener(registry: CollectorRegistry, host: str, port: int | None) -> list[Listener]:
    """`/metrics` and nothing else on `port`, for `also` of `serve`; none where `port` is None.

    A port of its own lets a NetworkPolicy open it to Prometheus alone.
    """
    if port is None:
        return []
    return [Listener(Starlette(routes=[_metrics(registry)]), host, port)]


def _metrics(registry: CollectorRegistry) -> BaseRoute:
    async def metrics(_: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return Route("/metrics", metrics)


def serve(
    app: App,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    uds: Path | None = None,
    health: Health,
    also: Sequence[Listener] = (),
    drain_seconds: float = 20.0,
    linger_seconds: float = 0.5,
    on_start: Hook | None = None,
    on_drain: Hook | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, then drain; returns when everything is answered and flushed.

    Args:
        app: the ASGI application for `host`:`port`, or for the unix socket `uds`.
        health: shared with `operations`.
        also: further listeners of the same process.
        drain_seconds: how long answers under way may take after the sockets closed.
        linger_seconds: how long new connections are taken after SIGTERM.
        on_start: awaited in the loop before the sockets listen; what it raises ends the process.
        on_drain: awaited after the last answer.

    Raises:
        Conflict: an address is taken; the message names it.
    """
    import uvloop

    listeners = [Listener(app, host, port, uds), *also]
    with _bound(listeners) as sockets, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _serve(
                listeners,
                sockets,
                health=health,
                drain_seconds=drain_seconds,
                linger_seconds=linger_seconds,
                on_start=on_start,
                on_drain=on_drain,
            )
        )


async def _serve(
    listeners: Sequence[Listener],
    sockets: Sequence[socket.socket],
    *,
    health: Health,
    drain_seconds: float,
    linger_seconds: float,
    on_start: Hook | None,
    on_drain: Hook | None,
) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if on_start is not None:
        await on_start()
    servers = [_server(listener.app, drain_seconds) for listener in listeners]
    try:
        async with asyncio.TaskGroup() as group:
            pairs = zip(servers, listeners, sockets, strict=True)
            listening = [group.create_task(_listen(*three)) for three in pairs]
            health.set_ready(STARTING)
            drain = group.create_task(_drain(servers, health, stop, hurry, linger_seconds))
            await asyncio.wait(listening, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                drain.cancel()
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    finally:
        health.drain()
        # What the drain cut short still has a record to write.
        if cut := [task for server in servers for task in server.server_state.tasks]:
            await asyncio.wait(cut, timeout=_CUT_SECONDS)
        if on_drain is not None:
            await on_drain()


async def _drain(
    servers: Sequence[uvicorn.Server],
    health: Health,
    stop: asyncio.Event,
    hurry: asyncio.Event,
    linger_seconds: float,
) -> None:
    await stop.wait()
    health.drain()
    for server in servers:
        _ask_to_leave(server)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), linger_seconds)
    for server in servers:
        server.should_exit = True


def _ask_to_leave(server: uvicorn.Server) -> None:
    """Every answer that has not begun closes its connection, and says so."""
    server.config.encoded_headers.append(_CLOSE)
    server.server_state.default_headers = [*server.server_state.default_headers, _CLOSE]
    for connection in server.server_state.connections:
        assert isinstance(connection, _Protocol)
        connection.ask_to_leave()


async def _listen(server: uvicorn.Server, listener: Listener, sock: socket.socket) -> None:
    try:
        await server.serve(sockets=[sock])
    except OSError as error:
        raise _taken(listener, error) from error


def _server(app: App, drain_seconds: float) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: two servers share one process and one drain."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on header bytes, and faults of HTTP itself as JSON."""

    _header_bytes = 0  # received since the request began; -1 while its body is read

    def ask_to_leave(self) -> None:
        """The answer under way is this connection's last, if that can still be said."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close, once idle. Who was not told may already be sending: that is answered, too."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.timeout_keep_alive = min(self.timeout_keep_alive, _LAST_REQUEST_SECONDS)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._header_bytes >= 0:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > HEADERS_LIMIT and not self.transport.is_closing():
            self._refuse(431, _headers_too_large())

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._header_bytes = -1
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value)
        if size <= HEADERS_LIMIT:
            super().on_headers_complete()
            return
        app, self.app = self.app, _refuse_headers
        super().on_headers_complete()
        self.app = app

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._header_bytes = 0

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, InvalidInput("this is not HTTP/1.1", code="invalid_http"))

    def _refuse(self, status: int, error: InvalidInput) -> None:
        body = encode_error(error)
        phrase = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}[status]
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, phrase, len(body), body)
        )
        self.transport.close()


def _headers_too_large() -> InvalidInput:
    return InvalidInput(
        f"the request's headers are too large: at most {HEADERS_LIMIT:,} bytes are allowed",
        code="headers_too_large",
    )


async def _refuse_headers(_scope: Any, _receive: Any, send: Any) -> None:
    await send_error(send, _headers_too_large(), headers=[(b"connection", b"close")])


@contextmanager
def _bound(listeners: Sequence[Listener]) -> Iterator[list[socket.socket]]:
    """Bind every address before anything is loaded: a taken port is told at once."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_bind(listener)) for listener in listeners]
        for listener in listeners:
            if listener.uds is not None:
                listener.uds.unlink(missing_ok=True)


def _bind(listener: Listener) -> socket.socket:
    try:
        if listener.uds is not None:
            return _bind_unix(listener.uds)
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.host, listener.port))
        return sock
    except OSError as error:
        raise _taken(listener, error) from error


def _bind_unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        if probe.connect_ex(str(path)) == 0:
            sock.close()
            raise OSError(errno.EADDRINUSE, "in use")
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)
    return sock


def _taken(listener: Listener, error: OSError) -> Conflict:
    reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
    return Conflict(
        f"the address {listener.address} {reason}",
        code="address_taken",
        hint="stop what listens there, or name another port",
    )
