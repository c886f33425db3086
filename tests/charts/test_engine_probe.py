"""The engine's probe: it fails only on proof, and an idle engine leaves at once.

The engine is a stand-in of a few lines with vLLM's metric names: a real one cannot be frozen on
demand (tests/cluster does that with SIGSTOP).
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

PROBE = Path(__file__).resolve().parents[2] / "charts/vllm/files/engine_probe.py"


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("engine_probe", PROBE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Engine:
    """Answers /metrics with what a test sets; None breaks the connection."""

    def __init__(self) -> None:
        self.text: str | None = ""
        self.asked = 0

    def set(self, *, running: float, waiting: float = 0, iterations: float = 0) -> None:
        engine = '{engine="0",model_name="eng-0123456789abcdef"}'
        self.text = (
            "# HELP vllm:num_requests_running Requests\n# TYPE vllm:num_requests_running gauge\n"
            f"vllm:num_requests_running{engine} {running}\n"
            f"vllm:num_requests_waiting{engine} {waiting}\n"
            f'vllm:num_requests_waiting_by_reason{{reason="capacity"}} {waiting}\n'
            f"vllm:iteration_tokens_total_count{engine} {iterations}\n"
            f"vllm:iteration_tokens_total_sum{engine} {iterations * 7}\n"
        )


@pytest.fixture
def engine() -> Iterator[tuple[Engine, str]]:
    state = Engine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            if state.text is None:
                self.connection.close()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(state.text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield state, f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def live(probe: ModuleType, url: str, state: Path, stall: float = 0.2) -> int:
    arguments = ["--metrics", url, "--read-seconds", "2", "live", "--state", str(state)]
    return int(probe.main([*arguments, "--stall-seconds", str(stall)]))


def wait_for(probe: ModuleType, url: str, state: Path, code: int) -> None:
    deadline = time.monotonic() + 5
    while live(probe, url, state) != code:
        assert time.monotonic() < deadline, f"never {code}"
        time.sleep(0.05)


def test_a_frozen_engine_fails(
    probe: ModuleType, engine: tuple[Engine, str], tmp_path: Path
) -> None:
    server, url = engine
    server.set(running=3, iterations=10)
    assert live(probe, url, tmp_path / "s.json") == 0
    wait_for(probe, url, tmp_path / "s.json", 1)
    server.set(running=3, iterations=11)
    assert live(probe, url, tmp_path / "s.json") == 0, "one iteration later it lives"


def test_an_idle_engine_lives_for_ever(
    probe: ModuleType, engine: tuple[Engine, str], tmp_path: Path
) -> None:
    server, url = engine
    server.set(running=0, iterations=10)
    for _ in range(5):
        assert live(probe, url, tmp_path / "s.json") == 0
        time.sleep(0.06)
    server.set(running=1, iterations=10)
    assert live(probe, url, tmp_path / "s.json") == 0, "the stall counts from its first request"


def test_a_saturated_engine_lives(
    probe: ModuleType, engine: tuple[Engine, str], tmp_path: Path
) -> None:
    server, url = engine
    for iterations in range(8):
        server.set(running=256, waiting=512, iterations=iterations)
        assert live(probe, url, tmp_path / "s.json") == 0
        time.sleep(0.06)


@pytest.mark.parametrize("text", [None, "", "busy", "vllm:num_requests_running{} NaN\n"])
def test_what_cannot_be_read_proves_nothing(
    probe: ModuleType, engine: tuple[Engine, str], tmp_path: Path, text: str | None
) -> None:
    server, url = engine
    server.set(running=3, iterations=10)
    assert live(probe, url, tmp_path / "s.json") == 0
    server.text = text
    time.sleep(0.25)
    assert live(probe, url, tmp_path / "s.json") == 0
    (tmp_path / "s.json").write_text("{half")
    server.set(running=3, iterations=10)
    assert live(probe, url, tmp_path / "s.json") == 0, "a broken note begins a new count"


def drain(probe: ModuleType, url: str, timeout: float) -> float:
    begun = time.monotonic()
    arguments = ["--metrics", url, "drain", "--linger-seconds", "0.1"]
    assert probe.main([*arguments, "--timeout-seconds", str(timeout)]) == 0
    return time.monotonic() - begun


def test_an_idle_engine_leaves_at_once(probe: ModuleType, engine: tuple[Engine, str]) -> None:
    server, url = engine
    server.set(running=0)
    drain(probe, url, 60)
    assert server.asked == 2, "idle twice in a row"


def test_a_busy_engine_is_waited_for(probe: ModuleType, engine: tuple[Engine, str]) -> None:
    server, url = engine
    server.set(running=0, waiting=1)
    timer = threading.Timer(1.2, server.set, kwargs={"running": 0})
    timer.start()
    assert drain(probe, url, 60) >= 1.2
    timer.join()


@pytest.mark.parametrize("text", [None, "vllm:num_requests_running 2\n"])
def test_the_wait_ends(probe: ModuleType, engine: tuple[Engine, str], text: str | None) -> None:
    server, url = engine
    server.text = text
    assert drain(probe, url, 2.0) >= 2.0
    assert server.asked >= 2


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2), st.floats(0, 100)), min_size=1, max_size=30
    )
)
def test_it_fails_only_after_work_without_an_iteration(
    tmp_path_factory: pytest.TempPathFactory, probe: ModuleType, steps: list
) -> None:
    """Over any history: a failure means the last stall_seconds had work and no iteration."""
    state = tmp_path_factory.mktemp("probe") / "s.json"
    now, count, history = 0.0, 0.0, []
    for busy, iterations, passed in steps:
        now, count = now + passed, count + iterations
        history.append((now, busy, count))
        seen = {probe.RUNNING: float(busy), probe.ITERATIONS: count}
        same: list[tuple[float, bool, float]] = []
        for item in reversed(history):
            if not item[1] or item[2] != count:
                break
            same.append(item)
        proof = bool(same) and now - same[-1][0] >= 100
        assert probe.stalled(now, seen, state, 100.0) is proof
