"""Snapshots for Evidently's UI from figures that wait: `python -m …snapshot_job FOLDER KEPT`.

The file of a snapshot is written here, not by Evidently's `Workspace`, which reads all of them
first (5.8 s per 100 full ones) and gives each a new name; ours is made of release and window.
A project of the UI is a model; its file is written once, so that people may change the dashboard.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

__all__ = ["main"]

BYTES: Final = 10_000
_ONCE: Final = 500
_METRIC: Final = "evidently:metric_v2:Figure"
"""`figure_metric.Figure`, by the name that Evidently gives it."""
_PANELS: Final = {
    "drift": "Drift, in units of what is ordinary",
    "quality": "Quality: how far from its floor or its past",
    "data": "Data",
    "language": "Answers of a language model",
    "fairness": "Fairness",
    "operations": "Service",
}


def main() -> int:
    """Write what waits, the oldest first; forget what is beyond KEPT of each model."""
    os.nice(10)
    os.environ.update(DO_NOT_TRACK="1", ITERATIVE_DO_NOT_TRACK="1", MPLBACKEND="Agg")
    folder, kept = Path(sys.argv[1]), int(sys.argv[2])
    waiting = sorted((folder / "waiting").glob("*.json"), key=lambda path: path.stat().st_mtime)
    projects = set()
    for path in waiting[:_ONCE]:
        stamp = path.stat().st_mtime_ns
        try:
            projects.add(_write(folder / "workspace", orjson.loads(path.read_bytes())))
        except (KeyError, TypeError, ValueError) as error:
            print(f"{path.name}: {error!r}", file=sys.stderr)  # the others get theirs
        if path.stat().st_mtime_ns == stamp:  # else the window was judged again meanwhile
            path.unlink()
    for project in projects:
        _thin(project, kept)
    return 0


def _write(workspace: Path, given: Mapping[str, Any]) -> Path:
    project, name = uuid.UUID(given["project"]), uuid.UUID(given["id"])
    folder = workspace / str(project)
    if not (folder / "metadata.json").is_file():
        for file, data in _project(project, given["about"]["model"]).items():
            _replace(folder / file, data)
    end = datetime.fromisoformat(given["end"])
    figures = dict(given["figures"])
    while len(text := _snapshot(given["about"], end, figures)) > BYTES and len(figures) > 1:
        figures.popitem()  # the least important one
    path = folder / "snapshots" / f"{name}.json"
    _replace(path, text)
    os.utime(path, (end.timestamp(), end.timestamp()))  # its age, to forget the oldest by
    return folder


def _snapshot(about: Mapping[str, str], end: datetime, figures: Mapping[str, float]) -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.legacy.renderers.html_widgets import table_data
        from evidently.legacy.utils import NumpyEncoder

        from proa_monitor.figure_metric import Figure

        names = list(figures)
        row = Dataset.from_pandas(
            pd.DataFrame([dict(figures)]),
            data_definition=DataDefinition(numerical_columns=names),
        )
        parts = [name.partition("/") for name in names]
        metrics = [Figure(group=group, name=inner) for group, _, inner in parts]
        tags = [about["track"]] if about["track"] else []
        title = f"{about['release']}, {about['window']}"
        report = Report(metrics, metadata=dict(about), tags=tags)
        made = report.run(row, None, timestamp=end.replace(tzinfo=None), name=title)
        model = made.to_snapshot_model()
    for result in model.metric_results.values():
        result.widget = []  # a counter each, as large as all else: one table says it too
    rows = [[name, f"{value:.4g}"] for name, value in figures.items()]
    model.widgets = [table_data(title=title, column_names=["figure", "value"], data=rows)]
    return json.dumps(model.dict(), cls=NumpyEncoder, separators=(",", ":")).encode()


def _project(project: uuid.UUID, model: str) -> dict[str, bytes]:
    """Files of a project with one panel for each group of findings."""
    from evidently.legacy.utils import NumpyEncoder
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric, ProjectModel
    from evidently.sdk.panels import line_plot_panel

    panels = []
    for group, title in _PANELS.items():
        labels = {"group": group}
        line = PanelMetric(metric=_METRIC, metric_labels=labels, legend="{{name}}")
        panels.append(line_plot_panel(title=title, values=[line]))
    tab = DashboardTabModel(title="Judged", panels=[panel.id for panel in panels])
    made = {
        "dashboard.json": DashboardModel(tabs=[tab], panels=panels),
        "metadata.json": ProjectModel(id=project, name=model),
    }
    return {
        name: json.dumps(value.dict(), cls=NumpyEncoder).encode() for name, value in made.items()
    }


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(data)
    fresh.replace(path)


def _thin(project: Path, kept: int) -> None:
    found = sorted((project / "snapshots").glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in found[: max(0, len(found) - kept)]:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
