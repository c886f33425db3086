"""What a pipeline run leaves in MLflow: a real one on SQLite."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from proa.errors import Unavailable
from proa.project import Project, load
from proa.release import registry
from proa_pipelines import tracking

# MLflow's client uses what its dependencies deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PROJECT = Path(__file__).parents[3] / "pipelines" / "flight_delay"
MANIFEST: dict[str, Any] = {
    "name": "flight-delay",
    "source": {"pipeline_run": "01K0000000000000000000TEST"},
    "parameters": {"max_iter": 75, "window": {"start": "a", "end": "b"}, "note": "x" * 900},
    "metrics": {"roc_auc": 0.75, "log_loss": 0.47},
    "data": {"digest": "sha256:" + "ab" * 32, "rows": 10, "start": "a", "end": "b"},
}


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "roc.png").write_bytes(b"\x89PNG")
    columns = [{"name": "temp", "type": "double"}, {"name": "dest", "type": "string"}]
    (folder / "dataset.json").write_text(json.dumps({"columns": columns}))
    return folder


@pytest.fixture
def project() -> Project:
    return load(PROJECT)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tracking sets for MLflow ends with the test."""
    for name, value in registry._MANNERS.items():
        monkeypatch.setenv(name, os.environ.get(name, value))


def test_a_run_holds_parameters_figures_plots_and_data(
    mlflow_url: str, evidence: Path, project: Project
) -> None:
    import mlflow

    with tracking.run(mlflow_url, project, MANIFEST, evidence) as run_id:
        tracking.tag(run_id, {"proa.release": "flight-delay/1@sha256:00"})
    client = mlflow.MlflowClient(mlflow_url)
    run = client.get_run(run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    assert (experiment.name, run.info.status) == ("flight-delay", "FINISHED")
    assert run.data.params["max_iter"] == "75"
    assert len(run.data.params["note"]) == 500
    assert run.data.metrics == {"roc_auc": 0.75, "log_loss": 0.47}
    assert run.data.tags["proa.release"] == "flight-delay/1@sha256:00"
    assert run.data.tags["proa.team"] == "operations"
    names = [item.path for item in client.list_artifacts(run_id, "evidence")]
    assert names == ["evidence/dataset.json", "evidence/roc.png"]
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("flight-delay", "ab" * 16)
    assert '"name": "temp"' in data.dataset.schema


def test_a_run_whose_release_was_not_made_is_failed(
    mlflow_url: str, evidence: Path, project: Project
) -> None:
    import mlflow

    started: list[str] = []

    def register() -> None:
        with tracking.run(mlflow_url, project, MANIFEST, evidence) as run_id:
            started.append(run_id)
            raise Unavailable("the controller is down")

    with pytest.raises(Unavailable, match="controller is down"):
        register()
    assert mlflow.MlflowClient(mlflow_url).get_run(started[0]).info.status == "FAILED"


def test_mlflow_down_is_named_within_seconds(evidence: Path, project: Project) -> None:
    with (
        pytest.raises(Unavailable, match=r"MLflow at http://127\.0\.0\.1:9 did not answer"),
        tracking.run("http://127.0.0.1:9", project, MANIFEST, evidence),
    ):
        pass
