"""What `helm test` runs, run here: the rendered pods' own commands against loopback processes.

Faked: the engine and the release (`tests/standins`), since the hooks are about what is on the wire;
tests/cluster runs the same pods against the real ones.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.charts import render
from tests.processes import Processes

STANDINS = render.ROOT / "tests/standins"


def hook(chart: str, more: dict[str, Any], replaced: dict[str, str]) -> tuple[int, str]:
    """Run the command of the chart's test pod; `replaced` gives flags another value."""
    case = render.Case(chart, "test", render.over(render.least(chart), more))
    (pod,) = render.kinds(render.objects(case), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    given = {argument.partition("=")[0] for argument in container["args"]}
    assert set(replaced) <= given
    arguments = [
        f"{flag}={replaced[flag]}" if (flag := argument.partition("=")[0]) in replaced else argument
        for argument in container["args"]
    ]
    command = [sys.executable, *container["command"][1:], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def identity() -> str:
    case = render.Case("vllm", "least", render.least("vllm"))
    (deployment,) = render.kinds(render.objects(case), "Deployment")
    return str(deployment["metadata"]["labels"]["proa.dev/engine"])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "engine.key"
    path.write_text("a key\n")
    path.chmod(0o600)
    return path


def start_engine(processes: Processes, name: str, key: Path | None) -> str:
    command = ["python", STANDINS / "engine.py", "--model", name, "--port", "{port}"]
    keyed = ["--key-file", key] if key else []
    return processes.start([*command, *keyed], ready="/health").url


def test_an_engine_is_asked_for_a_completion(processes: Processes, key: Path) -> None:
    url = start_engine(processes, identity(), key)
    code, said = hook("vllm", {}, {"--url": url, "--key-file": str(key)})
    assert code == 0, said
    assert f"{identity()} says" in said


def test_the_wrong_engine_fails(processes: Processes, key: Path) -> None:
    url = start_engine(processes, "eng-ffffffffffffffff", key)
    code, said = hook("vllm", {}, {"--url": url, "--key-file": str(key)})
    assert code != 0
    assert "answers 404" in said


def test_an_engine_that_anybody_may_use_fails(processes: Processes, key: Path) -> None:
    url = start_engine(processes, identity(), None)
    code, said = hook("vllm", {}, {"--url": url, "--key-file": str(key)})
    assert code != 0
    assert "without a key it answers 200, expected 401" in said


RELEASE = f"flight-delay/7@sha256:{'0' * 64}"


def start_release(processes: Processes, release: str, *more: str) -> str:
    command = ["python", STANDINS / "release_server.py", "--port", "{port}", *more]
    return processes.start(command, {"PROA_RELEASE": release}).url


def test_a_release_is_asked_for_a_prediction(processes: Processes) -> None:
    url = start_release(processes, RELEASE)
    code, said = hook("predictor", {}, {"--url": url})
    assert code == 0, said
    assert f"ready with {RELEASE}" in said
    request = {"test": {"request": {"rows": [{"hour": 5}]}}}
    code, said = hook("predictor", request, {"--url": url})
    assert code == 0, said
    assert f"{RELEASE} answered" in said


def test_a_release_of_another_model_fails(processes: Processes) -> None:
    url = start_release(processes, RELEASE.replace("flight-delay", "other"))
    code, said = hook("predictor", {}, {"--url": url})
    assert code != 0
    assert "expected a release of flight-delay" in said


def test_a_release_that_answers_with_errors_fails(processes: Processes) -> None:
    url = start_release(processes, RELEASE, "--error-ratio", "1")
    code, said = hook("predictor", {"test": {"request": {"rows": [{}]}}}, {"--url": url})
    assert code != 0
    assert "/v1/predict answers 500" in said
