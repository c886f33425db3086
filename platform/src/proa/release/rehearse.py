"""Answer rows with a staged model in the release's own runtime: `python -m proa.release.rehearse`.

Reads a request from a file, writes the answer to another; what proa raises is written as its wire
form. It runs before there is a release: the manifest's `files` are not asked for.

    {"manifest": {…without files…}, "columns": {NAME: [...]}, "explicit": bool}
 →  {"outputs": {...}, "columns": [NAME, …], "classes": [...], "intervals": bool, "type": "…"}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput, ProaError
from proa.release import model_files, scoring
from proa.release.manifest import ClassicSpec, Column, Manifest

__all__ = ["main", "rehearse"]


def rehearse(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Load the model below `folder` and answer the rows.

    Columns beyond those that the model names are left out, unless `explicit`.

    Raises:
        ProaError: the model cannot be loaded or does not fit.
    """
    manifest = Manifest.model_validate(request["manifest"])
    assert manifest.classic is not None
    spec = manifest.classic
    if spec.model_format == "skops":
        _list_types(folder / spec.model)
    model = model_files.load(manifest, folder)
    spec = _completed(model, spec, explicit=bool(request["explicit"]))
    scoring.check_model(model, spec)
    columns = {column.name: request["columns"][column.name] for column in spec.columns}
    spec = spec.model_copy(update={"intervals": _gives_intervals(model, spec, columns)})
    return {
        "outputs": scoring.score(model, spec, columns),
        "columns": [column.name for column in spec.columns],
        "classes": spec.classes,
        "intervals": spec.intervals,
        "type": type(model).__name__,
    }


def _list_types(path: Path) -> None:
    """Write `trusted.json` beside a skops file: its types, if proa trusts their libraries."""
    import skops.io

    try:
        types = sorted(skops.io.get_untrusted_types(file=path))
    except Exception as error:  # a broken zip or schema raises a different class each time
        raise InvalidInput(f"{path.name} is not a skops file: {error}") from error
    model_files.check_trusted(types)
    path.with_name(model_files.TRUSTED).write_text(json.dumps(types, indent=1))


def _completed(model: Any, spec: ClassicSpec, *, explicit: bool) -> ClassicSpec:
    """The spec with the columns in the model's order and the classes that it knows."""
    changes: dict[str, Any] = {}
    names = getattr(model, "feature_names_in_", None)
    if names is not None and not explicit:
        changes["columns"] = _named(spec.columns, [str(name) for name in names])
    classes = getattr(model, "classes_", None)
    if spec.task == "multiclass" and classes is not None:
        known = [str(name) for name in classes]
        numbered = known == [str(number) for number in range(len(known))]
        if not spec.classes or (set(spec.classes) == set(known) and not numbered):
            changes["classes"] = known
    return spec.model_copy(update=changes)


def _gives_intervals(model: Any, spec: ClassicSpec, columns: Mapping[str, list[Any]]) -> bool:
    """Whether a regression answers prediction, lower and upper end for each row."""
    if spec.task not in ("regression", "forecasting"):
        return False
    head = {name: values[:4] for name, values in columns.items()}
    return getattr(model.predict(scoring.model_input(model, spec, head)), "shape", ())[1:] == (3,)


def _named(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    known = {column.name: column for column in columns}
    missing = [name for name in names if name not in known]
    if missing:
        raise InvalidInput(
            f"the model was fitted on {len(names)} columns; the sample lacks {missing[:10]} and "
            f"has {sorted(known)[:20]}",
            code="missing_column",
            param=missing[0],
        )
    return [known[name] for name in names]


def main(argv: Sequence[str]) -> int:
    """`rehearse FOLDER REQUEST ANSWER`; 0, or the exit code of the error that was written."""
    folder, request, answer = map(Path, argv)
    try:
        found = rehearse(folder, json.loads(request.read_bytes()))
    except ProaError as error:
        answer.write_text(json.dumps(error.to_wire()))
        return error.exit_code
    except Exception as error:  # the model's own code may raise anything
        fault = InvalidInput(
            f"the model does not answer: {type(error).__name__}: {str(error)[:500]}",
            code="model_broken",
        )
        answer.write_text(json.dumps(fault.to_wire()))
        return fault.exit_code
    answer.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
