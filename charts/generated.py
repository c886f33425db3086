"""Writes what the chart `proa` ships as files: dashboards of Grafana, and alerts on models.

    python -m charts.generated

The files are in git; tests/charts/test_generated.py fails when they are not what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from charts.boards import BOARDS, Board, Panel
from proa.findings.alerts import Scope
from proa.findings.rules import rules_of, to_yaml

CHART: Final = Path(__file__).resolve().parent / "proa"
NAMESPACE, RUNBOOKS = "__NAMESPACE__", "__RUNBOOKS__"
"""The chart's templates put the namespace and `monitoring.runbookBase` in their place."""

_SOURCE: Final = {"type": "prometheus", "uid": "$datasource"}
_COLUMNS: Final = 24


def files() -> dict[Path, str]:
    """Every generated file and its text."""
    found = {
        CHART / "dashboards" / f"{board.name}.json": (
            json.dumps(_dashboard(board), indent=1, ensure_ascii=False) + "\n"
        )
        for board in BOARDS
    }
    rules = rules_of(Scope(namespace=NAMESPACE, runbooks=RUNBOOKS))
    note = "By `python -m charts.generated`: change proa.findings.alerts, not this."
    return found | {CHART / "files" / "model-rules.yaml": to_yaml(rules, note)}


def _dashboard(board: Board) -> dict[str, Any]:
    return {
        "title": board.title,
        "uid": f"proa-{board.name}",
        "tags": ["proa"],
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h" if not board.models else "now-30d", "to": "now"},
        "templating": {"list": _variables(board)},
        "annotations": {"list": _marks(board)},
        "links": [
            {"title": "proa", "type": "dashboards", "tags": ["proa"], "keepTime": True},
        ],
        "panels": _panels(board),
    }


def _variables(board: Board) -> list[dict[str, Any]]:
    def chosen(name: str, query: str) -> dict[str, Any]:
        asked = {"name": name, "type": "query", "datasource": _SOURCE, "refresh": 2}
        return asked | {"query": _filled(query), "sort": 1}

    found = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        chosen("namespace", "label_values(proa_monitor_series, namespace)"),
    ]
    if board.models:
        found.append(chosen("model", board.models))
        if "query_result" in board.models:
            found[-1]["regex"] = '/model="([^"]+)"/'
    if any("$metric" in query for query in _queries(board)):
        found.append(chosen("metric", "label_values(proa_quality{$M}, metric)"))
    return found


def _marks(board: Board) -> list[dict[str, Any]]:
    """Releases marked over every panel."""
    if not board.models:
        return []
    query = 'max by (model) (proa_rollout_phase{$M,phase="promoting"}) == 1'
    mark = {"name": "promoted", "datasource": _SOURCE, "enable": True, "iconColor": "blue"}
    return [mark | {"expr": _filled(query), "step": "60s", "titleFormat": "a release is promoted"}]


def _queries(board: Board) -> Iterable[str]:
    return (query for row in board.rows.values() for p in row for query in p.queries.values())


def _panels(board: Board) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    top = 0
    for title, row in board.rows.items():
        left, place = 0, {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        head = {"id": len(found) + 1, "type": "row", "title": title, "gridPos": place}
        found.append(head | {"collapsed": False, "panels": []})
        top += 1
        for panel in row:
            if left + panel.width > _COLUMNS:
                left, top = 0, top + 8
            grid = {"h": 8, "w": panel.width, "x": left, "y": top}
            found.append(_panel(panel, len(found) + 1, grid))
            left += panel.width
        top += 8
    return found


def _panel(panel: Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
    table = panel.kind == "table"
    defaults: dict[str, Any] = {"unit": panel.unit}
    if not table:
        defaults["custom"] = {"spanNulls": False}
        if panel.stacked:
            defaults["custom"] |= {"stacking": {"mode": "normal"}, "fillOpacity": 40}
    if panel.limit is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        defaults["custom"] |= {"thresholdsStyle": {"mode": "line"}}
    targets = [
        {"refId": chr(ord("A") + place), "expr": _filled(query), "legendFormat": legend}
        | ({"instant": True, "format": "table"} if table else {})
        for place, (legend, query) in enumerate(panel.queries.items())
    ]
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": grid,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }
    if panel.about:
        made["description"] = panel.about
    if table:
        hidden = {"excludeByName": {"Time": True, "Value": True}}
        made["transformations"] = [{"id": "organize", "options": hidden}]
    return made


def _filled(query: str) -> str:
    here = 'namespace="$namespace"'
    return query.replace("$M", f'{here},model="$model"').replace("$N", here)


def main() -> None:
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
