"""Bins: every value has exactly one place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.profile.bins import CategoryBins, NumberBins, parse_bins
from proa.profile.column import category_column, category_names, number_column

SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=80)
)


def counted(bins: NumberBins | CategoryBins, *values: Any) -> dict[str, int]:
    if isinstance(bins, NumberBins):
        column = number_column(values)
        counts = bins.tally(column)
        assert np.bincount(bins.codes(column), minlength=len(counts)).tolist() == counts.tolist()
    else:
        counts = bins.tally(category_column(values))
        codes = bins.codes(category_names(values))
        assert np.bincount(codes, minlength=len(counts)).tolist() == counts.tolist()
    return {name: n for name, n in zip(bins.names, counts.tolist(), strict=True) if n}


def test_numbers_outside_the_reference_have_their_own_bins() -> None:
    bins = NumberBins([0.0, 1.0, 2.0])
    assert counted(bins, -1, 1e300, None, math.nan, math.inf, -math.inf, "3", True) == {
        "below": 1,
        "above": 1,
        "null": 2,
        "non_finite": 2,
        "invalid": 2,
    }
    assert counted(bins, 0, 0.999, 1, 1.5) == {"0…1": 2, "1…2": 2}


def test_a_column_without_numbers_in_the_reference_takes_any() -> None:
    assert counted(NumberBins([]), 1.5, None) == {"above": 1, "null": 1}


def test_categories() -> None:
    bins = CategoryBins(["UA", "DL", "null"], ["OO"])
    assert counted(bins, "UA", "UA", "DL", "OO", "ZZ", None, "null", 7, "x" * 100) == {
        "UA": 2,
        "DL": 1,
        "'null'": 1,
        "other": 1,
        "new": 3,
        "null": 1,
    }


def test_unknown_categories_are_other_when_too_many_were_seen_to_keep() -> None:
    assert counted(CategoryBins(["UA"], None), "UA", "ZZ") == {"UA": 1, "other": 1}


def test_booleans_and_long_texts_are_categories() -> None:
    bins = CategoryBins(["true", "false", "y" * 64], [])
    assert counted(bins, True, False, "y" * 70) == {"true": 1, "false": 1, "y" * 64: 1}


@given(st.lists(SCALARS))
def test_each_value_is_counted_once(values: list[Any]) -> None:
    for bins in (NumberBins([-1.0, 0.0, 3.5]), CategoryBins(["a", "true"], ["b"])):
        assert sum(counted(bins, *values).values()) == len(values)


@pytest.mark.parametrize("bins", [NumberBins([0.1, 2e9]), CategoryBins(["a"], None)])
def test_bins_survive_json(bins: NumberBins | CategoryBins) -> None:
    assert parse_bins(bins.to_json(), what="x").to_json() == bins.to_json()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "text"},
        {"type": "number", "edges": ["a"]},
        {"type": "number", "edges": [2, 1]},
        {"type": "number", "edges": None},
    ],
)
def test_another_form_is_refused_by_name(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"features\.hour"):
        parse_bins(value, what="features.hour")
