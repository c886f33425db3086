"""The selftest of a release: inputs with the outputs that a process must reproduce to be Ready."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proa.errors import Conflict, InvalidInput

MAX_CASES = 64
_RELATIVE = 1e-6


@dataclass(frozen=True, slots=True)
class Case:
    """One input with its output, both JSON objects."""

    input: Mapping[str, Any]
    output: Mapping[str, Any]


def parse_cases(value: Any) -> list[Case]:
    """Read `{"cases": [{"input": {...}, "output": {...}}, …]}`.

    Raises:
        InvalidInput: another shape, no case, or more than 64.
    """
    try:
        cases = [Case(case["input"], case["output"]) for case in value["cases"]]
    except (TypeError, KeyError) as error:
        raise InvalidInput('selftest: expected {"cases": [{"input", "output"}, …]}') from error
    if not 1 <= len(cases) <= MAX_CASES:
        raise InvalidInput(f"selftest: {len(cases)} cases: expected 1 to {MAX_CASES}")
    return cases


def run_cases(cases: list[Case], answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> int:
    """Answer every case and compare; return how many were compared.

    Raises:
        Conflict: an output differs; the message names case, key, expected and actual value.
    """
    for number, case in enumerate(cases):
        actual = answer(case.input)
        for key, expected in case.output.items():
            if not same(expected, actual.get(key)):
                raise Conflict(
                    f"selftest case {number}: {key} = {actual.get(key)!r:.200}, "
                    f"expected {expected!r:.200}",
                    code="selftest_failed",
                )
    return len(cases)


def same(expected: Any, actual: Any) -> bool:
    """Equal JSON values; floats to a relative and absolute 1e-6 (BLAS differs by machine)."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return math.isclose(expected, actual, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return expected.keys() == actual.keys() and all(
            same(value, actual[key]) for key, value in expected.items()
        )
    return bool(expected == actual)
