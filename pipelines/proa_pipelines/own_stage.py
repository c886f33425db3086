"""The folder of a release made of somebody's own model, as the manifest will list it:

model/…             the model as it was found (a process: its files as they lie)
requirements.lock   hashed requirements, when it does not run on the platform's own libraries
background.json     rows that explanations start from
selftest.json       inputs with the model's own answers, which a process must reproduce
profile/            the reference that the monitor compares windows with
project.json        the settings in force
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proa.profile import reference
from proa.project.model import OwnProject
from proa.release import selftest
from proa.release.canonical import canonical_json, parse_json
from proa.release.manifest import ClassicSpec, Column, Runtime
from proa_pipelines.own_sample import Sample
from proa_pipelines.own_source import Source
from proa_pipelines.staging import evenly, plain

__all__ = ["not_watched", "rows_of", "write"]

_BACKGROUND = "background.json"
_SELFTEST = "selftest.json"


def rows_of(sample: Sample, columns: Sequence[Column]) -> dict[str, list[Any]]:
    """The sample as JSON columns: whole numbers are whole, null is None, times are texts."""
    found = {}
    for column in columns:
        values = plain(sample.frame[column.name])
        if column.type == "long":
            values = [None if v is None else int(v) if v == int(v) else v for v in values]
        elif column.type == "double":
            values = [None if v is None else float(v) for v in values]
        elif column.type == "string":
            values = [None if v is None else str(v) for v in values]
        elif column.type == "boolean":
            values = [None if v is None else bool(v) for v in values]
        found[column.name] = values
    return found


def write(
    folder: Path,
    *,
    sample: Sample,
    spec: ClassicSpec,
    outputs: Mapping[str, list[Any]],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what does not come with the model; returns the keys of the manifest they make.

    Args:
        outputs: the model's own answers for every row of the sample.
    """
    columns = rows_of(sample, spec.columns)
    rest = np.flatnonzero(~sample.held)
    taken = rest[evenly(len(rest), 100)]
    body = {"columns": {name: [values[i] for i in taken] for name, values in columns.items()}}
    (folder / _BACKGROUND).write_bytes(canonical_json(body))
    cases = [
        {
            "input": {"rows": [{name: values[i] for name, values in columns.items()}]},
            "output": {name: values[i] for name, values in outputs.items()},
        }
        for i in rest[evenly(len(rest), selftest.MAX_CASES)]
    ]
    (folder / _SELFTEST).write_bytes(canonical_json({"cases": cases}))
    selftest.parse_cases(parse_json((folder / _SELFTEST).read_bytes(), what=_SELFTEST))
    profile = reference.write(
        folder,
        {name: [values[i] for i in rest] for name, values in columns.items()},
        {column.name: column.type for column in spec.columns},
        outputs={name: [values[i] for i in rest] for name, values in outputs.items()},
        blocks=None if sample.time is None else [sample.time[i][:10] for i in rest],
        slices=[name for name in settings.get("slices", ()) if name in columns],
    )
    (folder / "project.json").write_bytes(canonical_json(settings))
    return {
        "selftest": _SELFTEST,
        "profile": profile,
        "data": {
            "digest": sample.digest,
            "rows": len(sample.frame),
            "start": None if sample.time is None else min(sample.time),
            "end": None if sample.time is None else max(sample.time),
            "description": f"the sample {sample.file}; {int(sample.held.sum())} rows of it are "
            "held out for the exam",
        },
    }


def not_watched(
    project: OwnProject, sample: Sample, source: Source | None, runtime: Runtime, *, exam: bool
) -> list[str]:
    """What nobody looks at with this release, one sentence each, with what would change it."""
    found = [
        "features: rows come with the request; their age is not watched (feature views would be)",
        "leakage: the rows it was trained on are not known; the exam may hold some of them",
    ]
    if not exam:
        found.append(f"exam: {sample.why_no_exam}; it cannot be promoted before it has one")
    if sample.label is None:
        found.append("quality: without labels nothing says how good it is (label: COLUMN)")
    if sample.time is None:
        found.append("days: the sample has no time, so the reference does not know how much one "
                     "day differs from the next (time: COLUMN)")  # fmt: skip
    if not project.slices:
        found.append("slices: none is named, so harm to one group can hide (slices: [COLUMN])")
    if project.explain == "none":
        found.append("reasons: the model explains nothing (explain: shap)")
    if project.serve is not None:
        found.append("events: the process writes none itself, so its inputs and answers reach no "
                     "monitor")  # fmt: skip
        found.append("selftest: proa does not ask it when the process starts")
        if "{python}" not in project.serve.command[0]:
            found.append(f"program: {project.serve.command[0]} is this machine's, not pinned")
    if source is not None and source.python and _minor(source.python) != runtime.python:
        found.append(
            f"Python: the model was made on {_minor(source.python)} and runs on {runtime.python}"
        )
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def load_answer(path: Path) -> dict[str, Any]:
    """The JSON that the rehearsal wrote; an empty object when it wrote none."""
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}
