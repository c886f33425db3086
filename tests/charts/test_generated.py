"""What the chart ships as files is what the code writes; dashboards ask for series that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generated
from tests import metrics_page
from tests.charts import render
from tests.charts.test_rules import promtool

BOARDS = sorted((render.CHARTS / "proa" / "dashboards").glob("*.json"))
# Added by Prometheus, or of vLLM.
OTHERS = {"namespace", "pod", "le", "model_name"}


def test_the_files_are_what_the_code_writes() -> None:
    found = generated.files()
    assert {path for path in found if path.suffix == ".json"} == set(BOARDS)
    for path, text in found.items():
        assert path.read_text() == text, "make them anew: python -m charts.generated"


def expressions(board: dict[str, Any]) -> list[tuple[str, str]]:
    """Legend and expression of every query, those of annotations too."""
    found = [(target["legendFormat"], target["expr"]) for panel in board["panels"]
             for target in panel.get("targets", ())]  # fmt: skip
    return found + [("", mark["expr"]) for mark in board["annotations"]["list"]]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboards_queries_are_promql_on_what_exists(path: Path, tmp_path: Path) -> None:
    board = json.loads(path.read_text())
    asked = expressions(board)
    assert len(asked) >= 20
    rules = []
    for number, (legend, query) in enumerate(asked):
        expr = re.sub(r"\$(namespace|model|metric)", "x", query)
        assert "$" not in expr
        rules.append({"record": f"panel:{number}", "expr": expr})
        families = {name: metrics_page.documented(name) for name in metrics_page.named_in(query)}
        assert families or "vllm:" in query
        assert None not in families.values(), query
        known = OTHERS.union(*(family.labels for family in families.values() if family))
        by = {word for group in re.findall(r"by \(([^)]*)\)", query) for word in group.split(", ")}
        assert by <= known, f"{query}: {by - known}"
        matched = set(re.findall(r"[{,](\w+)[!=]", query)) - {"__name__"}
        assert matched <= known, f"{query}: {matched - known}"
        assert set(re.findall(r"{{(\w+)}}", legend)) <= by, f"{legend}: {query}"
    file = tmp_path / "board.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", str(file))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_lie_side_by_side(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_each_kind_has_a_board() -> None:
    assert [path.stem for path in BOARDS] == ["classic", "fleet", "llm"]
