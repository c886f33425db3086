"""A controller that does not lead says so, and the request goes to the next one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from proa.errors import Unavailable
from proa.fleet import Endpoints, Fleet, wire


@contextmanager
def controllers(answers: list[tuple[int, str]]) -> Iterator[tuple[Fleet, list[int]]]:
    """A Service with controllers behind it: status and code, one per request; the last stays."""
    ports: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            ports.append(self.client_address[1])
            status, code = answers[min(len(ports), len(answers)) - 1]
            error = {"message": "wait", "type": "unavailable", "code": code}
            data = json.dumps({"error": error} if code else {"done": True}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    fleet = Fleet(Endpoints(url, url, "", url, ""), "key")
    try:
        yield fleet, ports
    finally:
        fleet.close()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LEADER_POLL_SECONDS", 0.001)


def test_it_asks_again_on_a_new_connection_until_one_leads() -> None:
    with controllers([(503, "not_leader"), (503, "not_leader"), (200, "")]) as (fleet, ports):
        assert fleet.pause("m") == {"done": True}
        assert len(set(ports)) == 3


def test_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LEADER_SECONDS", 0.05)
    with controllers([(503, "not_leader")]) as (fleet, ports):
        with pytest.raises(Unavailable, match="wait"):
            fleet.pause("m")
        assert len(ports) > 1


def test_any_other_fault_is_not_tried_again() -> None:
    with controllers([(503, "database_down"), (200, "")]) as (fleet, ports):
        with pytest.raises(Unavailable, match="wait"):
            fleet.pause("m")
        assert len(ports) == 1
