"""`proa create PROJECT --on cluster`: a project's pipeline runs on Kubeflow Pipelines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput
from proa.fleet.preset import PipelinesSection, read_preset
from proa.project import OwnProject, Project
from proa.project import load as load_project
from proa.release.reference import ReleaseRef
from proa_pipelines import compiling, package, tracking
from proa_pipelines.kubeflow import Kubeflow
from proa_pipelines.runner import refusal

__all__ = ["submit"]

Say = Callable[[str], None]
NEVER = "none"
"""For `every`: end the recurring run."""


def submit(
    project: str,
    platform: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    until: str = "register",
    every: str | None = None,
    wait: bool = True,
    cause: Mapping[str, str] | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Submit a run, or a recurring run, and wait for the run's end.

    Args:
        project: its folder, or the name of a model that was submitted before.
        platform: the platform file.  every: a cron expression, or `none`.

    Returns:
        project kind package experiment namespace run|recurring url; state release verdict reason.

    Raises:
        ProaError: what Kubeflow or MLflow said; `Refused` when the run failed or was no pass.
    """
    preset = read_preset(platform)
    section = preset.pipelines
    if section is None:
        raise InvalidInput(f"{platform}: pipelines is missing", param="pipelines")
    client, mlflow = Kubeflow(section), preset.endpoints.mlflow
    with tempfile.TemporaryDirectory(prefix="proa-submit-") as folder:
        found, reference = _project(project, mlflow, overrides or {}, Path(folder))
        name, kind = found.name, _kind(found)
        experiment = section.experiment or name
        body: dict[str, Any] = {"project": name, "kind": kind, "until": until}
        body |= {"experiment": experiment, "namespace": section.namespace}
        at = client.experiment(experiment)
        if every == NEVER:
            ended = client.end(name, at)
            say(f"{ended} recurring runs of {name} ended")
            return {**body, "ended": ended}
        reference = reference or package.keep(mlflow, name, package.pack(found))
        say(f"project {name}: {reference}")
        body["package"] = reference
        pipeline = Path(folder) / "pipeline.yaml"
        compiling.compile_pipeline(kind, pipeline, until=until, section=section)
        arguments = {"project": reference, **_parameters(overrides, cause)}
        _keep_template(client, found, reference, at, Path(folder), section, say)
        if every is not None:
            made = client.repeat(pipeline, arguments, name=name, experiment=at, cron=every)
            say(f"recurring run: {made.url}")
            return {**body, "recurring": made.id, "every": every, "url": made.url}
        title = f"{name} {until} {reference[-64:][:8]}"
        run = client.run(pipeline, arguments, name=title, experiment=at)
    say(f"run: {run.url}")
    body |= {"run": run.id, "url": run.url}
    if not wait:
        return body
    say("waiting; Ctrl-C stops the waiting and not the run")
    client.watch(run, say)
    body |= {"state": "SUCCEEDED", **_outcome(mlflow, platform, name, run.id, until)}
    return _unless_refused(body)


def _keep_template(
    client: Kubeflow,
    project: Project,
    reference: str,
    experiment: str,
    folder: Path,
    section: PipelinesSection,
    say: Say,
) -> None:
    """What a finding's run copies; gone when the project has no section `retrain` any more."""
    name = f"{project.name} retraining"
    if not project.retrain:
        client.end(name, experiment)
        return
    pipeline = folder / "retraining.yaml"
    compiling.compile_pipeline(_kind(project), pipeline, until="gate", section=section)
    arguments = {"project": reference, "overrides": "{}"}
    made = client.keep(pipeline, arguments, name=name, experiment=experiment)
    say(f"for findings that ask: {made.url}")


def _parameters(
    overrides: Mapping[str, str] | None, cause: Mapping[str, str] | None
) -> dict[str, str]:
    return {"overrides": json.dumps(dict(overrides or {})), **(cause or {})}


def _unless_refused(body: dict[str, Any]) -> dict[str, Any]:
    refused = refusal(body)
    if refused is not None:
        raise refused
    return body


def _project(
    project: str, mlflow: str, overrides: Mapping[str, str], work: Path
) -> tuple[Project, str | None]:
    """The project, and its package's reference when it was kept before."""
    if Path(project).exists():
        return load_project(Path(project), dict(overrides)), None
    reference = package.kept(mlflow, project)
    package.unpack(package.fetch(mlflow, reference), work / "project")
    return load_project(work / "project", dict(overrides)), reference


def _kind(project: Project) -> str:
    return "own" if isinstance(project.spec, OwnProject) else project.kind


def _outcome(mlflow: str, platform: Path, name: str, run: str, until: str) -> dict[str, Any]:
    """The release that the run made, and the verdict on it, from MLflow and the journal."""
    release = tracking.release_of(mlflow, name, run)
    if release is None:
        return {}
    if until == "register":
        return {"release": release}
    import proa

    with proa.connect(platform=platform) as fleet:
        verdict = fleet.verdict(ReleaseRef.parse(release)).verdict
        status = fleet.status(name)
    return {
        "release": release,
        "verdict": verdict["value"],
        "reason": verdict["reason"],
        "promoted": status["champion"] == release,
        "phase": status["phase"],
    }


def section_of(platform: Path | None) -> PipelinesSection | None:
    """The section `pipelines` of a platform file, for `compile --platform`."""
    return None if platform is None else read_preset(platform).pipelines
