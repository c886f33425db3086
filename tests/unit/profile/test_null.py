"""The mathematics below the judge: effects, their noise, their tails, and how many may be false."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proa.profile.divergence import Counts, chi_square_quantile, corrected_psi, wasserstein
from proa.profile.null import (
    BlockNull,
    NoiseNull,
    benjamini_hochberg,
    p_values,
    thinning_share,
)

LEVELS = np.logspace(-0.5, -8, 46)
COUNTS = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


def counts(rng: np.random.Generator, rows: int, windows: int, features: int = 1) -> Counts:
    """Windows x features x 10 bins of independent rows."""
    return rng.multinomial(rows, [0.1] * 10, size=(windows, features))


def test_the_correction_takes_off_what_sampling_adds() -> None:
    rng = np.random.default_rng(8)
    reference, windows = counts(rng, 20_000, 1), counts(rng, 300, 1000)
    psi, freedom, scale = corrected_psi(reference, windows)
    assert psi.mean() == pytest.approx(0.0, abs=0.003)  # uncorrected: 0.030
    noise = NoiseNull().limits(np.array([0.05]), freedom[0], scale[0])[0, 0]
    assert (psi > noise).mean() == pytest.approx(0.05, abs=0.03)


@given(COUNTS, COUNTS)
def test_psi_is_symmetric_and_unknown_without_rows(a: list[int], b: list[int]) -> None:
    one, freedom, _ = corrected_psi(np.array([a]), np.array([b]))
    other, _, _ = corrected_psi(np.array([b]), np.array([a]))
    if not sum(a) or not sum(b):
        assert np.isnan(one).all()
    else:
        assert one == pytest.approx(other)
        same, _, scale = corrected_psi(np.array([a]), np.array([a]))
        used = sum(1 for n in a if n)
        assert same == pytest.approx(-(used - 1) * scale)
        assert freedom == sum(1 for x, y in zip(a, b, strict=True) if x or y) - 1


def test_padding_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    a, b = counts(rng, 900, 1), counts(rng, 300, 1)
    wide = [np.pad(each, ((0, 0), (0, 0), (0, 7))) for each in (a, b)]
    for narrow, padded in zip(corrected_psi(a, b), corrected_psi(*wide), strict=True):
        assert narrow == pytest.approx(padded)


@pytest.mark.parametrize("freedom", [3, 9, 12, 50])
@pytest.mark.parametrize("level", [0.3, 0.01, 1e-4, 1e-6])
def test_chi_square_quantiles_are_those_of_scipy(freedom: int, level: float) -> None:
    assert chi_square_quantile(freedom, level) == pytest.approx(
        stats.chi2.isf(level, freedom), rel=0.08
    )


def test_wasserstein_is_the_shift_of_shifted_mass_and_blind_to_outliers() -> None:
    rng = np.random.default_rng(2)
    edges = np.linspace(-5, 5, 201)
    middles = np.concatenate([[-5.0], (edges[1:] + edges[:-1]) / 2, [5.0]])

    def binned(values: np.ndarray) -> Counts:
        return np.bincount(np.searchsorted(edges, values, side="right"), minlength=202)[None]

    a, b = rng.normal(0, 1, 50_000), rng.normal(0.5, 1, 50_000)
    b[0] = 1e9
    distance, shift = wasserstein(binned(a), binned(b), middles[None], np.array([1.0]))
    b[0] = 0
    assert distance[0] == pytest.approx(stats.wasserstein_distance(a, b), abs=0.01)
    assert shift[0] == pytest.approx(0.5, abs=0.02)
    back, other = wasserstein(binned(b), binned(a), middles[None], np.array([1.0]))
    assert back == pytest.approx(distance, abs=1e-3)
    assert other == pytest.approx(-shift, abs=1e-3)


def test_p_values_and_limits_say_the_same() -> None:
    rng = np.random.default_rng(3)
    blocks = counts(rng, 300, 60, features=5)
    null = BlockNull.against_the_rest(blocks)
    assert null is not None
    window = counts(rng, 300, 1, features=5)[0]
    _, freedom, scale = corrected_psi(blocks.sum(axis=0), window)
    table = null.limits(LEVELS, freedom, scale)
    assert (np.diff(table, axis=1) >= 0).all()
    for place in (10, 25, 40):
        again = p_values(table[:, place], table, LEVELS)
        assert (again <= LEVELS[place] * 1.001).all()
    assert np.isnan(p_values(np.array([np.nan]), table[:1], LEVELS)).all()


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_a_share_of_unchanged_windows_exceeds_its_limit(spread: float) -> None:
    """Whether rows are independent, or days move the mean by half a standard deviation."""
    rng = np.random.default_rng(4)
    edges = stats.norm.isf(np.linspace(0.9, 0.1, 9))

    def days(number: int) -> Counts:
        means = rng.normal(0, spread, (number, 30, 1))
        below = stats.norm.cdf(edges - means)
        cells = np.diff(np.concatenate([0 * means, below, 0 * means + 1], axis=2), axis=2)
        return rng.multinomial(300, cells)

    blocks = days(60)
    null = BlockNull.against_the_rest(blocks)
    assert null is not None
    psi, freedom, scale = corrected_psi(blocks.sum(axis=0), days(400))
    for level in (0.1, 0.01, 0.001):
        limits = null.limits(np.array([level]), freedom[0], scale[0])[:, 0]
        assert (psi > limits).mean() <= level * 1.4


def test_weeks_are_compared_with_weeks() -> None:
    """Seven days that move on their own are nearer to the mean than one."""
    rng = np.random.default_rng(5)
    blocks = np.stack([rng.multinomial(300, rng.dirichlet([20] * 10))[None] for _ in range(140)])
    day, week = BlockNull.against_the_rest(blocks), BlockNull.against_the_rest(blocks, span=7)
    assert day is not None
    assert week is not None
    level, freedom = np.array([0.01]), np.array([9.0])
    assert week.limits(level, freedom, np.array([1 / 2100]))[0, 0] < (
        day.limits(level, freedom, np.array([1 / 300]))[0, 0] / 2
    )


def test_small_windows_are_compared_with_thinned_blocks() -> None:
    rng = np.random.default_rng(6)
    blocks = counts(rng, 1000, 60)
    whole = BlockNull.against_the_rest(blocks)
    thin = BlockNull.against_the_rest(blocks, share=thinning_share(300, 1000))
    assert whole is not None
    assert thin is not None
    level, freedom, scale = np.array([0.01]), np.array([9.0]), np.array([1 / 1000])
    ratio = thin.limits(level, freedom, scale) / whole.limits(level, freedom, scale)
    assert 2 < ratio[0, 0] < 6


def test_too_few_blocks_say_nothing() -> None:
    rng = np.random.default_rng(7)
    assert BlockNull.against_the_rest(counts(rng, 500, 19)) is None
    assert BlockNull.against_the_rest(counts(rng, 500, 20), span=7) is None


def test_a_feature_that_most_blocks_lack_is_only_known_by_its_noise() -> None:
    rng = np.random.default_rng(8)
    blocks = counts(rng, 500, 40, features=2)
    blocks[10:, 1] = 0
    null = BlockNull.against_the_rest(blocks)
    assert null is not None
    assert null.known.tolist() == [True, False]


@pytest.mark.parametrize(
    ("rows", "share"), [(5000, 1.0), (1000, 1.0), (999, 2**-0.5), (500, 0.5), (200, 2**-2.5)]
)
def test_shares_are_rounded_down_to_steps(rows: int, share: float) -> None:
    assert thinning_share(rows, 1000) == pytest.approx(share)


def test_benjamini_and_hochberg_as_scipy_has_it() -> None:
    rng = np.random.default_rng(9)
    for _ in range(50):
        p = rng.uniform(size=40) ** rng.choice([1, 4])
        adjusted = stats.false_discovery_control(p)
        level = benjamini_hochberg(np.append(p, np.nan), 0.05)
        assert ((p <= level) == (adjusted <= 0.05)).all()
    assert benjamini_hochberg(np.array([np.nan]), 0.05) == 0.05
