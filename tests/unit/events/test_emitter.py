"""The emitter against a sink that misbehaves on request.

Faked: the monitor, by a server of the standard library which can refuse, hang up or talk
nonsense; tests/services/test_monitor.py runs the emitter against the real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.events.emitter import DROPPED, Emitter
from proa.events.event import EVENT_BYTES
from tests.processes import free_port, wait_until


class Sink(ThreadingHTTPServer):
    """Takes events as the monitor does; the next answers can be set beforehand."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.events: list[dict[str, Any]] = []
        self.reported: list[int] = []
        self.next: list[tuple[int, bytes]] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        lines = self.rfile.read(int(self.headers["content-length"])).split(b"\n")
        if self.server.next:
            status, body = self.server.next.pop(0)
            if status == 0:
                self.close_connection = True
                return
        else:
            self.server.events += [json.loads(line) for line in lines]
            status = 200
            body = json.dumps({"accepted": len(lines), "duplicates": 0, "rejected": []}).encode()
        self.server.reported.append(int(self.headers[DROPPED]))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    yield server
    server.close()


def test_events_arrive_in_order_and_are_counted(sink: Sink) -> None:
    emitter = Emitter(sink.url, "key", batch=7, interval=0.01)
    assert all(emitter.emit({"n": n}) for n in range(100))
    assert emitter.close(5)
    assert [event["n"] for event in sink.events] == list(range(100))
    assert (emitter.sent, emitter.dropped, emitter.rejected, emitter.queued) == (100, 0, 0, 0)


def test_a_lonely_event_is_sent_within_the_interval(sink: Sink) -> None:
    emitter = Emitter(sink.url, "key", interval=0.01)
    emitter.emit({"n": 1})
    wait_until(lambda: sink.events)
    emitter.close()


def test_what_is_emitted_is_what_it_was_then(sink: Sink) -> None:
    emitter = Emitter(sink.url, "key", interval=0.2)
    event = {"n": 1}
    emitter.emit(event)
    event["n"] = 2
    emitter.close()
    assert sink.events == [{"n": 1}]


@pytest.mark.parametrize(
    "fault",
    [
        (503, b'{"error":{}}'),
        (401, b'{"error":{}}'),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"accepted":0,"duplicates":0,"rejected":[]}'),
        (0, b""),
    ],
    ids=["busy", "unauthenticated", "not JSON", "not a verdict", "incomplete", "hangs up"],
)
def test_an_event_is_sent_until_it_is_taken(sink: Sink, fault: tuple[int, bytes]) -> None:
    sink.next = [fault, fault]
    emitter = Emitter(sink.url, "key", interval=0.01)
    emitter.emit({"n": 1})
    wait_until(lambda: emitter.sent == 1)
    assert emitter.close()
    assert sink.events == [{"n": 1}]


def test_what_the_monitor_refuses_is_counted_and_not_sent_again(sink: Sink) -> None:
    refusal = {"accepted": 1, "duplicates": 0, "rejected": [{"line": 2, "error": "…"}]}
    sink.next = [(200, json.dumps(refusal).encode()), (400, b"{}")]
    emitter = Emitter(sink.url, "key", batch=2, interval=60)
    emitter.emit({"n": 1})
    emitter.emit({"n": 2})
    wait_until(lambda: emitter.rejected == 1)
    emitter.emit({"n": 3})
    assert emitter.close()
    assert (emitter.sent, emitter.rejected, emitter.dropped) == (1, 2, 0)


def test_while_the_sink_is_down_the_queue_is_bounded_and_nothing_blocks() -> None:
    port = free_port()
    emitter = Emitter(f"http://127.0.0.1:{port}", "key", capacity=50, batch=10, interval=0.01)
    taken = [emitter.emit({"n": n}) for n in range(200)]
    assert sum(taken) == 50
    assert emitter.dropped == 150
    assert emitter.queued == 50
    sink = Sink(port)
    try:
        assert emitter.close(20)
        assert [event["n"] for event in sink.events] == list(range(50))
        assert sink.reported[-1] == 150
    finally:
        sink.close()


def test_closing_gives_up_at_the_deadline_and_says_so() -> None:
    emitter = Emitter(f"http://127.0.0.1:{free_port()}", "key", interval=0.01)
    emitter.emit({"n": 1})
    assert not emitter.close(0.2)
    assert not emitter.emit({"n": 2})
    assert (emitter.dropped, emitter.queued) == (2, 0)


def test_what_cannot_be_sent_is_dropped_not_raised(sink: Sink) -> None:
    emitter = Emitter(sink.url, "key")
    assert not emitter.emit({"n": object()})
    assert not emitter.emit({"n": "x" * EVENT_BYTES})
    assert emitter.emit({"n": float("nan")})
    assert emitter.close()
    assert emitter.dropped == 2
    assert sink.events == [{"n": None}]


def test_large_events_are_bounded_by_bytes() -> None:
    emitter = Emitter(f"http://127.0.0.1:{free_port()}", "key")
    taken = sum(emitter.emit({"n": "x" * 900_000}) for _ in range(100))
    assert 50 < taken < 80
    emitter.close(0)


def test_many_threads_lose_nothing(sink: Sink) -> None:
    emitter = Emitter(sink.url, "key", batch=50, interval=0.01)

    def work(start: int) -> None:
        for n in range(start, start + 500):
            assert emitter.emit({"n": n})

    threads = [threading.Thread(target=work, args=(k * 500,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert emitter.close(10)
    assert sorted(event["n"] for event in sink.events) == list(range(2000))


@pytest.mark.parametrize("url", ["monitor:8080", "file:///tmp/x", "http://"])
def test_a_url_it_cannot_use_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="http://host:port"):
        Emitter(url, "key")
