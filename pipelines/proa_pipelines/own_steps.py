"""The one step of the pipeline of a model that is made already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proa.release.reference import ReleaseRef
from proa_pipelines.release_steps import fleet_of
from proa_pipelines.steps import facts, note


def bring(
    project: str,
    overrides: str,
    home: str,
    until: str,
    run_id: str,
    cause: str,
    requested_by: str,
    finding: str,
    page: str,
    figures: str,
) -> str:
    """Make the release, let it sit its exam, ask for its rollout, as far as `until`."""
    from proa_pipelines import cards, own

    Path(home).mkdir(parents=True, exist_ok=True)
    done = own.bring(
        Path(project),
        Path(home),
        overrides=json.loads(overrides or "{}"),
        until=until,
        run_id=run_id,
        reason=cause,
        say=note,
    )
    ref = ReleaseRef.parse(done["release"])
    fleet = fleet_of(home)
    manifest = fleet.manifest(ref)
    why = {"cause": cause, "requested_by": requested_by, "evidence": finding}
    text = cards.page_of_release(ref.short, manifest, why)
    values: dict[str, float | None] = {}
    if "verdict" in done:
        judged = fleet.verdict(ref).verdict
        text += "\n" + cards.verdict_page(ref.short, judged)
        values = cards.verdict_numbers(judged)
    Path(page).write_text(text)
    cards.numbers(figures, values)
    facts(**{key: value for key, value in done.items() if key not in ("steps", "seconds")})
    return str(ref)


STEPS: dict[str, Callable[..., Any]] = {"bring": bring}
