"""The controller's runs on Kubeflow Pipelines: what `submit` laid down, copied once per request.

Faked: the API server, by `tests/standins/kubeflow.py`. MLflow is real, on a SQLite file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proa.errors import NotFound, Unauthenticated, Unavailable
from proa.project.scaffold import write_project
from proa_controller.kubeflow_runs import KubeflowRuns, Pipelines
from proa_controller.runs import Look, Order
from proa_pipelines.submit import submit
from tests.standins import kubeflow
from tests.standins.kubeflow import serving

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

ORDER = Order(
    "churn",
    "1-abcd/1",
    {"data.train.end": "2026-02-01T00:00:00+00:00", "train.trials": "2"},
    {"cause": "quality: off [retraining 1-abcd/1]", "requested_by": "c", "evidence": "f1"},
)
RETRAIN = {"fresh_days": 14, "promote": "auto"}


@pytest.fixture
def backend() -> kubeflow.Kubeflow:
    return kubeflow.Kubeflow(token="t0ken", namespaces=frozenset({"team-a"}))


@pytest.fixture
def url(backend: kubeflow.Kubeflow) -> Iterator[str]:
    with serving(backend) as address:
        yield address


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("t0ken\n")
    return path


@pytest.fixture
def runs(url: str, token: Path) -> Iterator[KubeflowRuns]:
    made = KubeflowRuns(Pipelines(url, "team-a", token_file=token))
    yield made
    made.close()


def submitted(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, retrain: object = RETRAIN
) -> None:
    """What people do first."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "churn"
    if not folder.exists():
        write_project("churn", kind="classic", folder=folder)
    said = yaml.safe_load((folder / "proa.yaml").read_text())
    said.pop("retrain", None)
    if retrain is not None:
        said["data"]["exam"] = {"start": "2026-03-01", "end": "2026-04-01"}
        said["retrain"] = retrain
    (folder / "proa.yaml").write_text(yaml.safe_dump(said))
    platform = tmp_path / "platform.yaml"
    parts = dict.fromkeys(("gateway", "controller"), "http://127.0.0.1:9")
    section = {"url": url, "namespace": "team-a", "token_file": "token", "service_account": "run"}
    text = {**parts, "mlflow": f"sqlite:///{tmp_path}/mlflow.db", "pipelines": section}
    platform.write_text(yaml.safe_dump(text))
    submit(str(folder), platform, wait=False, say=lambda _: None)


def test_a_run_copies_what_was_submitted_and_is_started_once(
    backend: kubeflow.Kubeflow,
    runs: KubeflowRuns,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend.page = 1
    submitted(tmp_path, url, monkeypatch)
    submitted(tmp_path, url, monkeypatch)
    (template,) = backend.recurring
    assert (template["display_name"], template["mode"]) == ("churn retraining", "DISABLE")
    first = set(backend.runs)
    backend.script = [{"state": "RUNNING"}]
    assert runs.look("churn", ORDER.run) == Look("absent")
    for _ in range(3):
        runs.start(ORDER)
    (made,) = [run for key, run in backend.runs.items() if key not in first]
    assert made["display_name"] == "churn retraining 1-abcd/1"
    assert made["service_account"] == "run"
    executors = made["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert "exec-gate" in executors
    assert "exec-promote" not in executors
    parameters = made["runtime_config"]["parameters"]
    assert json.loads(parameters["overrides"]) == ORDER.overrides
    assert parameters["cause"] == "quality: off [retraining 1-abcd/1]"
    assert parameters["project"].startswith("runs:/")
    assert runs.look("churn", ORDER.run) == Look("running")
    assert runs.look("churn", "1-abcd/2") == Look("absent")
    runs.stop("churn", ORDER.run)
    assert runs.look("churn", ORDER.run).word == "ended"


def test_what_failed_is_told(
    backend: kubeflow.Kubeflow,
    runs: KubeflowRuns,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submitted(tmp_path, url, monkeypatch)
    runs.start(ORDER)
    step = {"display_name": "train", "state": "FAILED", "error": {"message": "no rows"}}
    backend.script = [{"state": "FAILED", "run_details": {"task_details": [step]}}]
    assert runs.look("churn", ORDER.run).said.endswith("failed: step train: no rows")
    submitted(tmp_path, url, monkeypatch, retrain=None)
    assert backend.recurring == []
    with pytest.raises(NotFound, match="has no recurring run 'churn retraining' to copy"):
        runs.start(Order("churn", "1-abcd/2", {}, {}))


def test_who_is_refused_or_away_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="the token is not valid"):
        KubeflowRuns(Pipelines(url, "team-a")).look("churn", "1/1")
    with pytest.raises(Unavailable, match="did not answer"):
        KubeflowRuns(Pipelines("http://127.0.0.1:9")).look("churn", "1/1")
