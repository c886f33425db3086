"""Conditions of a pipeline, evaluated by our own rule where KFP's local runner cannot.

KFP 2.16's `kfp.local` pastes a text value between quotes that are already there (a syntax error)
and knows no name `inputs` for numbers, logs a warning, and skips the branch: `dsl.If` is always
false. `mend` puts a rule for the one form we use in its place; a cluster does its own.
"""

from __future__ import annotations

import re
from typing import Any

from proa.errors import Internal

_EQUAL = re.compile(
    r"inputs\.parameter_values\['pipelinechannel--(?P<task>.+)-(?P<output>[^-']+)'\]"
    r" == '(?P<text>[^']*)'"
)


def holds(condition: str, io_store: Any) -> bool:
    """Whether `task output == 'text'` holds.

    Raises:
        Internal: a condition of another form: better than a branch that is silently skipped.
    """
    match = _EQUAL.fullmatch(condition.strip())
    if match is None:
        raise Internal(f"pipeline condition {condition!r}: expected an output == a text")
    return bool(io_store.get_task_output(match["task"], match["output"]) == match["text"])


def mend() -> None:
    """Make `kfp.local` ask `holds`."""
    from kfp.local.orchestrator import enhanced_dag_orchestrator

    evaluator = enhanced_dag_orchestrator.ConditionEvaluator
    evaluator.evaluate_condition = staticmethod(holds)
