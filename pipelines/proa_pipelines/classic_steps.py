"""The steps of the classic pipeline, in order. Each is a plain function from files to files.

Paths come as text because KFP hands them over so; `overrides` is a JSON object of dotted keys of
`proa.yaml`. Libraries are imported inside: a step pays only for what it uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.errors import InvalidInput
from proa.project import Project
from proa_pipelines.release_steps import gate, open_project, promote, register
from proa_pipelines.steps import facts, note

if TYPE_CHECKING:
    import pandas as pd

    from proa.release.manifest import Column
    from proa_pipelines.fit import Scores

EXAMPLES = "examples"
"""The table of labelled rows among those that `data.ingest` returns; all others are views."""


def ingest(project: str, overrides: str, tables: str) -> None:
    """Run the project's `data.ingest` for the training window; one parquet file per table."""
    found = open_project(project, overrides)
    settings = found.classic.data
    start, end = (datetime.fromisoformat(t) for t in (settings.train.start, settings.train.end))
    got: Mapping[str, pd.DataFrame] = found.resolve("data.ingest")(start, end)
    if EXAMPLES not in got:
        raise InvalidInput(f"data.ingest returned {sorted(got)}: expected a table {EXAMPLES!r}")
    examples = _check_examples(got[EXAMPLES], found)
    folder = Path(tables)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {**got, EXAMPLES: examples}.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
        note(f"{name}: {len(table):,} rows")
    facts(rows=len(examples), tables={name: len(table) for name, table in got.items()})


def _check_examples(examples: pd.DataFrame, project: Project) -> pd.DataFrame:
    """Refuse rows outside the window and missing columns: the exam's rows must stay unseen."""
    data = project.classic.data
    needed = [name for name in (data.entity, data.time, data.unit, data.label) if name]
    missing = [name for name in needed if name not in examples.columns]
    if missing:
        raise InvalidInput(f"data.ingest: {EXAMPLES} lacks the columns {missing}")
    times = examples[data.time]
    if getattr(times.dtype, "tz", None) is None:
        raise InvalidInput(f"data.ingest: {data.time} has no time zone (dtype {times.dtype})")
    start, end = (datetime.fromisoformat(t) for t in (data.train.start, data.train.end))
    outside = int(((times < start) | (times >= end)).sum())
    if outside:
        raise InvalidInput(
            f"data.ingest: {outside} of {len(examples)} examples are outside [{start}, {end})",
            param="data.train",
        )
    if examples.empty:
        raise InvalidInput(f"data.ingest: no example in [{start}, {end})", param="data.train")
    return examples


def validate(project: str, overrides: str, tables: str, report: str) -> None:
    """Run the project's `data.validate`; what it raises ends the run. Writes the data report."""
    import pandas as pd

    from proa_pipelines import cards

    found = open_project(project, overrides)
    check: Callable[[Mapping[str, Any]], list[str]] | None = found.resolve("data.validate")
    read = {file.stem: pd.read_parquet(file) for file in sorted(Path(tables).iterdir())}
    held: list[str] = []
    if check is None:
        note("proa.yaml names no data.validate: nothing was checked")
    else:
        held = check(read)
        for fact in held:
            note(f"holds: {fact}")
        facts(checks=held)
    Path(report).write_text(cards.data_report(found, read, EXAMPLES, held))


def features(project: str, overrides: str, home: str, tables: str, dataset: str) -> None:
    """Point-in-time features of every example; the online store moves up to the window's end."""
    import pandas as pd

    from proa_pipelines import dataset as datasets

    found = open_project(project, overrides)
    data = found.classic.data
    examples = pd.read_parquet(Path(tables) / f"{EXAMPLES}.parquet")
    joined, columns = _join(found, Path(home) / "feast", Path(tables), examples)
    names = {"label": data.label, "time": data.time, "unit": data.unit or "_unit"}
    if data.unit is None:
        joined["_unit"] = joined[data.time].dt.strftime("%Y-%m-%d")
    if data.entity is not None:
        names["entity"] = data.entity
    about = f"{found.name}: {data.label} by {data.time}"
    snapshot = datasets.save(Path(dataset), joined, columns, names, about)
    note(f"{len(examples):,} rows in, {snapshot.rows:,} rows out, {len(columns)} features")
    facts(rows_in=len(examples), rows_out=snapshot.rows, columns=len(columns))


def _join(
    project: Project, folder: Path, tables: Path, examples: pd.DataFrame
) -> tuple[pd.DataFrame, list[Column]]:
    spec = project.classic
    if spec.features is None:
        roles = {spec.data.entity, spec.data.time, spec.data.unit, spec.data.label}
        return examples, columns_of(examples.drop(columns=[n for n in roles if n]))
    import pandas as pd

    from proa.features import store

    views = spec.features.views
    defined = store.apply(folder, project.resolve("features.definitions"))
    for view in defined:
        file = tables / f"{view}.parquet"
        if not file.is_file():
            raise InvalidInput(f"data.ingest returned no table for feature view {view}")
        store.write(folder, view, pd.read_parquet(file))
    joined = store.join(folder, examples, views, time=spec.data.time)
    until = datetime.fromisoformat(spec.data.train.end)
    windows = store.materialize(folder, until=until, views=[view.view for view in views])
    moved = [name for name, window in windows.items() if window]
    note(f"online store at {until:%Y-%m-%d %H:%M} UTC: {', '.join(moved) or 'nothing to load'}")
    return joined, store.columns(folder, views)


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """Types of raw columns, when a project has no feature views."""
    from pandas.api import types

    from proa.release.manifest import Column

    found = []
    for name, dtype in frame.dtypes.items():
        if types.is_bool_dtype(dtype):
            kind = "boolean"
        elif types.is_integer_dtype(dtype):
            kind = "long"
        elif types.is_float_dtype(dtype):
            kind = "double"
        elif types.is_datetime64_any_dtype(dtype):
            kind = "datetime"
        else:
            kind = "string"
        found.append(Column.model_validate({"name": str(name), "type": kind}))
    return found


def search(project: str, overrides: str, dataset: str, trials: str, figures: str) -> str:
    """Find parameters with the project's `train.search`; returns them as JSON."""
    from proa_pipelines import cards, fit
    from proa_pipelines import dataset as datasets

    found = open_project(project, overrides)
    train = found.classic.train
    space = found.resolve("train.search")
    table: list[dict[str, Any]] = []
    reached: dict[str, float | None] = {}
    parameters = dict(train.parameters)
    if space is None:
        note("proa.yaml names no train.search: train.parameters are used as they are")
    else:
        best = fit.search(
            found.classic.task,
            datasets.load(Path(dataset)).data,
            train=found.resolve("train.function"),
            space=space,
            fixed=train.parameters,
            trials=train.trials,
            metric=train.metric,
            direction=train.direction,
            progress=note,
        )
        parameters, table = best.parameters, best.trials
        reached = {"trials": len(table), f"best {train.metric}": best.value}
        facts(trials=len(table), metric=train.metric, best=best.value, parameters=parameters)
    cards.numbers(figures, reached)
    Path(trials).write_text(json.dumps(table, indent=1))
    return json.dumps(parameters)


def train(project: str, overrides: str, dataset: str, parameters: str, model: str) -> None:
    """Fit on every row with the project's `train.function`."""
    from proa.release import model_files
    from proa_pipelines import dataset as datasets

    found = open_project(project, overrides)
    data = datasets.load(Path(dataset)).data
    fitted = found.resolve("train.function")(data, json.loads(parameters))
    model_files.save(fitted, Path(model))
    note(f"{type(fitted).__name__} on {len(data):,} rows of {data.unit.nunique()} {_units(found)}")


def _units(project: Project) -> str:
    return f"{project.classic.data.unit or 'day'}s"


def calibrate(
    project: str,
    overrides: str,
    dataset: str,
    parameters: str,
    model: str,
    calibrated: str,
    figures: str,
    curves: str,
) -> None:
    """Out-of-fold scores, then calibration and the threshold from them; metrics of both."""
    from proa.release import model_files
    from proa_pipelines import cards, fit, results
    from proa_pipelines import dataset as datasets

    found = open_project(project, overrides)
    spec = found.classic
    data = datasets.load(Path(dataset)).data
    fitted = model_files.load_file(
        Path(model) / model_files.MODEL,
        "skops",
        task=spec.task,
        trusted=json.loads((Path(model) / model_files.TRUSTED).read_text()),
    )
    parts = fit.folds(data, found.resolve("train.function"), json.loads(parameters))
    scores = fit.out_of_fold(spec.task, data, parts)
    before = fit.metrics(spec.task, scores, 0.5)
    if spec.calibrate.method != "none" and spec.task != "regression":
        fitted, value = fit.calibrate(data, fitted, parts, spec.calibrate.method)
        scores = fit.Scores(value, scores.label, scores.unit)
    threshold = _threshold(found, scores)
    metrics = fit.metrics(spec.task, scores, threshold)
    model_files.save(fitted, Path(calibrated))
    results.save(Path(calibrated), scores, threshold=threshold, metrics=metrics, before=before)
    shown = {f"{name} before calibration": value for name, value in before.items()}
    cards.numbers(figures, {**metrics, **shown, "threshold": threshold})
    cards.curves(curves, spec.task, scores, threshold, fit.classes_of(spec.task, data))
    told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    cut = "" if threshold is None else f"; threshold {threshold:.3f} by {_rule(found)}"
    note(f"out of fold: {told}{cut}")
    facts(threshold=threshold, metrics=metrics, before_calibration=before)


def _rule(project: Project) -> str:
    rule = project.classic.threshold
    return "default" if rule is None else rule.rule


def _threshold(project: Project, scores: Scores) -> float | None:
    from proa_pipelines import fit

    spec = project.classic
    if spec.task != "binary":
        return None
    if spec.threshold is None:
        return 0.5
    costs = spec.cost
    return fit.choose_threshold(
        spec.threshold.rule,
        scores,
        value=spec.threshold.value,
        false_positive=1.0 if costs is None else costs.false_positive,
        false_negative=1.0 if costs is None else costs.false_negative,
    )


def slices(project: str, overrides: str, dataset: str, calibrated: str, table: str) -> None:
    """Metrics by the values of the project's slice columns."""
    from proa_pipelines import dataset as datasets
    from proa_pipelines import fit, results

    found = open_project(project, overrides)
    rows = datasets.load(Path(dataset)).frame
    unknown = [name for name in found.classic.slices if name not in rows.columns]
    if unknown:
        raise InvalidInput(
            f"proa.yaml: slices = {unknown}: expected columns of the training set, "
            f"{sorted(rows.columns)}",
            param="slices",
        )
    scores, threshold = results.load(Path(calibrated))
    values = {name: rows[name].to_numpy() for name in found.classic.slices}
    found_slices = fit.by_slice(found.classic.task, scores, values, threshold)
    Path(table).write_text(json.dumps(found_slices, indent=1))
    facts(slices=len(found_slices))


def stage(
    project: str,
    overrides: str,
    run_id: str,
    job: str,
    parameters: str,
    dataset: str,
    calibrated: str,
    slices: str,
    trials: str,
    release: str,
    evidence: str,
) -> None:
    """Lay out the release's folder and the run's evidence; no platform is needed.

    Args:
        run_id: this machine's name of the run; "" on a cluster, where `job` is Kubeflow's.
    """
    from proa_pipelines import evidence as evidences
    from proa_pipelines import staging

    found = open_project(project, overrides)
    done = staging.lay_out(
        found,
        Path(release),
        dataset=Path(dataset),
        calibrated=Path(calibrated),
        slices=Path(slices),
        parameters=json.loads(parameters),
        run=run_id or job,
    )
    evidences.write(
        Path(evidence),
        task=found.classic.task,
        calibrated=Path(calibrated),
        dataset=Path(dataset),
        slices=Path(slices),
        trials=Path(trials),
        primary=found.classic.train.metric,
    )
    note(f"{len(done['files'])} files, {done['size']:,} bytes")
    facts(files=done["files"], size=done["size"])


STEPS: dict[str, Callable[..., Any]] = {
    "ingest": ingest,
    "validate": validate,
    "features": features,
    "search": search,
    "train": train,
    "calibrate": calibrate,
    "slices": slices,
    "stage": stage,
    "register": register,
    "gate": gate,
    "promote": promote,
}
