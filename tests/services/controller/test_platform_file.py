"""The same commands by a platform file: only URLs and a key, as for a platform on a cluster.

Real: gateway, controller, the command line, the pipelines' process, MLflow on a SQLite file.
Faked: Kubeflow's API server (`tests/standins/kubeflow.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.project.scaffold import write_project
from tests.services.controller.platform import SmallPlatform
from tests.standins import kubeflow
from tests.standins.kubeflow import serving

COMMAND = [sys.executable, "-c", "from proa.cli import main; main()"]


@pytest.fixture
def file(small: SmallPlatform, tmp_path: Path) -> Path:
    """A platform file for the small platform, with the key in a file beside it."""
    ends = small.fleet.endpoints
    value = {
        "gateway": ends.gateway,
        "controller": ends.controller,
        "mlflow": f"sqlite:///{tmp_path}/mlflow.db",
        "bundles": ends.bundles,
        "key_file": "key",
    }
    (tmp_path / "key").write_text(small.home.key("admin").read_text())
    path = tmp_path / "platform.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def proa(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PROA_")}
    return subprocess.run(
        [*COMMAND, "--platform", str(file), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "COLUMNS": "140"},
        cwd=file.parent,
    )


def test_verbs_that_need_no_home(small: SmallPlatform, file: Path) -> None:
    one = small.champion("by-file")
    two = small.release("by-file")
    small.gate(two)
    done = proa(file, "promote", str(two), "--steps", "none", "--reason", "by file", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["champion"] == str(two)
    assert one.short in proa(file, "history", "by-file").stdout
    assert json.loads(proa(file, "rollback", "by-file", "--json").stdout)["champion"] == str(one)
    asked = json.loads(proa(file, "predict", "by-file", "--row", "{}", "--json").stdout)
    assert asked["release"] == str(one)
    assert proa(file, "why", "by-file").returncode == 0
    assert proa(file, "costs").returncode == 0
    assert proa(file, "diff", str(one), str(two)).returncode == 0


def test_status_shows_models_weights_leader_and_gateways(small: SmallPlatform, file: Path) -> None:
    ref = small.champion("seen")
    value = json.loads(proa(file, "status", "--json").stdout)
    (gateway,) = value["platform"]["gateways"]
    assert gateway["ready"] is True
    assert gateway["generation"] == value["platform"]["routes"]["generation"]
    shown = proa(file, "status").stdout
    assert f"{ref.short} 100%" in shown
    assert gateway["url"] in shown
    assert "leads" in shown


def test_verbs_that_need_a_home_say_so(small: SmallPlatform, file: Path, tmp_path: Path) -> None:
    write_project("churn", kind="classic", folder=tmp_path / "churn")
    done = proa(file, "create", str(tmp_path / "churn"))
    assert done.returncode == 5
    assert "a pipeline on this machine needs the home folder" in done.stderr
    assert "hint: name a folder with --home" in done.stderr
    done = proa(file, "create", str(tmp_path / "churn"), "--on", "cluster")
    assert done.returncode == 5
    assert "names no Kubeflow Pipelines: expected a section `pipelines`" in done.stderr
    done = proa(file, "environments")
    assert done.returncode == 5


@pytest.fixture
def backend() -> Iterator[tuple[kubeflow.Kubeflow, str]]:
    state = kubeflow.Kubeflow()
    with serving(state) as url:
        yield state, url


def test_a_request_for_retraining_stands_in_the_journal_and_in_the_run(
    small: SmallPlatform, file: Path, tmp_path: Path, backend: tuple[kubeflow.Kubeflow, str]
) -> None:
    state, url = backend
    small.champion("churn")
    asked = ["retrain", "churn", "--reason", "prices changed last week", "--cause", "drift"]
    assert proa(file, *asked).returncode == 5  # no Kubeflow is named: nothing was asked for
    value: dict[str, Any] = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**value, "pipelines": {"url": url}}))
    write_project("churn", kind="classic", folder=tmp_path / "churn")
    made = proa(file, "create", str(tmp_path / "churn"), "--on", "cluster", "--no-wait", "--json")
    assert made.returncode == 0, made.stderr
    done = proa(file, *asked, "--evidence", "finding-7", "--as", "ada", "--no-wait", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["package"] == json.loads(made.stdout)["package"]
    parameters = state.runs[answer["run"]]["runtime_config"]["parameters"]
    lines = [line for line in small.fleet.history("churn") if line["action"] == "retraining_asked"]
    assert len(lines) == 1
    assert lines[0]["reason"] == "prices changed last week"
    assert lines[0]["details"]["request"] == answer["asked"]
    assert lines[0]["details"]["cause"] == "drift"
    assert lines[0]["who"].startswith("ada (")
    assert parameters["cause"] == "drift: prices changed last week"
    assert parameters["requested_by"] == lines[0]["who"]
    assert parameters["evidence"] == "finding-7"


def test_a_run_that_failed_is_told_with_its_page(
    small: SmallPlatform, file: Path, tmp_path: Path, backend: tuple[kubeflow.Kubeflow, str]
) -> None:
    state, url = backend
    state.script = [{"state": "FAILED", "error": {"message": "no node has a GPU"}}]
    value: dict[str, Any] = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**value, "pipelines": {"url": url}}))
    write_project("failing", kind="classic", folder=tmp_path / "failing")
    done = proa(file, "create", str(tmp_path / "failing"), "--on", "cluster")
    assert done.returncode == 6
    assert "failed: no node has a GPU" in done.stderr
    assert f"hint: its log: {url}/#/runs/details/" in done.stderr
    assert done.stderr.count("no node has a GPU") == 1
    assert "Traceback" not in done.stderr


_WHY = "prices changed last week"


def test_retraining_needs_a_reason_and_a_word(small: SmallPlatform, file: Path) -> None:
    small.champion("reasons")
    ask = small.ask
    with pytest.raises(Exception, match="expected one word"):
        ask("POST", "/v1/models/reasons/retraining", {"reason": _WHY, "cause": "Two words"})
    with pytest.raises(Exception, match="reason"):
        ask("POST", "/v1/models/reasons/retraining", {"reason": " "})
    with pytest.raises(Exception, match="nobody"):
        ask("POST", "/v1/models/nobody/retraining", {"reason": _WHY})
