"""The shell all Starlette processes share, around the smallest app that can be in flight."""

from __future__ import annotations

import socket
import stat
import sys
from pathlib import Path

import httpx
import pytest

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
