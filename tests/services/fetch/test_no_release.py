"""Pods before the first release: Ready, and 503 `no_release` for whoever asks anyway."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.processes import Processes, free_port

CLASSIC = ("/v1/predict", "/v2/models/m/infer", "/v1/models/m/predict")


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    running = Processes(tmp_path)
    yield running
    running.close()


def start(processes: Processes, folder: Path, service: str) -> tuple[str, str]:
    """As the charts start it, without the annotation; returns its URL and that of its metrics."""
    key = folder / "key"
    key.write_text("key")
    metrics = free_port()
    argv = [
        *("python", "-m", service, "--release=", f"--bundles=file://{folder}/none"),
        *(f"--workdir={folder}/work", "--port={port}", f"--metrics-port={metrics}"),
        *("--monitor=http://127.0.0.1:9", f"--key-file={key}"),
    ]
    if service == "proa_assistant":
        argv += ["--engine=http://127.0.0.1:9/v1", f"--weights={folder}/weights"]
    return processes.start(argv).url, f"http://127.0.0.1:{metrics}"


@pytest.mark.parametrize(
    ("service", "kind", "paths"),
    [("proa_predictor", "classic", CLASSIC), ("proa_assistant", "llm", ("/v1/chat/completions",))],
)
def test_ready_without_a_release(
    processes: Processes, tmp_path: Path, service: str, kind: str, paths: tuple[str, ...]
) -> None:
    url, metrics = start(processes, tmp_path, service)
    assert httpx.get(f"{url}/healthz").status_code == 200
    told = httpx.get(f"{url}/release")
    assert told.status_code == 503
    assert (told.json()["release"], told.json()["kind"]) == (None, kind)
    assert told.json()["error"]["code"] == "no_release"
    for path in paths:
        answer = httpx.post(f"{url}{path}", json={"rows": []}, headers={"x-proa-request": "r-1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_release")
        assert answer.headers["x-proa-request"] == "r-1"
        assert "x-proa-release" not in answer.headers
    assert httpx.get(f"{url}/metrics").status_code == 503
    assert f"{service}_release_info{{" not in httpx.get(f"{metrics}/metrics").text
    assert "# HELP" in httpx.get(f"{metrics}/metrics").text
    assert httpx.get(f"{metrics}/healthz").status_code == 404
    assert processes.stop(processes.running[0]) == 0


def test_metrics_have_a_port_of_their_own(processes: Processes, tmp_path: Path) -> None:
    from tests import classic_release

    built = classic_release.build(tmp_path)
    metrics = free_port()
    url = processes.start(built.argv(tmp_path / "work", "--metrics-port", str(metrics))).url
    assert httpx.get(f"{url}/metrics").status_code == 404
    assert "proa_predictor_release_info{" in httpx.get(f"http://127.0.0.1:{metrics}/metrics").text
