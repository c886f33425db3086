"""The end of both pipelines: register, gate, promote, through the fleet."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.errors import NotFound
from proa.project import Project
from proa.project import load as load_project
from proa.release.bundle import MANIFEST
from proa.release.reference import ReleaseRef
from proa.retraining.step import CONTROLLER
from proa_pipelines.steps import facts, note

if TYPE_CHECKING:
    from proa.fleet import Fleet


def open_project(project: str, overrides: str) -> Project:
    """The project with the run's overrides (a JSON object of dotted keys)."""
    return load_project(Path(project), json.loads(overrides or "{}"))


def fleet_of(home: str) -> Fleet:
    """The platform that the run belongs to: of the platform file in a pod, else of the home."""
    import proa
    from proa.fleet import PLATFORM

    return proa.connect(home, platform=os.environ.get(PLATFORM) or None)


def register(
    project: str,
    overrides: str,
    home: str,
    release: str,
    evidence: str,
    page: str,
    cause: str,
    requested_by: str,
    finding: str,
) -> str:
    """Log the run to MLflow, create the release from its staged folder; returns its reference.

    Args:
        release: the folder that `stage` wrote.
        evidence: folder with what people want to see of the run: `*.png`, `*.json`, `dataset/`.
        page: the file for the release's page, Markdown.
        cause, requested_by, finding: why the run was asked for, by whom, where it can be looked
            up; "" when nobody asked.
    """
    from proa_pipelines import cards, tracking
    from proa_pipelines.engines import weights_cache

    found = open_project(project, overrides)
    # A run that a finding asked for changes no rules: people do, by what they create.
    by_people = requested_by != CONTROLLER
    folder = Path(release)
    staged = folder / MANIFEST
    if not staged.is_file():
        raise NotFound(f"no staged release in {folder}: the step `stage` writes it")
    manifest: dict[str, Any] = json.loads(staged.read_bytes())
    fleet = fleet_of(home)
    why = {"cause": cause, "requested_by": requested_by, "evidence": finding}
    with tracking.run(fleet.endpoints.mlflow, found, manifest, Path(evidence)) as run_id:
        manifest["source"] = {**manifest.get("source", {}), "mlflow_run": run_id}
        ref = fleet.create_from_folder(
            folder,
            manifest,
            run_id=run_id,
            reason=cause,
            rollout=found.rollout if by_people else None,
            retrain=found.retrain if by_people else None,
            weights=weights_cache(Path(home), os.environ),
        )
        asked = {f"proa.{key}": value for key, value in why.items() if value}
        tracking.tag(run_id, {"proa.release": str(ref), **asked})
    Path(page).write_text(cards.page_of_release(ref.short, fleet.manifest(ref), why))
    note(f"{ref.short} {ref.digest[:19]}…")
    facts(release=str(ref), mlflow_run=run_id)
    return str(ref)


def gate(project: str, overrides: str, home: str, release: str, page: str, figures: str) -> str:
    """Let the release sit its exam; returns `pass`, `fail` or `inconclusive`.

    Args:
        page: the file for the verdict, Markdown.  figures: the file for its numbers, JSON.
    """
    from proa.exam.exam import load
    from proa_pipelines import cards

    ref = ReleaseRef.parse(release)
    told: set[str] = set()

    def progress(what: str, done: int, total: int) -> None:
        if done == total and what not in told:
            told.add(what)
            note(f"{what}: {done}/{total}")

    exam = load(open_project(project, overrides))
    verdict = fleet_of(home).gate(ref, exam, progress=progress, say=note)
    Path(page).write_text(cards.verdict_page(ref.short, verdict.to_json()))
    cards.numbers(figures, cards.verdict_numbers(verdict.to_json()))
    note(f"{verdict.value}: {verdict.reason}")
    facts(verdict=verdict.value, reason=verdict.reason)
    return str(verdict.value)


def promote(project: str, overrides: str, home: str, release: str) -> None:
    """Ask for the rollout. A first release is waited for; a canary goes on without the pipeline.

    A canary takes as long as its calls take to come: minutes under load, days without. A pod that
    waited for it would be the one thing that must not be restarted.
    """
    name = open_project(project, overrides).name
    ref = ReleaseRef.parse(release)
    fleet = fleet_of(home)
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
