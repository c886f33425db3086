"""The exam of a model made elsewhere: a held-out part of its sample, with rules that fit the task.

It is written once, beside the project's record in the home, and kept: the next release sits the
same one. The floors say "better than knowing nothing", computed from the rows that are *not* in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from proa.exam.exam import scalar
from proa.project.model import OwnProject
from proa_pipelines.own_sample import Sample

__all__ = ["EXAM", "ROWS", "write"]

EXAM: Final = "exam.yaml"
ROWS: Final = "exam.jsonl"
_HEAD: Final = """\
# The exam of {name}: {rows} rows that were held out of {file}, and what a release must show.
# Made by `proa create`; kept for every release to come. Raise the floors to what you need, and
# copy this file and exam.jsonl to your repository (then `exam: exam.yaml` in proa.yaml).
version: 1
unit: {unit}
data: {{path: exam.jsonl}}
"""


def write(folder: Path, sample: Sample, settings: OwnProject, classes: list[str]) -> None:
    """Write `exam.yaml` and `exam.jsonl` of the held-out rows.

    Args:
        classes: of a multiclass model, in its order.
    """
    assert sample.label is not None
    folder.mkdir(parents=True, exist_ok=True)
    names = [column.name for column in sample.columns]
    lines = []
    for row in np.flatnonzero(_judged(sample, settings)):
        label = sample.label[row]
        value: dict[str, Any] = {
            "id": str(sample.id[row]),
            "unit": str(sample.unit[row]),
            "label": label if settings.task == "multiclass" else float(label),
            "inputs": {name: scalar(sample.frame[name].iloc[row]) for name in names},
            "slices": {name: str(sample.frame[name].iloc[row]) for name in settings.slices},
        }
        if sample.time is not None:
            value["time"] = sample.time[row]
        if settings.task == "ranking":
            value["group"] = str(sample.unit[row])
        lines.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    (folder / ROWS).write_bytes(b"\n".join(lines) + b"\n")
    head = _HEAD.format(name=settings.name, rows=len(lines), file=sample.file, unit=settings.unit)
    (folder / EXAM).write_text(head + _rules(sample, settings, classes))


def _judged(sample: Sample, settings: OwnProject) -> Any:
    """The held-out rows; of a ranking, those of queries in which something is relevant."""
    assert sample.label is not None
    if settings.task != "ranking":
        return sample.held
    relevant = set(sample.unit[sample.label > 0].tolist())
    return sample.held & np.array([name in relevant for name in sample.unit.tolist()])


def _rules(sample: Sample, settings: OwnProject, classes: list[str]) -> str:
    assert sample.label is not None
    known = sample.label[~sample.held]
    text = str(_BY_TASK[settings.task](known, classes))
    if settings.slices:
        text += f"slices: [{', '.join(settings.slices)}]\n"
    return text


def _binary(_known: Any, _classes: list[str]) -> str:
    return (
        "primary: {metric: roc_auc, margin: 0.02, higher_is_better: true}\n"
        "floors:\n  - {metric: roc_auc, min: 0.55} # a coin gives 0.5\n"
        "guardrails:\n  - {metric: log_loss, margin: 0.02, higher_is_better: false}\n"
    )


def _anomaly(_known: Any, _classes: list[str]) -> str:
    return (
        "primary: {metric: roc_auc, margin: 0.02, higher_is_better: true}\n"
        "floors:\n  - {metric: roc_auc, min: 0.55} # a coin gives 0.5\n"
    )


def _multiclass(known: Any, classes: list[str]) -> str:
    _, counts = np.unique(known, return_counts=True)
    most = counts.max() / counts.sum()
    listed = orjson.dumps(classes).decode()
    return (
        f"classes: {listed}\n"
        "primary: {metric: accuracy, margin: 0.02, higher_is_better: true}\n"
        f"floors:\n  - {{metric: accuracy, min: {most:.4f}}} # always the most frequent class\n"
        "guardrails:\n  - {metric: log_loss, margin: 0.05, higher_is_better: false}\n"
    )


def _number(known: Any, _classes: list[str]) -> str:
    error = float(np.abs(known - np.median(known)).mean())
    return (
        f"primary: {{metric: mae, margin: {0.02 * error:.6g}, higher_is_better: false}}\n"
        f"floors:\n  - {{metric: mae, max: {error:.6g}}} # always the median\n"
    )


def _ranking(_known: Any, _classes: list[str]) -> str:
    return (
        "primary: {metric: ndcg, margin: 0.02, higher_is_better: true}\n"
        "floors:\n  - {metric: ndcg, min: 0.5}\n"
    )


_BY_TASK: Final[Mapping[str, Any]] = {
    "binary": _binary,
    "anomaly": _anomaly,
    "multiclass": _multiclass,
    "regression": _number,
    "forecasting": _number,
    "ranking": _ranking,
}
