"""What Kubeflow's page shows of a run: numbers, a ROC curve, a confusion matrix, pages of text.

A step writes JSON or Markdown to the artifact's file, wherever it runs; `lift` then puts the
numbers where Kubeflow looks for them, in the artifact's metadata. So a step stays a function from
files to files, and the same file is there for whoever has no Kubeflow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.errors import Internal
from proa.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from proa.release.manifest import Manifest
    from proa_pipelines.fit import Scores

_POINTS = 100
"""Of a ROC curve: all of it would be one point per row."""


def lift(*artifacts: Any) -> None:
    """Put the JSON in each artifact's file into its metadata, in the shape of its type.

    Args:
        artifacts: `dsl.Metrics` or `dsl.ClassificationMetrics`; one without a file stays empty.
    """
    for artifact in artifacts:
        path = Path(artifact.path)
        value = json.loads(path.read_text()) if path.is_file() else {}
        if artifact.schema_title == "system.Metrics":
            for name, number in value.items():
                artifact.log_metric(name, number)
        elif artifact.schema_title == "system.ClassificationMetrics":
            if "roc" in value:
                artifact.log_roc_curve(**value["roc"])
            if "confusion" in value:
                artifact.log_confusion_matrix(**value["confusion"])
        else:
            raise Internal(f"an artifact of type {artifact.schema_title} holds no numbers")


def numbers(path: str, values: Mapping[str, float | None]) -> None:
    """Write a `Metrics` artifact's file; what is no finite number is left out, JSON has none."""
    kept = {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }
    Path(path).write_text(json.dumps(kept))


def curves(
    path: str, task: str, scores: Scores, threshold: float | None, classes: Sequence[str]
) -> None:
    """Write a `ClassificationMetrics` artifact's file: ROC and confusion matrix, out of fold.

    A multiclass task has the matrix of its likeliest classes and no curve; a regression neither.
    """
    import numpy as np

    value: dict[str, Any] = {}
    if task == "binary":
        value["roc"] = _roc(scores)
        said = (scores.value >= (0.5 if threshold is None else threshold)).astype(int)
        value["confusion"] = _confusion(["false", "true"], scores.label.astype(int), said)
    elif task == "multiclass":
        said = np.argmax(scores.value, axis=1)
        value["confusion"] = _confusion(list(classes), scores.label.astype(int), said)
    Path(path).write_text(json.dumps(value))


def _roc(scores: Scores) -> dict[str, list[float]]:
    """False and true positive rate at falling thresholds; the first point is (0, 0)."""
    import numpy as np

    order = np.argsort(-scores.value, kind="stable")
    value, truth = scores.value[order], scores.label[order]
    # A threshold is a value that occurs: rows of equal value fall on the same side of it.
    last = np.r_[np.flatnonzero(np.diff(value)), len(value) - 1]
    hits = np.cumsum(truth)[last] / max(truth.sum(), 1)
    alarms = np.cumsum(1 - truth)[last] / max((1 - truth).sum(), 1)
    if len(last) > _POINTS:
        taken = np.unique(np.linspace(0, len(last) - 1, _POINTS).astype(int))
        last, hits, alarms = last[taken], hits[taken], alarms[taken]
    return {
        "fpr": [0.0, *alarms.tolist()],
        "tpr": [0.0, *hits.tolist()],
        "threshold": [1.0, *value[last].tolist()],
    }


def _confusion(categories: list[str], truth: Any, said: Any) -> dict[str, Any]:
    """Rows: what is true; columns: what was said."""
    import numpy as np

    matrix = np.zeros((len(categories), len(categories)), dtype=int)
    np.add.at(matrix, (truth, said), 1)
    return {"categories": categories, "matrix": matrix.tolist()}


def data_report(
    project: Project, tables: Mapping[str, pd.DataFrame], examples: str, held: Sequence[str]
) -> str:
    """Markdown about what was ingested: tables, labels by month, missing values, checks held."""
    spec = project.classic.data
    rows = tables[examples]
    parts = [
        f"# Data of {project.name}",
        f"Window {spec.train.start} to {spec.train.end}, by `{spec.time}`.",
        _table(
            ("table", "rows", "columns"),
            [(name, f"{len(table):,}", len(table.columns)) for name, table in tables.items()],
        ),
    ]
    label, month = rows[spec.label], rows[spec.time].dt.strftime("%Y-%m")
    counted = [(name, f"{len(part):,}", _share(part)) for name, part in label.groupby(month)]
    parts += [f"## `{spec.label}` by month", _table(("month", "rows", "mean or classes"), counted)]
    missing = [
        (f"{name}.{column}", f"{share:.1%}")
        for name, table in tables.items()
        for column, share in table.isna().mean().items()
        if share > 0
    ]
    parts += ["## Missing values", _table(("column", "share"), missing) if missing else "None."]
    checks = "\n".join(f"* {_plain(fact)}" for fact in held)
    parts += ["## Checks that hold", checks or "The project names no `data.validate`."]
    return "\n\n".join(parts) + "\n"


def _share(part: pd.Series[Any]) -> str:
    from pandas.api import types

    if types.is_numeric_dtype(part) or types.is_bool_dtype(part):
        return f"{part.astype(float).mean():.4g}"
    return f"{part.nunique()} classes"


def corpus_report(project: Project, texts: Sequence[tuple[str, int]]) -> str:
    """Markdown about the documents: how many, how long, the longest. `texts`: title, characters."""
    total = sum(size for _, size in texts)
    longest = sorted(texts, key=lambda item: -item[1])[:10]
    about = f"{len(texts):,} documents, {total:,} characters."
    rows = [(_plain(title), f"{size:,}") for title, size in longest]
    longest_table = _table(("longest documents", "characters"), rows) if rows else ""
    return (
        "\n\n".join(filter(None, [f"# Documents of {project.name}", about, longest_table])) + "\n"
    )


def verdict_page(name: str, verdict: Mapping[str, Any]) -> str:
    """Markdown: the verdict, why, and every check; of many slices those that did not pass.

    Args:
        verdict: as `Verdict.to_json`.
    """
    checks = verdict["checks"]
    quiet = [c for c in checks if c["kind"] == "slice" and c["outcome"] == "pass"]
    shown = checks if len(quiet) <= 8 else [c for c in checks if c not in quiet]
    rows = [
        (c["outcome"], c["kind"], _plain(c["name"]), _cell(c["value"]), _cell(c["champion"]),
         _plain(c["note"]))
        for c in shown
    ]  # fmt: skip
    parts = [
        f"# Exam of {name}: {verdict['value']}",
        _plain(verdict["reason"]),
        _table(("outcome", "kind", "check", "value", "champion", "note"), rows),
    ]
    if len(shown) < len(checks):
        parts.append(f"And {len(quiet)} slices that passed.")
    digests = ("candidate", "champion", "exam", "runtime", "evidence")
    parts.append(_table(("", "digest"), [(key, f"`{verdict[key]}`") for key in digests]))
    return "\n\n".join(parts) + "\n"


def verdict_numbers(verdict: Mapping[str, Any]) -> dict[str, float | None]:
    """Every check's value that is a number, by the check's name; 1 for a pass."""
    found: dict[str, float | None] = {"passed": float(verdict["value"] == "pass")}
    for check in verdict["checks"]:
        for side in ("value", "champion"):
            if isinstance(check[side], int | float) and not isinstance(check[side], bool):
                suffix = "" if side == "value" else " (champion)"
                found[f"{check['kind']} {check['name']}{suffix}"] = float(check[side])
    return found


def page_of_release(ref: str, manifest: Manifest, why: Mapping[str, str]) -> str:
    """Markdown: the release's page, and why it was made when somebody asked."""
    from proa.release.page import release_page

    said = [(name, _plain(text)) for name, text in why.items() if text]
    asked = _table(("asked for", ""), said) if said else ""
    parts = [f"# {ref}", asked, release_page(manifest, links={})]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else _plain(value)


def _plain(value: object) -> str:
    """Text that ends no table cell and starts no HTML: it may be a model's or a user's."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
