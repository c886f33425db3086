"""The end of both pipelines: register, gate, promote, through the fleet."""

from __future__ import annotations

import json
from datetime import datetime
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
        ref = fleet.create_from_folder(folder, manifest, run_id=run_id, rollout=found.rollout)
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
    verdict = proa.connect(home).gate(ref, exam, progress=progress, say=note)
    note(f"{verdict.value}: {verdict.reason}")
    facts(verdict=verdict.value, reason=verdict.reason)
    return str(verdict.value)


def promote(project: str, overrides: str, home: str, release: str) -> None:
    """Ask for the rollout. A first release is waited for; a canary goes on without the pipeline.

    A canary takes as long as its calls take to come: minutes under load, days without. A pod that
    waited for it would be the one thing that must not be restarted.
    """
    import proa

    name = open_project(project, overrides).name
    ref = ReleaseRef.parse(release)
    fleet = proa.connect(home)
    first = fleet.status(name)["champion"] is None
    status = fleet.promote(ref, reason="pipeline", wait=first)
    done = status["champion"] == release
    note(f"{ref.short} is champion" if done else f"{ref.short} asked for: {status['message']}")
    facts(promoted=done, phase=status["phase"], champion=status["champion"])


def materialize(project: str, home: str, until: str) -> dict[str, Any]:
    """Bring the online rows of the project's feature views up to `until`, an aware RFC 3339 time.

    What a scheduled job does between pipeline runs; views that are already there stay as they are.
    """
    from proa.features import store

    views = load_project(Path(project)).classic.features
    if views is None:
        raise NotFound(f"{project}: proa.yaml names no feature views")
    moment = datetime.fromisoformat(until)
    names = [view.view for view in views.views]
    done = store.materialize(Path(home) / "feast", until=moment, views=names)
    return {
        name: [t.isoformat() for t in window] if window else None for name, window in done.items()
    }
