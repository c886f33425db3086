"""The shell all Starlette processes share, around the smallest app that can be in flight."""

from __future__ import annotations

import socket
import stat
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.testclient import TestClient

from proa.http.serving import Health, operations
from tests.processes import Processes, answers, free_port, wait_until

APP = """
import asyncio, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from proa.errors import ProaError
from proa.http.serving import Health, Listener, operations, serve

health, registry = Health(), CollectorRegistry()
asked = Counter("asked", "Requests", registry=registry)
port, uds, note = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])

async def slow(request):
    asked.inc()
    await asyncio.sleep(float(request.query_params.get("seconds", 0)))
    return Response("done")

async def on_start():
    note.write_text("started ")

async def on_drain():
    note.write_text(note.read_text() + "drained")

app = Starlette(routes=[Route("/slow", slow), *operations(health, registry)])
try:
    serve(app, port=port, health=health, also=[Listener(app, uds=uds)], drain_seconds=1,
          linger_seconds=0.1, on_start=on_start, on_drain=on_drain)
except ProaError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def argv(tmp_path: Path) -> list[str | Path]:
    (tmp_path / "app.py").write_text(APP)
    return ["python", tmp_path / "app.py", "{port}", tmp_path / "s.sock", tmp_path / "note"]


def over(path: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, base_url="http://socket", trust_env=False)


def test_a_port_and_a_private_socket_are_served_and_the_hooks_run(
    processes: Processes, argv: list[str | Path], tmp_path: Path
) -> None:
    proc, url = processes.start(argv)
    assert stat.S_IMODE((tmp_path / "s.sock").stat().st_mode) == 0o600
    with over(tmp_path / "s.sock") as client:
        assert client.get("/slow").text == "done"
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    assert "asked_total 1.0" in text
    assert (tmp_path / "note").read_text() == "started "
    assert processes.stop(proc) == 0
    assert (tmp_path / "note").read_text() == "started drained"
    assert not (tmp_path / "s.sock").exists()


def test_a_socket_left_by_a_killed_process_is_taken_over_and_a_living_one_is_not(
    processes: Processes, argv: list[str | Path], tmp_path: Path
) -> None:
    first = processes.start(argv)
    second = processes.start(argv, ready=None)
    assert second.proc.wait(20) == 5
    assert f"unix://{tmp_path}/s.sock is already in use" in processes.log(second.proc)
    assert answers(f"{first.url}/readyz")
    processes.kill(first.proc)
    assert (tmp_path / "s.sock").exists()
    processes.start(argv)
    with over(tmp_path / "s.sock") as client:
        assert client.get("/healthz").status_code == 200


def test_what_takes_longer_than_the_drain_is_cut_and_the_process_still_ends_well(
    processes: Processes, argv: list[str | Path]
) -> None:
    proc, url = processes.start(argv)
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as stuck:
        stuck.sendall(b"GET /slow?seconds=60 HTTP/1.1\r\nhost: h\r\n\r\n")
        metrics = f"{url}/metrics"
        wait_until(lambda: "asked_total 1.0" in httpx.get(metrics, trust_env=False).text)
        proc.terminate()
        assert proc.wait(10) == 0


def test_a_start_that_fails_ends_the_process_before_it_listens(
    processes: Processes, tmp_path: Path
) -> None:
    code = APP.replace('note.write_text("started ")', "raise ValueError('no such model')")
    (tmp_path / "bad.py").write_text(code)
    port = free_port()
    bad = [sys.executable, tmp_path / "bad.py", "{port}", tmp_path / "s", tmp_path / "n"]
    proc = processes.start(bad, port=port, ready=None).proc
    assert proc.wait(20) == 1
    assert "no such model" in processes.log(proc)
    assert not (tmp_path / "n").exists()


def test_metrics_on_a_port_of_their_own_are_there_and_nowhere_else(
    processes: Processes, tmp_path: Path
) -> None:
    code = APP.replace(
        "operations(health, registry)", "operations(health, registry, metrics=False)"
    )
    code = code.replace(
        "also=[Listener(app, uds=uds)]",
        "also=[Listener(app, uds=uds), *metrics_listener(registry, '127.0.0.1', own)]",
    )
    code = code.replace("Listener, operations", "Listener, metrics_listener, operations")
    code = code.replace("\ntry:", "\nown = int(sys.argv[4])\ntry:")
    (tmp_path / "apart.py").write_text(code)
    own = free_port()
    argv = ["python", tmp_path / "apart.py", "{port}", tmp_path / "s", tmp_path / "n", str(own)]
    proc, url = processes.start(argv)
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/slow").text == "done"
        assert "asked_total 1.0" in client.get(f"http://127.0.0.1:{own}/metrics").text
        assert client.get(f"{url}/metrics").status_code == 404
        for path in ("/slow", "/healthz", "/readyz"):
            assert client.get(f"http://127.0.0.1:{own}{path}").status_code == 404
    assert processes.stop(proc) == 0


def test_why_a_process_is_not_ready_is_json_whatever_the_reason_holds() -> None:
    health = Health()
    health.set_unready('the ledger at "db:5432" does not answer')
    routes = {route.path: route for route in operations(health, CollectorRegistry())}  # type: ignore[attr-defined]
    with TestClient(Starlette(routes=list(routes.values()))) as client:
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, health.reason)


def test_ready_once_every_part_is_and_never_after_the_drain_began() -> None:
    health = Health()
    health.set_unready("no routes yet", "routes")
    health.set_unready("no ledger yet", "ledger")
    health.set_ready("starting")
    health.set_ready("routes")
    assert (health.ready, health.reason) == (False, "no ledger yet")
    health.set_ready("ledger")
    assert (health.ready, health.reason) == (True, None)
    health.drain()
    for part in ("", "ledger", "draining"):
        health.set_ready(part)
    assert (health.ready, health.reason) == (False, "draining")


def head_and_rest(sock: socket.socket) -> tuple[bytes, bytes]:
    """One answer with a content length of 4."""
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 4:
        piece = sock.recv(1 << 16)
        assert piece, "the server closed without an answer"
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.lower(), rest


def test_clients_are_asked_to_leave_before_their_connection_is_closed(
    processes: Processes, argv: list[str | Path], tmp_path: Path
) -> None:
    """While it lingers, an answer says so; one that began earlier leaves a last request time."""
    code = APP.replace("linger_seconds=0.1", "linger_seconds=1").replace(
        'Response("done")',
        "StreamingResponse(pieces(request), headers={'content-length': '4'})",
    )
    code = code.replace("import Response", "import Response, StreamingResponse")
    code = code.replace("await asyncio.sleep(float(", "wait = (float(").replace(
        "async def slow",
        "async def pieces(request):\n    yield b'do'\n    await asyncio.sleep(float("
        "request.query_params.get('seconds', 0)))\n    yield b'ne'\n\nasync def slow",
    )
    code = code.replace("drain_seconds=1,", "drain_seconds=20,")
    (tmp_path / "app.py").write_text(code)
    proc, url = processes.start(argv)
    port = int(url.rpartition(":")[2])
    request = b"GET /slow?seconds=%g HTTP/1.1\r\nhost: h\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), 20) as idle,
        socket.create_connection(("127.0.0.1", port), 20) as busy,
    ):
        idle.sendall(request % 0)
        head, _ = head_and_rest(idle)
        assert b"connection: close" not in head
        busy.sendall(request % 2)
        begun = b""
        while not begun.endswith(b"\r\n\r\ndo"):
            begun += (piece := busy.recv(1 << 16))
            assert piece, begun
        proc.terminate()
        wait_until(lambda: not answers(f"{url}/readyz"), what="readiness fails first")
        idle.sendall(request % 0)
        head, rest = head_and_rest(idle)
        assert (b"connection: close" in head, rest) == (True, b"done")
        assert idle.recv(1) == b""
        assert busy.recv(1 << 16) == b"ne"
        # Nobody listens any more, yet who could not be told is answered once more.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        busy.sendall(request % 0)
        head, rest = head_and_rest(busy)
        assert (b"connection: close" in head, rest) == (True, b"done")
        assert busy.recv(1) == b""
    assert proc.wait(10) == 0
