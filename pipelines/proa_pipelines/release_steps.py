"""The end of both pipelines: register, gate, promote, through the fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proa.errors import NotFound
from proa.project import Project
from proa.project import load as load_project
from proa.release.bundle import MANIFEST
from proa.release.reference import ReleaseRef
from proa_pipelines.steps import facts, note


def open_project(project: str, overrides: str) -> Project:
    """The project with the run's overrides (a JSON object of dotted keys)."""
    return load_project(Path(project), json.loads(overrides or "{}"))


def register(project: str, overrides: str, home: str, release: str, evidence: str) -> str:
    """Log the run to MLflow, create the release from its staged folder; returns its reference.

    Args:
        release: the folder that `stage` wrote.
        evidence: folder with what people want to see of the run: `*.png`, `*.json`, `dataset/`.
    """
    import proa
    from proa_pipelines import tracking

    found = open_project(project, overrides)
    folder = Path(release)
    staged = folder / MANIFEST
    if not staged.is_file():
        raise NotFound(f"no staged release in {folder}: the step `stage` writes it")
    manifest: dict[str, Any] = json.loads(staged.read_bytes())
    fleet = proa.connect(home)
    with tracking.run(fleet.endpoints.mlflow, found, manifest, Path(evidence)) as run_id:
        manifest["source"] = {**manifest.get("source", {}), "mlflow_run": run_id}
        ref = fleet.create_from_folder(folder, manifest, run_id=run_id)
        tracking.tag(run_id, {"proa.release": str(ref)})
    note(f"{ref.short} {ref.digest[:19]}…")
    facts(release=str(ref), mlflow_run=run_id)
    return str(ref)


def gate(project: str, overrides: str, home: str, release: str) -> str:
    """Let the release sit its exam; returns `pass`, `fail` or `inconclusive`."""
    import proa
    from proa.exam.exam import load

    ref = ReleaseRef.parse(release)
    told: set[str] = set()

    def progress(what: str, done: int, total: int) -> None:
        if done == total and what not in told:
            told.add(what)
            note(f"{what}: {done}/{total}")

    exam = load(open_project(project, overrides))
    verdict = proa.connect(home).gate(ref, exam, progress=progress)
    note(f"{verdict.value}: {verdict.reason}")
    facts(verdict=verdict.value, reason=verdict.reason)
    return str(verdict.value)


def promote(project: str, overrides: str, home: str, release: str) -> None:
    """Ask for the rollout and wait for its end."""
    import proa

    name = open_project(project, overrides).name
    status = proa.connect(home).promote(ReleaseRef.parse(release), reason="pipeline")
    note(f"{name}: champion is {ReleaseRef.parse(status['champion']).short}")
    facts(promoted=True, champion=status["champion"])
