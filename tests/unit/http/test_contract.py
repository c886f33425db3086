"""The HTTP contract: a forty-line model honours it, and what breaks it is named.

Real: `tests/standins/plain_model.py` as a process, asked over loopback. The broken server is one
that people write: 500 for nonsense, no header, another answer through the other door.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from proa.errors import Refused, Unavailable
from proa.http.contract import check_contract
from tests.processes import Processes, free_port

PLAIN = Path(__file__).resolve().parents[2] / "standins" / "plain_model.py"
RELEASE = f"by-hand/1@sha256:{'a' * 64}"
ROWS = [{"age": 40.0, "usage": 2.5}, {"age": 70.0, "usage": 9.0}]


def test_forty_lines_honour_it(processes: Processes) -> None:
    started = processes.start(
        ["python", PLAIN, "--port", "{port}"], env={"PROA_RELEASE": RELEASE}, deadline=30
    )
    report = check_contract(started.url, name="by-hand", rows=ROWS, release=RELEASE)
    assert report.broken == []
    assert len(report.findings) >= 9
    report.require()
    assert processes.stop(started.proc) == 0


def test_another_release_than_was_asked_for_is_named(processes: Processes) -> None:
    started = processes.start(
        ["python", PLAIN, "--port", "{port}"], env={"PROA_RELEASE": RELEASE}, deadline=30
    )
    other = RELEASE.replace("/1@", "/2@")
    report = check_contract(started.url, name="by-hand", rows=ROWS, release=other)
    assert "GET /release names the release of PROA_RELEASE" in {f.point for f in report.broken}


class _Broken(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200 if self.path != "/healthz" else 404, {"release": RELEASE})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        outputs = [{"name": "probability", "datatype": "FP64", "shape": [2], "data": [0.1, 0.2]}]
        if self.path.endswith("/infer"):
            self._answer(200, {"outputs": outputs})
        else:
            self._answer(200, {"predictions": [{"probability": 0.1}, {"probability": 0.3}]})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Broken)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_everything_that_breaks_it_is_named(broken: str) -> None:
    report = check_contract(broken, name="m", rows=ROWS, release=RELEASE)
    assert {finding.point for finding in report.broken} == {
        "GET /healthz answers 200",
        "the answer of infer has the header x-proa-release",
        "the answer of predict has the header x-proa-release",
        "both doors say the same",
        "a body that is no JSON gets 4xx with error.message",
    }
    with pytest.raises(Refused, match="breaks 5 of 10 points") as caught:
        report.require()
    assert caught.value.code == "contract_broken"


def test_nothing_there_is_said() -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        check_contract(f"http://127.0.0.1:{free_port()}", name="m")
