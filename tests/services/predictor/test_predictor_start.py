"""Starting and ending: only a release that proves itself is served; an answer begun is finished."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from proa.release import runtime
from tests import classic_release
from tests.classic_release import Built, infer_body
from tests.processes import Processes, answers, wait_until

INFER = "/v2/models/flight-delay/infer"


def refusal(processes: Processes, argv: list[Any]) -> str:
    """Start a process that must refuse; returns what it wrote to stderr."""
    proc, url = processes.start(argv, ready=None)
    assert proc.wait(60) == 78
    assert not answers(f"{url}/healthz")
    said = processes.log(proc)
    assert len(said.strip().splitlines()) == 1, said
    assert "Traceback" not in said
    return said


def flip(path: Path) -> bytes:
    """Change one byte of a file in the middle; returns what it was."""
    before = path.read_bytes()
    path.chmod(0o644)
    middle = len(before) // 2
    path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    return before


def test_a_corrupt_model_is_refused(processes: Processes, tmp_path: Path) -> None:
    built = classic_release.build(tmp_path)
    flip(built.blob("model/model.skops"))
    said = refusal(processes, built.argv(tmp_path / "work"))
    assert "model/model.skops does not have digest sha256:" in said


def test_a_corrupt_copy_in_the_workdir_is_refused(
    processes: Processes, flight: Built, tmp_path: Path
) -> None:
    folder = tmp_path / flight.ref.digest.removeprefix("sha256:")
    flight.store.materialize(flight.ref.digest, folder)
    path = folder / "selftest.json"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b" ")
    assert "selftest.json does not have digest" in refusal(processes, flight.argv(tmp_path))


def test_another_library_version_is_refused_with_both_versions(
    processes: Processes, tmp_path: Path
) -> None:
    pinned = runtime.describe().model_dump()
    found = pinned["libraries"]["scikit-learn"]
    pinned["libraries"]["scikit-learn"] = "1.5.2"
    built = classic_release.build(tmp_path, pinned=pinned)
    said = refusal(processes, built.argv(tmp_path / "work"))
    assert f"scikit-learn 1.5.2 pinned, {found} found" in said


def test_a_failing_selftest_is_refused(processes: Processes, tmp_path: Path) -> None:
    row = {name: values[0] for name, values in classic_release.data(1)[0].items()}
    case = {"input": {"rows": [row]}, "output": {"probability": 0.123456}}
    built = classic_release.build(tmp_path, cases=[case])
    said = refusal(processes, built.argv(tmp_path / "work"))
    assert "selftest case 0: probability = " in said
    assert "expected 0.123456" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--release": "flight-delay/1@sha256:" + "0" * 64}, "is not in the store"),
        ({"--release": "flight-delay"}, "not of the form"),
        ({"--bundles": "gs://bucket"}, "expected file:///absolute/folder"),
        ({"--monitor": "http://127.0.0.1:1"}, "--key-file is missing"),
    ],
)
def test_what_cannot_be_served_is_named(
    processes: Processes, flight: Built, tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    argv = [str(part) for part in flight.argv(tmp_path)]
    for name, value in changes.items():
        if name in argv:
            argv[argv.index(name) + 1] = value
        else:
            argv += [name, value]
    assert words in refusal(processes, argv)


def test_a_taken_port_is_named(processes: Processes, flight: Built, tmp_path: Path) -> None:
    first = processes.start(flight.argv(tmp_path), deadline=60)
    port = int(first.url.rpartition(":")[2])
    second, _ = processes.start(flight.argv(tmp_path), ready=None, port=port)
    assert second.wait(60) == 5
    assert f"127.0.0.1:{port} is already in use" in processes.log(second)


def test_a_drain_finishes_what_was_begun(
    processes: Processes, flight: Built, tmp_path: Path
) -> None:
    """Eight answers take 0.8 s each by a planted delay; SIGTERM comes in the middle."""
    argv = flight.argv(tmp_path, "--fault-delay-ms", "800", "--linger-seconds", "0.3")
    proc, url = processes.start(argv, deadline=60)
    statuses: list[int] = []

    def ask() -> None:
        body = infer_body(flight.rows(1))
        statuses.append(httpx.post(url + INFER, json=body, timeout=20).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    # all eight are inside once the process holds their connections
    inside = f"/proc/{proc.pid}/fd"
    wait_until(
        lambda: sum("socket" in str(link.readlink()) for link in Path(inside).iterdir()) >= 9,
        what="eight connections",
    )
    proc.send_signal(signal.SIGTERM)
    wait_until(lambda: answers(f"{url}/readyz", 503), 5, what="not ready while draining")
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert proc.wait(20) == 0


def test_planted_errors_have_their_code(
    processes: Processes, flight: Built, tmp_path: Path
) -> None:
    _, url = processes.start(flight.argv(tmp_path, "--fault-error-ratio", "1"), deadline=60)
    answer = httpx.post(url + INFER, json=infer_body(flight.rows(1)))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "planted_fault"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-proa-release"] == str(flight.ref)


def test_killed_and_started_again_it_answers_the_same(
    processes: Processes, flight: Built, tmp_path: Path
) -> None:
    argv, body = flight.argv(tmp_path), infer_body(flight.rows(3))
    first = processes.start(argv, deadline=60)
    before = httpx.post(first.url + INFER, json=body).json()
    processes.kill(first.proc)
    port = int(first.url.rpartition(":")[2])
    second = processes.start(argv, port=port, deadline=60)
    assert httpx.post(second.url + INFER, json=body).json() == before


def test_help_needs_no_model_library() -> None:
    """The command line answers before scikit-learn or BentoML is imported."""
    import sys

    code = (
        "import sys; from proa_predictor.__main__ import parse\n"
        "try: parse(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'sklearn', 'pandas', 'bentoml', 'shap'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert time.monotonic() > begun
