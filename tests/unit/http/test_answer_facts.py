"""`x-proa-facts`: what a service says of an answer; any container may send any nonsense."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.http.facts import MOST_BINS, Facts, encode_facts, parse_facts
from proa.release.facts import facts_of, number_bin, probability_bin
from proa.release.manifest import ClassicSpec


def spec(task: str, **more: object) -> ClassicSpec:
    return ClassicSpec.model_validate({"task": task, "model": "m", "columns": [], **more})


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1;;", ";;{}", "1;;{}", "-1;;{}", "1;;[1]", '1;;{"a":1}', '1;;{"1":2}',
        '1;;{"1":true}', '1;;{"1":0}', '1;;{"1":1.5}', '1;0123;{"1":1}', '1;;{"1234567":1}',
        '9999999999;;{"1":1}', "1;;" + json.dumps({str(n): 1 for n in range(MOST_BINS + 1)}),
    ],
)  # fmt: skip
def test_nonsense_is_no_fact(text: str) -> None:
    assert parse_facts(text) is None


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    parse_facts(text)


@given(st.dictionaries(st.integers(-9999, 9999), st.integers(1, 50), min_size=1, max_size=20))
def test_what_is_written_is_read(bins: dict[int, int]) -> None:
    rows = sum(bins.values())
    found = parse_facts(encode_facts(rows, "1" * min(rows, 9), bins).decode())
    assert found is not None
    assert (found.rows, found.decisions) == (rows, "1" * min(rows, 9))
    assert {int(key): count for key, count in json.loads(found.bins).items()} == bins


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400))
def test_every_probability_has_its_place(values: list[float]) -> None:
    outputs = {"probability": values, "label": [value > 0.5 for value in values]}
    found = parse_facts(facts_of(spec("binary"))(outputs).decode())
    assert found is not None
    assert found.rows == len(values)
    assert sum(json.loads(found.bins).values()) == len(values)
    assert len(found.decisions) == (len(values) if len(values) <= 256 else 0)


def test_bins_are_in_order_and_fine_where_it_matters() -> None:
    assert [probability_bin(p) for p in (0.0, 0.01, 0.4999, 0.5, 0.99, 1.0)] == [
        -40, -10, -1, 0, 9, 39,
    ]  # fmt: skip
    assert number_bin(0.0) == 0
    assert number_bin(102.0) == number_bin(100.0) + 1
    assert number_bin(-3.0) < number_bin(3.0)
    assert number_bin(math.inf) == -number_bin(-math.inf)


def test_a_large_regression_is_a_sample_of_even_ranks() -> None:
    outputs = {"prediction": [1.05**number for number in range(1000)]}
    found = parse_facts(facts_of(spec("regression"))(outputs).decode())
    assert found is not None
    assert (found.rows, found.decisions) == (1000, "")
    assert sum(json.loads(found.bins).values()) == MOST_BINS


def test_a_class_is_its_place_in_the_release_s_list() -> None:
    answer = facts_of(spec("multiclass", classes=["a", "b", "c"]))({"label": ["c", "a", "c"]})
    assert parse_facts(answer.decode()) == Facts(3, "202", '{"2":2,"0":1}')
