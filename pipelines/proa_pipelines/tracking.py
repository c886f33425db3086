"""MLflow: one run per pipeline run, with parameters, figures, plots and the data it saw."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proa.errors import Unavailable
from proa.project import Project
from proa.release.registry import prepare_mlflow

_LONGEST = 500  # characters of a parameter that MLflow keeps whole


@contextlib.contextmanager
def run(url: str, project: Project, manifest: Mapping[str, Any], evidence: Path) -> Iterator[str]:
    """Open a run of the experiment named after the project, log everything, yield its id.

    The run is FINISHED when the body ends, FAILED when it raises.

    Raises:
        Unavailable: MLflow does not answer at `url`.
    """
    prepare_mlflow()
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(url)
    try:
        experiment = mlflow.set_experiment(project.name)
        name = f"{project.name} {str(manifest['source'].get('pipeline_run') or '')[-6:]}".strip()
        active = mlflow.start_run(experiment_id=experiment.experiment_id, run_name=name)
    except MlflowException as error:
        raise Unavailable(f"MLflow at {url} did not answer: {str(error)[:300]}") from error
    with active:
        try:
            _log(mlflow, project, manifest, evidence)
        except MlflowException as error:
            raise Unavailable(f"MLflow at {url}: {str(error)[:300]}") from error
        yield active.info.run_id


def tag(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    import mlflow

    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_tag(run_id, key, value)


def release_of(url: str, name: str, pipeline_run: str) -> str | None:
    """The release that a pipeline run made, from the tags of its MLflow run; None without one.

    Raises:
        Unavailable: MLflow does not answer.
    """
    prepare_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(url, url)
    try:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return None
        mine = f"tags.`proa.pipeline_run` = '{pipeline_run}'"
        found = client.search_runs([experiment.experiment_id], mine, max_results=1)
    except MlflowException as error:
        raise Unavailable(f"MLflow at {url}: {str(error)[:300]}") from error
    return found[0].data.tags.get("proa.release") if found else None


def _log(mlflow: Any, project: Project, manifest: Mapping[str, Any], evidence: Path) -> None:
    mlflow.set_tags(
        {
            "proa.project": project.name,
            "proa.kind": project.kind,
            "proa.team": project.spec.team,
            "proa.settings": project.digest,
            "proa.pipeline_run": str(manifest["source"].get("pipeline_run")),
            "mlflow.note.content": project.spec.description,
        }
    )
    mlflow.log_params({key: _text(value) for key, value in manifest["parameters"].items()})
    if manifest["metrics"]:
        mlflow.log_metrics(manifest["metrics"])
    if evidence.is_dir():
        _log_data(mlflow, manifest, evidence)
        mlflow.log_artifacts(str(evidence), artifact_path="evidence")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_LONGEST]


def _log_data(mlflow: Any, manifest: Mapping[str, Any], evidence: Path) -> None:
    """Link the data set: its digest, window and schema; the rows themselves stay where they are."""
    described = evidence / "dataset.json"
    data = manifest.get("data")
    if data is None or not described.is_file():
        return
    about = json.loads(described.read_text())
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.types import ColSpec, Schema

    kinds = {"boolean": "boolean", "long": "long", "double": "double", "string": "string"}
    schema = Schema(
        [
            ColSpec(kinds.get(column["type"], "datetime"), column["name"])
            for column in about["columns"]
        ]
    )
    source = CodeDatasetSource(tags={"rows": str(data["rows"]), "window": _window(data)})
    dataset = MetaDataset(
        source,
        name=manifest["name"],
        digest=data["digest"].removeprefix("sha256:")[:32],
        schema=schema,
    )
    mlflow.log_input(dataset, context="training")


def _window(data: Mapping[str, Any]) -> str:
    return f"{data['start']} to {data['end']}"
