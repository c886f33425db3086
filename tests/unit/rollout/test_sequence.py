"""The intervals hold at every look, not only at one."""

from __future__ import annotations

import numpy as np
import pytest

from proa.ledger.tally import Sums
from proa.rollout.sequence import apart, boundary, difference, mean_of, resolvable

WALKS, STEPS, FIRST = 400, 3000, 20


@pytest.mark.parametrize("sharpest", [50, 500])
def test_a_mean_looked_at_after_every_observation_stays_inside(sharpest: int) -> None:
    """An interval of 1.96 standard errors would lose the truth in two walks of five."""
    steps = np.random.default_rng(1).normal(size=(WALKS, STEPS))
    counts = np.arange(1, STEPS + 1)
    errors = np.abs(steps.cumsum(axis=1)) / np.sqrt(counts)
    widths = np.array([boundary(count, sharpest) for count in counts])
    lost = (errors > widths)[:, FIRST:].any(axis=1).mean()
    assert lost <= 0.05
    assert (errors > 1.96)[:, FIRST:].any(axis=1).mean() > 0.3


def test_it_is_tightest_where_it_was_asked_to_be() -> None:
    assert boundary(200, 200) == pytest.approx(3.035, abs=0.001)
    assert min(range(20, 2000, 20), key=lambda n: boundary(n, 200)) == pytest.approx(200, abs=60)


def test_shares_of_equal_sides_hold_zero_and_unequal_ones_do_not() -> None:
    def hits(count: int, calls: int = 2000) -> Sums:
        return Sums(calls, calls, calls, count, count, count, count)

    same = difference(hits(20), hits(20), 200)
    assert same.low < 0 < same.high
    worse = difference(hits(200), hits(20), 200)
    assert worse.estimate == pytest.approx(0.09)
    assert 0.05 < worse.low < worse.estimate < worse.high
    none = difference(hits(0), hits(0), 200)
    assert none.low == pytest.approx(-none.high)
    assert none.high < 0.01


def test_distributions() -> None:
    one = dict.fromkeys(range(10), 100)
    assert apart((one, 1000), (one, 1000)).estimate == 0.0
    shifted = {number + 5: 100 for number in range(10)}
    assert apart((one, 1000), (shifted, 1000)).estimate == pytest.approx(0.5)


def test_a_mean_and_what_few_units_can_bound() -> None:
    value = Sums(4, 4, 4, 8, 20, 8, 20)
    found = mean_of(value, 4)
    assert found.low < found.estimate == 2.0 < found.high
    assert [resolvable(units) for units in (5, 12, 30, 90, 190)] == [None, 0.5, 0.75, 0.9, 0.95]
