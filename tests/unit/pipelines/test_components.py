"""Each component hands its step exactly what the step takes: KFP would only say so in a run."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from proa_pipelines import cards, compiling, steps


def components() -> list[tuple[str, str]]:
    return [(kind, step) for kind in compiling.KINDS for step in steps.table(kind)]


@pytest.mark.parametrize(("kind", "step"), components())
def test_a_component_calls_its_step(kind: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, str, dict[str, Any]]] = []

    def run(kind: str, step: str, **arguments: Any) -> str:
        called.append((kind, step, arguments))
        return "value"

    monkeypatch.setattr(steps, "run", run)
    monkeypatch.setattr(cards, "lift", lambda *artifacts: None)
    component = getattr(import_module(f"proa_pipelines.{compiling.KINDS[kind]}"), step)
    body = component.python_func
    given = {name: SimpleNamespace(path=f"/{name}") for name in inspect.signature(body).parameters}
    texts = {
        name: name
        for name, item in component.component_spec.inputs.items()
        if item.type == "String"
    }
    returned = body(**{**given, **texts})
    ((called_kind, called_step, arguments),) = called
    assert (called_kind, called_step) == (kind, step)
    inspect.signature(steps.table(kind)[step]).bind(**arguments)
    assert all(isinstance(value, str) for value in arguments.values())
    gives = component.component_spec.outputs or {}
    assert returned == ("value" if "Output" in gives else None)
