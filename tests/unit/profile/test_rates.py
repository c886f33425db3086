"""Shares and means beside the windows before: against scipy, and calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from proa.profile.rates import (
    Mean,
    Rate,
    compare_means,
    compare_rates,
    fisher,
    t_quantile,
    wilson,
)


@given(
    hits=st.integers(0, 60),
    more=st.integers(0, 60),
    other=st.integers(0, 200),
    others=st.integers(0, 200),
)
@settings(max_examples=60, deadline=None)
def test_fisher_is_scipys(hits: int, more: int, other: int, others: int) -> None:
    table = [[hits, more], [other, others]]
    wanted = stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher(hits, hits + more, other, other + others) == pytest.approx(wanted, abs=1e-9)


def test_the_quantile_of_t_is_scipys() -> None:
    for freedom in (1, 2, 3, 4, 9, 27, 200):
        for level in (0.3, 0.05, 0.0025, 0.0005, 1e-5):
            wanted = stats.t.isf(level, freedom)
            assert t_quantile(level, freedom) == pytest.approx(wanted, rel=1e-5)


def test_the_interval_of_a_share_is_scipys() -> None:
    for hits, rows in ((0, 20), (3, 20), (500, 1000), (20, 20)):
        wanted = stats.binomtest(hits, rows).proportion_ci(method="wilson")
        assert wilson(hits, rows) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_share_that_did_not_change_is_rarely_flagged() -> None:
    """2,000 windows of 200 rows at 3 %, each beside seven before it, at level 0.0005."""
    pick = np.random.default_rng(0)
    hits = pick.binomial(200, 0.03, size=(2000, 8))
    found = [
        compare_rates(Rate(row[0], 200), [Rate(k, 200) for k in row[1:]], floor=0.01)
        for row in hits.tolist()
    ]
    assert sum(one.holds is True for one in found) <= 4
    assert all(one.holds is not None for one in found)


def test_days_that_differ_by_nature_are_not_flagged_and_a_jump_is() -> None:
    """Shares vary by day from 2 to 10 %: far more than 1,000 rows alone would."""
    pick = np.random.default_rng(1)
    flagged = naive = 0
    days: list[Rate] = []
    for _ in range(300):
        shares = pick.uniform(0.02, 0.10, size=15)
        days = [Rate(int(pick.binomial(1000, p)), 1000) for p in shares]
        flagged += compare_rates(days[0], days[1:], floor=0.0).holds is True
        whole = [Rate(sum(d.hits for d in days[1:]), 14_000)]
        naive += compare_rates(days[0], whole, floor=0.0, independent=True).holds is True
    assert flagged <= 3
    assert naive > 30  # what comes of taking rows as independent
    assert compare_rates(Rate(400, 1000), days[1:], floor=0.02).holds is True


def test_a_drop_is_seen_and_direction_is_kept() -> None:
    past = [Rate(90, 100)] * 7
    assert compare_rates(Rate(60, 100), past, floor=0.05, direction="down").holds is True
    assert compare_rates(Rate(60, 100), past, floor=0.05, direction="up").holds is False
    both = compare_rates(Rate(60, 100), past, floor=0.05, direction="both")
    assert both.holds is True
    assert both.limit is not None
    assert 0.6 < both.limit < 0.9


def test_a_share_of_nothing_cannot_fall() -> None:
    """None of few rows is ordinary where some were rare: there is no lower count to be odd."""
    found = compare_rates(Rate(0, 200), [Rate(30, 1500)], floor=0.0, direction="both",
                          independent=True, level=1e-4)  # fmt: skip
    assert found.holds is False


def test_too_little_is_said_to_be_too_little() -> None:
    past = [Rate(5, 100)] * 7
    assert compare_rates(Rate(29, 29), past, floor=0.0).holds is None
    assert compare_rates(Rate(90, 100), past[:4], floor=0.0).holds is None
    assert compare_rates(Rate(90, 100), [Rate(0, 10)] * 7, floor=0.0).holds is None
    assert compare_means(Mean(0, 0.0, 0.0), [Mean(50, 1.0, 1.0)] * 7, floor=0.1).now is None


def test_means_are_compared_in_standard_deviations() -> None:
    pick = np.random.default_rng(2)

    def mean(shift: float, rows: int = 200) -> Mean:
        values = pick.normal(shift, 1.0, size=rows)
        return Mean(rows, float(values.sum()), float((values**2).sum()))

    past = [mean(0.0) for _ in range(10)]
    flagged = sum(compare_means(mean(0.0), past, floor=0.0).holds is True for _ in range(500))
    assert flagged <= 5
    assert compare_means(mean(1.0), past, floor=0.2).holds is True
    assert compare_means(mean(0.1, rows=20_000), past, floor=0.2).holds is False  # too small
    assert compare_means(mean(-1.0), past, floor=0.2, direction="up").holds is False
