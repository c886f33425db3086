"""The folder of a classic release, as the manifest will list it:

    model/model.skops trusted.json   the estimator, and the types it is made of
    background.json                  rows that explanations start from
    selftest.json                    inputs with the answers a process must reproduce
    profile/                         the reference that the monitor compares windows with
    slices.json                      metrics by slice, out of fold
    training.json train_ids.bin      windows and hashed ids of what it was made from: an exam may
                                     hold nothing of it (`proa.exam.leakage`)
    code/                            the modules that made it, and the settings in force

and `manifest.json` without `files` (`create` lists them). Nothing of the exam is in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proa.errors import InvalidInput
from proa.exam import leakage
from proa.project import Project
from proa.release import model_files, runtime, scoring, selftest
from proa.release.bundle import MANIFEST, list_files
from proa.release.canonical import canonical_json
from proa.release.manifest import ClassicSpec, Runtime, check_manifest
from proa_pipelines import dataset as datasets
from proa_pipelines import fit, release_runtime, results
from proa_pipelines.origin import source
from proa_pipelines.steps import note

if TYPE_CHECKING:
    import pandas as pd

_MODEL = f"model/{model_files.MODEL}"
_BACKGROUND = "background.json"
_BACKGROUND_ROWS = 100
_SELFTEST = "selftest.json"
_FUNCTIONS = (
    "data.ingest",
    "data.validate",
    "features.definitions",
    "train.function",
    "train.search",
)


def lay_out(
    project: Project,
    folder: Path,
    *,
    dataset: Path,
    calibrated: Path,
    slices: Path,
    parameters: dict[str, Any],
    run: str,
) -> dict[str, Any]:
    """Write every file of the release below `folder`, check the whole as `create` will.

    Args:
        run: the pipeline run's id.

    Returns:
        `files` (paths) and `size` (bytes in all).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = datasets.load(dataset)
    scores, threshold = results.load(calibrated)
    spec = _spec(project, rows, threshold)
    (folder / "model").mkdir()
    for name in (model_files.MODEL, model_files.TRUSTED):
        shutil.copyfile(calibrated / name, folder / "model" / name)
    trusted = json.loads((folder / "model" / model_files.TRUSTED).read_text())
    model = model_files.load_file(folder / _MODEL, "skops", task=spec.task, trusted=trusted)
    scoring.check_model(model, spec)
    columns = {column.name: rows.frame[column.name] for column in spec.columns}
    _write_background(folder / _BACKGROUND, columns, len(rows.frame))
    _write_selftest(folder / _SELFTEST, model, spec, columns)
    profile = _write_profile(folder, spec, rows, scores, project.classic.slices)
    shutil.copyfile(slices, folder / "slices.json")
    _write_training(folder, project, rows)
    _copy_code(project, folder / "code")
    manifest = {
        "name": project.name,
        "kind": "classic",
        "description": project.classic.description,
        "runtime": _runtime(folder).model_dump(mode="json"),
        "source": source(project, run).model_dump(mode="json"),
        "data": rows.snapshot.model_dump(mode="json"),
        "parameters": _parameters(project, parameters),
        "metrics": results.figures(calibrated)["metrics"],
        "classic": spec.model_dump(mode="json"),
        "selftest": _SELFTEST,
        "profile": profile,
    }
    files = list_files(folder)
    check_manifest({**manifest, "files": [file.model_dump() for file in files]})
    (folder / MANIFEST).write_bytes(canonical_json(manifest))
    return {"files": [file.path for file in files], "size": sum(file.size for file in files)}


def _runtime(folder: Path) -> Runtime:
    """This process's own, or the one that the project brings: its lock goes into the release."""
    lock = os.environ.get(release_runtime.LOCK)
    if lock is None:
        return runtime.describe()
    shutil.copyfile(lock, folder / runtime.LOCK)
    return runtime.described_by(folder / runtime.LOCK, path=runtime.LOCK)


def _spec(project: Project, rows: datasets.Dataset, threshold: float | None) -> ClassicSpec:
    settings = project.classic
    return ClassicSpec(
        task=settings.task,
        model=_MODEL,
        columns=list(rows.data.columns),
        classes=fit.classes_of(settings.task, rows.data),
        threshold=threshold,
        entity=settings.data.entity,
        feature_views=[] if settings.features is None else settings.features.views,
        missing=settings.serve.missing,
        explainer=settings.serve.explain,
        background=_BACKGROUND,
    )


def _parameters(project: Project, parameters: dict[str, Any]) -> dict[str, Any]:
    """What the model was made with: the train function's parameters and the rules around it."""
    settings = project.settings
    return {
        **parameters,
        "train": settings["train"]["function"],
        "calibrate": settings["calibrate"]["method"],
        "threshold": (settings["threshold"] or {}).get("rule"),
        "window": settings["data"]["train"],
    }


def evenly(rows: int, count: int) -> np.ndarray[Any, Any]:
    """Positions of at most `count` of `rows` rows, first and last included."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(int))


def _write_background(path: Path, columns: dict[str, pd.Series[Any]], rows: int) -> None:
    """Rows evenly over time, as JSON columns."""
    taken = evenly(rows, _BACKGROUND_ROWS)
    body = {"columns": {name: plain(values.iloc[taken]) for name, values in columns.items()}}
    path.write_bytes(canonical_json(body))


def _write_selftest(
    path: Path, model: Any, spec: ClassicSpec, columns: dict[str, pd.Series[Any]]
) -> None:
    """Rows evenly over time, and one with every value missing; answered as they are served."""
    taken = evenly(len(next(iter(columns.values()))), selftest.MAX_CASES - 1)
    values = {name: plain(column.iloc[taken]) for name, column in columns.items()}
    rows = [{name: values[name][row] for name in values} for row in range(len(taken))]
    cases = [_case(model, spec, row) for row in rows]
    if spec.missing == "allow":
        try:
            cases.append(_case(model, spec, dict.fromkeys(columns)))
        except InvalidInput as error:
            note(f"no selftest of missing values: {error.message} (serve.missing: refuse fits)")
    path.write_bytes(canonical_json({"cases": cases}))
    # JSON must not have changed a value: read back, and let the rule of the predictor judge
    stored = selftest.parse_cases(json.loads(path.read_bytes()))
    selftest.run_cases(stored, lambda case: scoring.answer_case(model, spec, case))


def _case(model: Any, spec: ClassicSpec, row: dict[str, Any]) -> dict[str, Any]:
    case = {"rows": [row]}
    return {"input": case, "output": scoring.answer_case(model, spec, case)}


def plain(values: pd.Series[Any]) -> list[Any]:
    """JSON values of a column: None for every kind of null, RFC 3339 for times."""
    listed = zip(values.astype(object), values.isna(), strict=True)
    plain: list[Any] = [None if null else value for value, null in listed]
    return [value.isoformat() if hasattr(value, "isoformat") else value for value in plain]


def _write_profile(
    folder: Path,
    spec: ClassicSpec,
    rows: datasets.Dataset,
    scores: fit.Scores,
    slices: Sequence[str],
) -> str:
    """Profile of inputs and out-of-fold answers, in blocks of days (UTC)."""
    from proa.profile import reference

    columns: dict[str, Any] = {column.name: rows.frame[column.name] for column in spec.columns}
    return reference.write(
        folder,
        columns,
        {column.name: column.type for column in spec.columns},
        outputs=scoring.outputs(spec, scores.value),
        blocks=rows.data.time.dt.strftime("%Y-%m-%d").tolist(),
        slices=[name for name in slices if name in columns],
    )


def _write_training(folder: Path, project: Project, rows: datasets.Dataset) -> None:
    """Ids and windows of the rows that training, search, calibration and threshold all share."""
    entity = rows.names.get("entity")
    if entity is not None:
        ids = rows.frame[entity].astype(str)
        (folder / leakage.IDS).write_bytes(leakage.to_bytes(ids))
    train = project.classic.data.train
    body = {
        "version": 1,
        "rows": len(rows.frame),
        "ids": entity,
        "windows": {
            "train": {"start": train.start, "end": train.end},
            leakage.ROWS_WINDOW: {"start": rows.snapshot.start, "end": rows.snapshot.end},
        },
    }
    (folder / leakage.WINDOWS).write_bytes(canonical_json(body))


def _copy_code(project: Project, folder: Path) -> None:
    folder.mkdir()
    modules = set()
    for key in _FUNCTIONS:
        section, _, name = key.partition(".")
        value = (project.settings[section] or {}).get(name)
        if value:
            modules.add(str(value).partition(":")[0].replace(".", "/") + ".py")
    for module in sorted(modules):
        if (project.folder / module).is_file():
            target = folder / module
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project.folder / module, target)
    (folder / "settings.json").write_bytes(canonical_json(project.settings))
