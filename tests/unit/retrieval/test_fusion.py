"""Reciprocal-rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.retrieval.fusion import fuse

_rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), min_size=2, max_size=2)


def test_the_formula() -> None:
    both, one, two = fuse([[1, 2], [3, 1]], weights=[1.0, 2.0], k=60)
    assert (both.item, both.ranks) == (1, (1, 2))
    assert both.score == pytest.approx(1 / 61 + 2 / 62)
    assert [(one.item, one.score), (two.item, two.score)] == [
        (3, pytest.approx(2 / 61)),
        (2, pytest.approx(1 / 62)),
    ]


@given(rankings=_rankings, k=st.integers(1, 100))
def test_every_item_once_and_never_below_one_that_is_worse_everywhere(
    rankings: list[list[int]], k: int
) -> None:
    fused = fuse(rankings, weights=[1.0, 1.0], k=k)
    assert sorted(place.item for place in fused) == sorted(set(rankings[0]) | set(rankings[1]))
    assert [place.score for place in fused] == sorted((p.score for p in fused), reverse=True)
    order = {place.item: number for number, place in enumerate(fused)}
    far = 10**6
    ranks = {p.item: tuple(far if r is None else r for r in p.ranks) for p in fused}
    for one in ranks:
        for other in ranks:
            if one != other and all(a <= b for a, b in zip(ranks[one], ranks[other], strict=True)):
                assert order[one] < order[other]


@given(rankings=_rankings)
def test_a_ranking_without_weight_is_left_out(rankings: list[list[int]]) -> None:
    fused = fuse(rankings, weights=[1.0, 0.0])
    assert [place.item for place in fused] == rankings[0]


def test_ties_are_settled_by_the_first_ranking() -> None:
    assert [p.item for p in fuse([[2], [1]], weights=[1.0, 1.0])] == [2, 1]
