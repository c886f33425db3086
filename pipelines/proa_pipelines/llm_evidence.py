"""What people look at in MLflow: what the exam's questions find, and how well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proa_pipelines.llm_staging import Asked, Parts

_COLOURS = ("#1b6ca8", "#d1793b", "#4a9d6f", "#8a5a9e", "#8a8a8a", "#b8495c", "#6f7f2f", "#3b3b3b")


def write(folder: Path, parts: Parts, asked: Sequence[Asked]) -> None:
    """Write `retrieval.json` and `retrieval.png` below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(item) for item in asked]
    (folder / "retrieval.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    if parts.searcher is not None and rows:
        _draw(folder / "retrieval.png", rows, parts)


def _row(asked: Asked) -> dict[str, Any]:
    made = asked.prepared
    return {
        "suite": asked.suite,
        "question": made.question,
        "best": max((hit.cosine for hit in made.retrieved), default=None),
        "retrieved": [hit.citation() for hit in made.retrieved],
        "guard": [finding.to_wire() for finding in made.findings],
        "refused": made.refusal is not None,
    }


def _draw(path: Path, rows: list[dict[str, Any]], parts: Parts) -> None:
    """The best passage's cosine per question, by suite, with the score that refuses."""
    from matplotlib.figure import Figure

    suites = list(dict.fromkeys(row["suite"] for row in rows if row["best"] is not None))
    figure = Figure(figsize=(7.2, 0.5 * len(suites) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for place, suite in enumerate(suites):
        best = [row["best"] for row in rows if row["suite"] == suite and row["best"] is not None]
        axes.plot(best, [place] * len(best), "o", color=_COLOURS[place % len(_COLOURS)], alpha=0.5)
    policy = parts.guard.policy
    if policy is not None and policy.on_no_context == "refuse":
        axes.axvline(policy.min_score, color="#8a8a8a", linewidth=1)
        axes.annotate("refused below", (policy.min_score, -0.6), ha="right", fontsize=8)
    axes.set_yticks(range(len(suites)), suites)
    axes.set_ylim(-0.8, len(suites) - 0.4)
    axes.set(xlabel="cosine of question and best passage", title="What questions find")
    figure.savefig(path, dpi=100)
