"""What the calibrate step hands on: out-of-fold scores, threshold, metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from proa_pipelines.fit import Scores

_SCORES = "scores.npz"
_RESULTS = "results.json"


def save(
    folder: Path,
    scores: Scores,
    *,
    threshold: float | None,
    metrics: dict[str, float],
    before: dict[str, float],
) -> None:
    """Write scores (n rows) and figures; `before` are the metrics without calibration."""
    unit = scores.unit.astype(str)
    np.savez_compressed(folder / _SCORES, value=scores.value, label=scores.label, unit=unit)
    figures = {"threshold": threshold, "metrics": metrics, "before": before}
    (folder / _RESULTS).write_text(json.dumps(figures, indent=1))


def load(folder: Path) -> tuple[Scores, float | None]:
    """The scores and the threshold."""
    with np.load(folder / _SCORES, allow_pickle=False) as stored:
        scores = Scores(stored["value"], stored["label"], stored["unit"])
    return scores, json.loads((folder / _RESULTS).read_text())["threshold"]


def figures(folder: Path) -> dict[str, dict[str, float]]:
    """`metrics` and `before` calibration."""
    stored = json.loads((folder / _RESULTS).read_text())
    return {"metrics": stored["metrics"], "before": stored["before"]}
