"""The drift figure: quiet on unchanged data, loud on planted change, silent without data."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.profile.drift import DriftRule, psi, psi_noise
from proa.profile.reference import Profile, build, parse_profile
from proa.profile.window import WindowCounts

NUMBERS = 16
LEVELS = [f"c{k}" for k in range(10)]
ZIPF = 1 / np.arange(1, 11) / (1 / np.arange(1, 11)).sum()
Columns = dict[str, list[object]]


def independent(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Columns:
    """Rows that know nothing of each other; `shift` moves the first number by that many sigmas."""
    columns: Columns = {
        f"x{k}": rng.normal(shift if k == 0 else 0.0, 1.0, rows).tolist() for k in range(NUMBERS)
    }
    return columns | {
        f"c{k}": [LEVELS[level] for level in rng.choice(10, rows, p=ZIPF)] for k in range(4)
    }


def day(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Columns:
    """Rows of one day: each number has a level of the day that all its rows share."""
    columns = independent(rng, rows)
    for k in range(NUMBERS):
        level = rng.normal(0.0, 0.5) + (shift if k == 0 else 0.0)
        columns[f"x{k}"] = rng.normal(level, 1.0, rows).tolist()
    return columns


TYPES = {f"x{k}": "double" for k in range(NUMBERS)} | {f"c{k}": "string" for k in range(4)}


def window_of(profile: Profile, columns: Columns) -> WindowCounts:
    rows = len(columns["x0"])
    window = WindowCounts.of(profile)
    window.add(profile, [{"status": 200, "rows": rows, "inputs": columns, "outputs": {}}])
    return window


def profile_of(columns: Columns, blocks: list[str] | None = None) -> Profile:
    return parse_profile(orjson.dumps(build(columns, TYPES, blocks=blocks)))


@pytest.fixture(scope="module")
def plain() -> Profile:
    return profile_of(independent(np.random.default_rng(1), 10_000))


@pytest.fixture(scope="module")
def daily() -> Profile:
    rng = np.random.default_rng(2)
    days = [day(rng, 300) for _ in range(60)]
    columns = {name: list(itertools.chain(*(d[name] for d in days))) for name in TYPES}
    return profile_of(columns, [f"day-{k // 300:02}" for k in range(60 * 300)])


def flagged(
    profile: Profile, make: Callable[[np.random.Generator], Columns], windows: int
) -> float:
    rule, rng = DriftRule(profile), np.random.default_rng(3)
    states = [rule.judge(window_of(profile, make(rng))).state for _ in range(windows)]
    return states.count("drift") / windows


@pytest.mark.parametrize("rows", [100, 200, 1000])
def test_unchanged_independent_rows_are_left_alone(plain: Profile, rows: int) -> None:
    assert flagged(plain, lambda rng: independent(rng, rows), 100) <= 0.02


def test_a_shift_is_found_and_named(plain: Profile) -> None:
    rule, rng = DriftRule(plain), np.random.default_rng(4)
    for _ in range(20):
        drift = rule.judge(window_of(plain, independent(rng, 1000, shift=0.6)))
        assert (drift.state, drift.feature) == ("drift", "x0")
        assert "x0 changed" in drift.meaning


def test_days_that_differ_as_days_do_are_left_alone(daily: Profile) -> None:
    assert flagged(daily, lambda rng: day(rng, 300), 100) <= 0.03


def test_without_blocks_the_same_days_would_alarm(daily: Profile) -> None:
    """What the blocks are for: this is the field's usual answer to clean days."""
    rng = np.random.default_rng(2)
    days = [day(rng, 300) for _ in range(60)]
    columns = {name: list(itertools.chain(*(d[name] for d in days))) for name in TYPES}
    assert flagged(profile_of(columns), lambda rng: day(rng, 300), 30) > 0.9


def test_a_day_unlike_the_others_is_found(daily: Profile) -> None:
    assert flagged(daily, lambda rng: day(rng, 300, shift=6.0), 30) >= 0.95


def test_one_outlier_neither_trips_nor_blinds_it(plain: Profile) -> None:
    rule, rng = DriftRule(plain), np.random.default_rng(5)
    clean, moved = independent(rng, 1000), independent(rng, 1000, shift=1.0)
    for columns, state in ((clean, "no drift"), (moved, "drift")):
        columns["x0"][0] = 1e6
        assert rule.judge(window_of(plain, columns)).state == state


def test_one_broken_column_hides_no_other(plain: Profile) -> None:
    columns = independent(np.random.default_rng(6), 1000, shift=1.0)
    columns["x1"] = [None] * 1000
    columns["c0"] = [k for k in range(1000)]  # noqa: C416 - any type may arrive
    drift = DriftRule(plain).judge(window_of(plain, columns))
    by_name = {feature.name: feature for feature in drift.features}
    assert {name for name, f in by_name.items() if f.state == "drift"} >= {"x0", "x1", "c0"}
    assert by_name["x1"].odd == {"null": 1.0}
    assert by_name["c0"].odd == {"new": 1.0}
    assert by_name["x2"].state == "no drift"


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_too_few_rows_are_no_answer_and_never_zero(plain: Profile, rows: int) -> None:
    drift = DriftRule(plain).judge(
        window_of(plain, independent(np.random.default_rng(7), rows, shift=9.0))
    )
    assert drift.state == "not enough data"
    assert drift.figure is None
    assert all(f.psi is None and f.ratio is None for f in drift.features)
    assert "at least 100" in drift.meaning


def test_the_correction_takes_off_what_sampling_adds() -> None:
    rng = np.random.default_rng(8)
    reference = rng.multinomial(20_000, [0.1] * 10).tolist()
    effects = [psi(reference, rng.multinomial(300, [0.1] * 10).tolist()) or 0 for _ in range(400)]
    assert np.mean(effects) < 0.012  # uncorrected: 0.030
    noise = psi_noise(reference, rng.multinomial(300, [0.1] * 10).tolist(), 0.05)
    assert np.mean(np.array(effects) > noise) == pytest.approx(0.05, abs=0.03)


COUNTS = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


@given(COUNTS, COUNTS)
def test_psi_is_symmetric_and_never_negative(a: list[int], b: list[int]) -> None:
    effect = psi(a, b)
    if not sum(a) or not sum(b):
        assert effect is None
    else:
        assert effect is not None
        assert effect >= 0
        assert effect == pytest.approx(psi(b, a))


@given(COUNTS)
def test_no_change_is_no_effect(a: list[int]) -> None:
    assert psi(a, a) in (0.0, None)
