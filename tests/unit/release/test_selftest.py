"""The selftest: close enough for another machine's BLAS, never another answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import Conflict, InvalidInput
from proa.release.selftest import parse_cases, run_cases, same

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
values = st.recursive(
    st.none() | st.booleans() | finite | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(values)
def test_a_value_is_the_same_as_itself(value: Any) -> None:
    assert same(value, value)


@given(finite, st.floats(-1e-7, 1e-7))
def test_floats_may_differ_by_a_ten_millionth(value: float, drift: float) -> None:
    assert same(value, value * (1 + drift))
    assert same([value], [value + drift])


@given(finite)
def test_floats_may_not_differ_by_more(value: float) -> None:
    assert not same(value, value + max(1e-4, abs(value) * 1e-4))


@pytest.mark.parametrize(
    ("one", "two"),
    [(True, 1), (0, False), (True, 1.0), ([1], [1, 2]), ({"a": 1}, {}), (None, 0), ("1", 1),
     ([[0.1]], [[0.2]]), (math.nan, math.nan), (1, math.nan)],
)  # fmt: skip
def test_other_values_are_other(one: Any, two: Any) -> None:
    assert not same(one, two)
    assert not same(two, one)


def test_a_difference_is_named_and_a_missing_output_is_one() -> None:
    cases = parse_cases({"cases": [{"input": {"x": 1}, "output": {"probability": 0.25}}]})
    assert run_cases(cases, lambda _: {"probability": 0.25 + 1e-9, "label": True}) == 1
    with pytest.raises(Conflict, match=r"case 0: probability = 0\.75, expected 0\.25"):
        run_cases(cases, lambda _: {"probability": 0.75})
    with pytest.raises(Conflict, match="probability = None"):
        run_cases(cases, lambda _: {})


@pytest.mark.parametrize("value", [None, {}, {"cases": []}, {"cases": [{}]}, {"cases": [1]}])
def test_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="selftest"):
        parse_cases(value)
