"""Answers judged by a language model, through a real monitor: sampled, paid, once, after any end.

Faked: the gateway's engine door with the judging engine behind it, a server in this process.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proa_monitor.store import EventStore
from tests.processes import wait_until
from tests.services.monitor.monitored import Home, Monitor, Start, answer_of

ANSWERS = 60
BAD = "I do not know."


class Door:
    """Says 1 of what knows nothing and 5 of all else; `asked` holds what came."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                door.asked.append({**body, "headers": dict(self.headers)})
                score = 1 if BAD in body["messages"][1]["content"] else 5
                message = {"content": json.dumps({"score": score})}
                said = {"choices": [{"message": message}], "usage": {"total_tokens": 200}}
                data = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


@pytest.fixture
def door() -> Iterator[Door]:
    started = Door()
    yield started
    started.close()


def arguments(door: Door, folder: Path, *, tokens: int = 1_000_000) -> list[str]:
    key = folder / "judge.key"
    key.write_text("a key for the door")
    return [
        *("--judge-url", door.url, "--judge-engine", "judge-1", "--judge-key-file", str(key)),
        *("--judge-share", "1", "--judge-tokens-per-day", str(tokens)),
    ]


def answers(home: Home) -> list[Any]:
    pick = random.Random(3)
    made = [answer_of(home, pick) for _ in range(ANSWERS)]
    return [event | ({"answer": BAD} if k % 4 == 0 else {}) for k, event in enumerate(made)]


def judgements(monitor: Monitor) -> list[Any]:
    """Those on disk, of a monitor that has ended."""
    store = EventStore(monitor.home.events, file_bytes=1 << 20, file_seconds=3600)
    try:
        chunks = store.events_of(store.numbers)
        return [event for events in chunks for event in events if event["type"] == "judgement"]
    finally:
        store.close()


def test_every_picked_answer_is_judged_once_whatever_happens(
    home: Home, start_monitor: Start, door: Door, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path), *arguments(door, tmp_path))
    events = answers(home)
    monitor.take(events)
    wait_until(lambda: len(door.asked) >= 10, 60, what="some judgements")
    monitor.kill()
    monitor.start()
    monitor.take(events)  # an emitter that had no answer sends again
    wait_until(lambda: len(door.asked) >= ANSWERS, 60, what="all others")
    monitor.wait_for_metric("proa_monitor_judging_queued", 0.0)
    assert monitor.stop() == 0
    found = judgements(monitor)
    assert sorted(e["request"] for e in found) == sorted(e["request"] for e in events)
    assert sum(e["good"] for e in found) == ANSWERS * 3 // 4
    assert {(e["judge"], e["purpose"], e["release"]) for e in found} == {
        ("judge-1", "judge", home.help)
    }
    asked = door.asked[0]
    assert asked["headers"]["x-proa-purpose"] == "judge"
    assert asked["headers"]["authorization"] == "Bearer a key for the door"
    assert asked["model"] == "judge-1"


def test_the_budget_is_kept_over_restarts(
    home: Home, start_monitor: Start, door: Door, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path), *arguments(door, tmp_path, tokens=1500))
    monitor.take(answers(home))
    monitor.wait_for_metric("proa_monitor_judging_budget_spent", 1.0)
    spent = len(door.asked)
    assert 1 <= spent <= 7
    monitor.restart()
    monitor.wait_for_metric("proa_monitor_judging_budget_spent", 1.0)
    assert len(door.asked) == spent
