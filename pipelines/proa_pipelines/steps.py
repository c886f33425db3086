"""What every step shares: its table, its clock, and the marked lines that the runner reads.

A component's body is two lines: import `run`, call it. What a step wants to say goes through
`note` (progress, for people) and `facts` (for the result file); both are lines on stdout, so they
reach the log of a pod as they reach the runner.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

from proa.errors import Internal, InvalidInput, ProaError

IMAGE = "proa-pipelines"
"""The components' image on a cluster; embedded, they run in this very environment."""
HOME = "/var/lib/proa"
"""The folder for what steps share between runs on a cluster: a claim, or else the pod's own."""
MARK = "proa-step "
"""Begins each line that is meant for the runner; one JSON object follows."""
UNTIL = ("stage", "register", "gate", "promote")
"""How far a run may go; `stage` needs no platform: it ends with the release's folder."""


def run(kind: str, step: str, **arguments: Any) -> Any:
    """Run one step of the pipeline `kind`; a `ProaError` ends the process without a traceback."""
    _say(step, event="start")
    began = time.perf_counter()
    try:
        value = _call(kind, step, arguments)
    except ProaError as error:
        _say(step, event="error", seconds=time.perf_counter() - began, **error.to_wire())
        raise SystemExit(error.exit_code) from error
    except Exception as error:
        fault = Internal(f"step {step}: {type(error).__name__}: {error}", code="step_failed")
        _say(step, event="error", seconds=time.perf_counter() - began, **fault.to_wire())
        raise
    _say(step, event="end", seconds=time.perf_counter() - began)
    return value


def note(text: str) -> None:
    """One line of progress."""
    _say(None, event="note", text=text)


def facts(**values: Any) -> None:
    """Put JSON values under this step in the result file."""
    _say(None, event="facts", facts=values)


def parse(line: str) -> dict[str, Any] | None:
    """The marked line's object; None for any other line."""
    text = line.strip()
    if not text.startswith(MARK):
        return None
    try:
        value = json.loads(text[len(MARK) :])
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _call(kind: str, step: str, arguments: dict[str, Any]) -> Any:
    """Run the step here, or in the runtime that the project brings, on the project's folder."""
    from proa_pipelines import package, release_runtime

    arguments = {**arguments, "project": package.folder_of(arguments["project"])}
    if kind == "classic" and step in release_runtime.STEPS:
        found = release_runtime.python_of(arguments["project"], arguments["overrides"])
        if found is not None:
            return release_runtime.call(*found, kind, step, arguments)
    return table(kind)[step](**arguments)


def table(kind: str) -> dict[str, Any]:
    """Every step of a pipeline by its name."""
    if kind not in ("classic", "llm", "own"):
        raise InvalidInput(f"pipeline {kind!r}: expected classic, llm or own")
    module = import_module(f"proa_pipelines.{kind}_steps")
    return dict(module.STEPS)


def _say(step: str | None, **fields: Any) -> None:
    line = {"step": step, **fields} if step else fields
    sys.stdout.write(f"{MARK}{json.dumps(line)}\n")
    sys.stdout.flush()
