"""Wrong values are refused before anything is rendered, and the message names the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.charts import render


def wrong() -> Iterator[tuple[str, str, dict[str, Any], str]]:
    every = yaml.safe_load((render.ROOT / "tests/charts/wrong.yaml").read_text())
    for chart, named in every.items():
        for name, fault in named.items():
            yield chart, name, fault["values"], fault["says"]


WRONG = list(wrong())


def test_there_are_enough() -> None:
    assert len(WRONG) >= 40


@pytest.mark.parametrize(
    ("chart", "name", "values", "says"), WRONG, ids=[f"{w[0]}-{w[1]}" for w in WRONG]
)
def test_refused_by_name(chart: str, name: str, values: dict[str, Any], says: str) -> None:
    case = render.Case(chart, name, render.over(render.least(chart), values))
    done = render.run(case)
    assert done.returncode != 0, "it was rendered"
    message = "\n".join(
        line for line in done.stderr.splitlines() if not line.startswith(("walk.go", "level="))
    )
    assert says in message
    assert not done.stdout


@pytest.mark.parametrize("chart", render.NAMES)
def test_the_other_helm_refuses_too(chart: str) -> None:
    """One of each kind: a schema's and a template's refusal read the same in Helm 3."""
    schema = next(w for w in WRONG if w[0] == chart and w[3].startswith("/"))
    template = next((w for w in WRONG if w[0] == chart and "." in w[3]), schema)
    for _, name, values, says in (schema, template):
        case = render.Case(chart, name, render.over(render.least(chart), values))
        done = render.run(case, "helm-3")
        assert done.returncode != 0
        assert says in done.stderr


@pytest.mark.parametrize("chart", render.NAMES)
def test_every_object_of_the_schema_is_closed(chart: str) -> None:
    """Open are only the places where users write what Kubernetes defines."""
    schema = json.loads((render.CHARTS / chart / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    open_ended = sorted(set(_open(schema, "")))
    allowed = ("labels", "Labels", "notations", "nodeSelector", "Affinity", "requests", "limits")
    lists = ("[]", "global", "library", "test.request", "valueFrom", "node_selector")
    assert [key for key in open_ended if not key.endswith((*allowed, *lists))] == []


def _open(node: Any, path: str) -> Iterator[str]:
    if not isinstance(node, dict):
        return
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        yield path
    for key, value in node.get("properties", {}).items():
        yield from _open(value, f"{path}.{key}".lstrip("."))
    if "items" in node:
        yield from _open(node["items"], f"{path}[]")
