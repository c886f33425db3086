"""What people look at in MLflow: three plots and two tables of one training run.

Everything is out of fold: no point on a plot was seen by the model that scored it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proa_pipelines import results
from proa_pipelines.fit import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 10
_SLICES_SHOWN = 20
_LINE = "#1b6ca8"
_GREY = "#8a8a8a"


def write(
    folder: Path,
    *,
    task: str,
    calibrated: Path,
    dataset: Path,
    slices: Path,
    trials: Path,
    primary: str,
) -> None:
    """Write `*.png`, `slices.json`, `trials.json` and `dataset.json` below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in {
        "slices.json": slices,
        "trials.json": trials,
        "dataset.json": dataset / "dataset.json",
    }.items():
        shutil.copyfile(source, folder / name)
    scores, threshold = results.load(calibrated)
    table = json.loads(slices.read_text())
    if task == "binary":
        _figure(folder / "calibration.png", lambda axes: _calibration(axes, scores))
        _figure(folder / "roc.png", lambda axes: _roc(axes, scores, threshold))
    if task == "regression":
        _figure(folder / "predicted.png", lambda axes: _predicted(axes, scores))
    if table:
        _figure(folder / "slices.png", lambda axes: _by_slice(axes, table, primary))


def _figure(path: Path, draw: Any) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    figure.savefig(path, dpi=100)


def _calibration(axes: Axes, scores: Scores) -> None:
    """Tenths of the rows by probability: what was said against what happened."""
    order = np.argsort(scores.value, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    said = [scores.value[part].mean() for part in parts]
    happened = [scores.label[part].mean() for part in parts]
    top = max([*said, *happened]) * 1.05
    axes.plot([0, top], [0, top], color=_GREY, linewidth=1)
    axes.plot(said, happened, color=_LINE, marker="o")
    axes.set(
        xlabel="mean probability", ylabel="share that is true", title="Calibration, tenths of rows"
    )


def _roc(axes: Axes, scores: Scores, threshold: float | None) -> None:
    order = np.argsort(-scores.value, kind="stable")
    truth = scores.label[order]
    hits = np.r_[0, np.cumsum(truth)] / max(truth.sum(), 1)
    alarms = np.r_[0, np.cumsum(1 - truth)] / max((1 - truth).sum(), 1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    axes.plot(alarms, hits, color=_LINE)
    if threshold is not None:
        place = int((scores.value >= threshold).sum())
        axes.plot(alarms[place], hits[place], "o", color=_LINE)
        axes.annotate(
            f"threshold {threshold:.2f}",
            (alarms[place], hits[place]),
            xytext=(8, -12),
            textcoords="offset points",
        )
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")


def _predicted(axes: Axes, scores: Scores) -> None:
    step = max(1, len(scores.label) // 2000)
    axes.plot(scores.label[::step], scores.value[::step], ".", color=_LINE, alpha=0.4)
    axes.axline((float(scores.label.mean()),) * 2, slope=1, color=_GREY, linewidth=1)
    axes.set(xlabel="true value", ylabel="prediction", title="Predictions")


def _by_slice(axes: Axes, table: list[dict[str, Any]], primary: str) -> None:
    """The largest slices, smallest figure first; a slice with one class has none."""
    shown = sorted((row for row in table if primary in row), key=lambda row: -row["rows"])
    shown = sorted(shown[:_SLICES_SHOWN], key=lambda row: row[primary])
    names = [f"{row['slice']} {row['value']} ({row['rows']:,})" for row in shown]
    axes.plot([row[primary] for row in shown], range(len(shown)), "o", color=_LINE)
    axes.set_yticks(range(len(shown)), names)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    axes.set(xlabel=primary, title="By slice (rows)")
