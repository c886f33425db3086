"""`up` and `down` over the real processes: MLflow, features, monitor, gateway, controller.

Faked: the engine's text (tests/standins/engine.py), as vLLM needs a minute and 4 GB.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.embedded.daemon import ensure_supervisor, supervisor_pid
from proa.embedded.engine_choice import EngineSpec, stand_in
from proa.embedded.files import read_json
from proa.embedded.home import Home
from proa.embedded.platform_file import Platform, read_platform
from proa.embedded.ports import PortPlan
from proa.embedded.process import identify, is_alive
from proa.embedded.up import down, up
from proa.embedded.workloads import WorkloadFiles
from proa.errors import Conflict, Unavailable
from tests.processes import wait_until

PARTS = ("controller", "features", "gateway", "mlflow", "monitor")
STAND_IN = Path(__file__).parents[1] / "standins" / "engine.py"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def engine() -> EngineSpec:
    return stand_in(STAND_IN)


@pytest.fixture(scope="module")
def said() -> list[tuple[str, str]]:
    return []


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory, engine: EngineSpec, said: list[tuple[str, str]]
) -> Iterator[Platform]:
    home = Home(tmp_path_factory.mktemp("up") / "home")
    try:
        yield up(
            home,
            ports=PortPlan.parse([], auto=True),
            engine=engine,
            progress=lambda name, state, seconds, note: said.append((name, state)),
        )
    finally:
        down(home)


def pids(home: Home) -> dict[str, int | None]:
    files = WorkloadFiles(home)
    found = {path.stem: files.status(path.stem) for path in home.workloads.glob("*.json")}
    return {name: status.pid for name, status in found.items() if status is not None}


def post(url: str, value: object, key: str | None = None) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(value).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_every_part_is_waited_for_and_ready(
    platform: Platform, said: list[tuple[str, str]], engine: EngineSpec
) -> None:
    names = {*PARTS, f"engine-{engine.identity}"}
    assert {name for name, state in said if state == "starting"} == names
    assert {name for name, state in said if state == "ready"} == names
    for name in PARTS:
        path = "/health" if name == "mlflow" else "/readyz"
        with urllib.request.urlopen(platform.urls[name] + path, timeout=10) as answer:
            assert answer.status == 200
    assert set(pids(platform.home)) == names


def test_mlflow_keeps_runs_artifacts_and_versions_in_the_home(platform: Platform) -> None:
    """Over MLflow's REST API: its client would take ten seconds to import."""
    api = f"{platform.urls['mlflow']}/api/2.0/mlflow"
    experiment = post(f"{api}/experiments/create", {"name": "story"})["experiment_id"]
    run = post(f"{api}/runs/create", {"experiment_id": experiment})["run"]["info"]
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    url = f"{platform.urls['mlflow']}/api/2.0/mlflow-artifacts/artifacts/{root}/note.txt"
    request = urllib.request.Request(url, b"hello", method="PUT")
    urllib.request.urlopen(request, timeout=30).close()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"hello"
    (kept,) = (platform.home.mlflow / "artifacts").rglob("note.txt")
    assert kept.read_bytes() == b"hello"
    post(f"{api}/registered-models/create", {"name": "m"})
    version = {"name": "m", "source": run["artifact_uri"], "run_id": run["run_id"]}
    assert post(f"{api}/model-versions/create", version)["model_version"]["version"] == "1"


def test_keys_are_private_and_have_the_least_rights(platform: Platform) -> None:
    home = platform.home
    for path in home.keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700
    secrets = [path.read_text().strip() for path in home.keys.iterdir()]
    texts = [path.read_text() for path in (*home.workloads.glob("*.json"), home.platform_file)]
    texts += [path.read_text(errors="replace") for path in home.logs.iterdir()]
    for pid in pids(home).values():
        texts.append(Path(f"/proc/{pid}/cmdline").read_text())
        texts.append(Path(f"/proc/{pid}/environ").read_text())
    assert not any(secret in text for secret in secrets for text in texts)
    url = platform.urls["gateway"] + "/proa/v1/keys"
    for name, status in (("predictor", 403), ("assistant", 403), ("controller", 403)):
        key = home.key(name).read_text().strip()
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        caught.value.close()
        assert caught.value.code == status, name


def test_the_engine_answers_through_the_gateway_only(
    platform: Platform, engine: EngineSpec
) -> None:
    body = {"model": engine.identity, "messages": [{"role": "user", "content": "hello"}]}
    key = platform.home.key("assistant").read_text().strip()
    answer = post(f"{platform.urls['engine']}/v1/chat/completions", body, key)
    assert answer["choices"][0]["message"]["content"] == "You said: hello"
    assert platform.aliases == {"smollm2": engine.identity}
    path = Path(platform.engines[engine.identity]["url"].removeprefix("unix://"))
    assert path.is_socket()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_up_again_changes_nothing_and_repairs_what_broke(
    platform: Platform, engine: EngineSpec
) -> None:
    before = pids(platform.home)
    assert up(platform.home) == platform
    assert pids(platform.home) == before
    pid = before["gateway"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    supervisor = supervisor_pid(platform.home)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    assert up(platform.home, engine=engine) == platform
    after = pids(platform.home)
    assert after["gateway"] not in (None, pid)
    assert {name for name in before if after[name] != before[name]} == {"gateway"}


def test_the_controller_starts_a_new_supervisor(platform: Platform) -> None:
    old = supervisor_pid(platform.home)
    assert old is not None
    before = pids(platform.home)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: supervisor_pid(platform.home) not in (None, old), 30)
    assert pids(platform.home) == before


def test_killed_parts_come_back_at_their_ports(platform: Platform) -> None:
    before = pids(platform.home)
    for part in PARTS:
        pid = before[part]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    files = WorkloadFiles(platform.home)

    def back(part: str) -> bool:
        status = files.status(part)
        return status is not None and status.ready and status.pid != before[part]

    wait_until(lambda: all(back(part) for part in PARTS), 120)
    for part in PARTS:
        assert read_json(platform.home.status(part))["url"] == platform.urls[part]


def test_a_taken_port_is_named_with_its_holder(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    home = Home(tmp_path / "home")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict) as caught:
        up(home, ports=PortPlan.parse([f"gateway={port}"], auto=True))
    message = caught.value.message
    assert f"port {port} is taken by pid {os.getpid()} (" in message
    assert "choose another with --port gateway=" in message
    assert list(home.statuses.iterdir()) == [], "nothing was started"


def test_a_part_that_does_not_start_is_named_with_its_last_words(
    tmp_path: Path, engine: EngineSpec
) -> None:
    home = Home(tmp_path / "home").create()
    (home.mlflow / "mlflow.db").mkdir()  # no database can be made there
    broken = stand_in(STAND_IN, arguments=("--no-such-option",))
    try:
        with pytest.raises(Unavailable) as caught:
            up(home, ports=PortPlan.parse([], auto=True), engine=broken)
        assert "does not become ready" in caught.value.message
        assert "--no-such-option" in caught.value.message
        assert str(home.logs) in str(caught.value.hint)
    finally:
        done = down(home)
    assert f"engine-{engine.identity}" not in done.stopped


def test_down_leaves_nothing_running_and_keeps_the_data(tmp_path: Path, platform: Platform) -> None:
    """Last in this file: it stops the platform that the others share."""
    home = platform.home
    ensure_supervisor(home)
    living = [identify(pid) for pid in pids(home).values() if pid]
    assert len(living) == 6
    done = down(home)
    assert set(PARTS) <= set(done.stopped)
    assert not any(process and is_alive(process) for process in living)
    assert supervisor_pid(home) is None
    assert home.mlflow in done.kept
    assert home.ledger in done.kept
    for port in platform.ports.to_json().values():
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
    assert read_platform(home) == platform
    assert not down(home).was_running
    assert not down(Home(tmp_path / "never")).was_running
