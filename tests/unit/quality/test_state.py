"""States merge exactly: the state of a union, whatever the parts and their order."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.quality.answered import AnsweredRow
from proa.quality.exact import merged, parts_of, total
from proa.quality.scores import ScoreCounts
from proa.quality.state import QualityState

ROW = st.builds(
    AnsweredRow,
    form=st.just("probability"),
    said=st.one_of(st.none(), st.floats(0, 1), st.sampled_from([2.0, float("nan")])),
    decided=st.sampled_from([None, "true", "false"]),
    truth=st.sampled_from([None, True, 0, "1", "maybe", 7]),
    delay=st.one_of(st.none(), st.floats(-10, 1e8)),
    reasons=st.one_of(
        st.none(), st.dictionaries(st.sampled_from("xyz"), st.floats(-1e9, 1e9), max_size=3)
    ),
)
ROWS = st.lists(ROW, max_size=8)


def as_text(state: QualityState) -> str:
    return json.dumps(json.loads(orjson.dumps(state.to_json())), sort_keys=True)


@settings(max_examples=20)
@given(ROWS, ROWS, ROWS)
def test_merge_is_the_union_in_any_order(
    a: list[AnsweredRow], b: list[AnsweredRow], c: list[AnsweredRow]
) -> None:
    whole = as_text(QualityState.of([*a, *b, *c]))
    one, two, three = (QualityState.of(rows) for rows in (a, b, c))
    assert as_text(one.merge(two).merge(three)) == whole
    assert as_text(three.merge(one.merge(two))) == whole
    assert as_text(two.merge(three).merge(one)) == whole


@settings(max_examples=20)
@given(ROWS)
def test_a_state_is_read_back_as_it_was(rows: list[AnsweredRow]) -> None:
    state = QualityState.of(rows)
    assert QualityState.from_json(orjson.loads(orjson.dumps(state.to_json()))) == state


def test_another_version_is_refused() -> None:
    value: dict[str, Any] = QualityState().to_json() | {"version": 2}
    with pytest.raises(ValueError, match="version 2: expected 1"):
        QualityState.from_json(value)


def test_forms_do_not_mix() -> None:
    probability = QualityState.of([AnsweredRow("probability", 0.5, None)])
    number = QualityState.of([AnsweredRow("number", 0.5, None)])
    with pytest.raises(ValueError, match="probability and number do not merge"):
        probability.merge(number)


def test_a_label_that_is_no_truth_is_counted_apart() -> None:
    rows = [AnsweredRow("probability", 0.5, "true", truth=value) for value in (1, "maybe", 3, None)]
    state = QualityState.of(rows)
    assert (state.rows, state.labelled, state.unfit) == (4, 1, 2)


@settings(max_examples=20)
@given(st.lists(st.floats(-1e300, 1e300), max_size=20), st.randoms())
def test_a_sum_does_not_depend_on_its_order(values: list[float], pick: Any) -> None:
    parts = parts_of(values)
    cut = len(values) // 2
    shuffled = list(values)
    pick.shuffle(shuffled)
    assert parts_of(shuffled) == parts
    assert merged([parts_of(shuffled[:cut]), parts_of(shuffled[cut:])]) == parts
    assert total(merged([parts, parts_of(-value for value in values)])) == 0.0


def test_a_sum_that_is_no_number_is_refused() -> None:
    for values in ([float("inf")], [1e308, 1e308], [float("nan")]):
        with pytest.raises(ValueError, match="finite"):
            parts_of(values)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), max_size=40), st.integers(0, 40))
def test_grids_of_scores_are_nested(scores: list[float], cut: int) -> None:
    """With room for few scores every union is rounded; the parts and the whole agree still."""
    from proa.quality import scores as module

    pairs = [(score, score > 0.3) for score in scores]
    most = module.MOST_SCORES
    module.MOST_SCORES = 5  # type: ignore[misc]
    try:
        parts = ScoreCounts.of(pairs[:cut]).merge(ScoreCounts.of(pairs[cut:]))
        assert parts == ScoreCounts.of(pairs)
    finally:
        module.MOST_SCORES = most  # type: ignore[misc]
