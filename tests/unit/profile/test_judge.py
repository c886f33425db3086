"""The judge of windows: quiet on unchanged data, loud on planted change, silent without data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.profile.judge import WindowJudge
from proa.profile.reference import Profile, build, parse_profile
from proa.profile.window import WindowState
from tests.unit.profile.worlds import (
    TYPES,
    Columns,
    dates,
    day,
    event_of,
    found,
    held,
    independent,
    profile_of,
    together,
    window_of,
)

DAY = "2013-04-01"
DAYS, ROWS = 60, 300


@pytest.fixture(scope="module")
def plain() -> Profile:
    """Independent rows in 40 blocks of 500."""
    return profile_of(independent(np.random.default_rng(1), 20_000), dates(40, 500))


def days() -> Columns:
    rng = np.random.default_rng(2)
    return together([day(rng, ROWS) for _ in range(DAYS)])


@pytest.fixture(scope="module")
def daily() -> Profile:
    return profile_of(days(), dates(DAYS, ROWS))


def flagged(
    profile: Profile,
    make: Callable[[np.random.Generator], Columns],
    windows: int,
    name: str = DAY,
) -> float:
    """Share of windows with any observation that holds."""
    judge, rng = WindowJudge(profile), np.random.default_rng(3)
    judged = (
        judge.observe(name, window_of(profile, make(rng)), release="m/1") for _ in range(windows)
    )
    return sum(bool(held(observations)) for observations in judged) / windows


@pytest.mark.parametrize("rows", [100, 200, 1000])
def test_unchanged_independent_rows_are_left_alone(plain: Profile, rows: int) -> None:
    assert flagged(plain, lambda rng: independent(rng, rows), 100) <= 0.02


def test_days_that_differ_as_days_do_are_left_alone(daily: Profile) -> None:
    assert flagged(daily, lambda rng: day(rng, ROWS), 100) <= 0.03
    assert flagged(daily, lambda rng: day(rng, ROWS // 3), 100) <= 0.03


def test_so_are_weeks(daily: Profile) -> None:
    def week(rng: np.random.Generator) -> Columns:
        return together([day(rng, ROWS) for _ in range(7)])

    assert flagged(daily, week, 30, name="2013-04-01/P7D") <= 0.04


def test_without_blocks_the_same_days_would_alarm() -> None:
    """What the blocks are for: this is the field's usual answer to clean days."""
    assert flagged(profile_of(days()), lambda rng: day(rng, ROWS), 20) > 0.9


def test_a_small_shift_is_found_in_every_window_and_named(plain: Profile) -> None:
    judge, rng = WindowJudge(plain), np.random.default_rng(4)
    for _ in range(30):
        window = window_of(plain, independent(rng, 1000, shift=0.35))
        observations = judge.observe(DAY, window, release="m/1")
        assert held(observations) == {("feature_drift", "x0")}
        drift = found(observations, "feature_drift", "x0")
        training = drift.evidence["against"]["training"]
        assert drift.effect is not None
        assert drift.limit is not None
        assert drift.effect > drift.limit
        assert training["shift"] == pytest.approx(0.35, abs=0.12)
        assert drift.evidence["holds"] == {"training": True, "week": None, "anchor": None}
        assert drift.message.startswith("x0 has changed against training")


def test_a_day_unlike_the_others_is_found(daily: Profile) -> None:
    assert flagged(daily, lambda rng: day(rng, ROWS, shift=4.0), 30) >= 0.95


def test_one_outlier_neither_trips_nor_blinds_it(plain: Profile) -> None:
    judge, rng = WindowJudge(plain), np.random.default_rng(5)
    for shift, expected in ((0.0, set()), (1.0, {("feature_drift", "x0")})):
        columns = independent(rng, 1000, shift=shift)
        columns["x0"][0] = 1e6
        assert held(judge.observe(DAY, window_of(plain, columns), release="m/1")) == expected


def test_an_outlier_in_the_reference_does_not_shrink_a_sigma() -> None:
    columns = independent(np.random.default_rng(5), 20_000)
    columns["x0"][0] = 1e6
    profile = profile_of(columns, dates(40, 500))
    assert profile.features[0].sigma == pytest.approx(1.0, abs=0.05)


def test_one_broken_column_hides_no_other(plain: Profile) -> None:
    columns = independent(np.random.default_rng(6), 1000, shift=1.0)
    columns["x1"] = [None] * 1000
    columns["x2"] = [str(value) for value in columns["x2"]]
    del columns["x3"]
    holding = held(WindowJudge(plain).observe(DAY, window_of(plain, columns), release="m/1"))
    assert holding == {
        ("feature_drift", "x0"),
        ("null_burst", "x1"),
        ("schema", "x2"),
        ("invalid_values", "x2"),
        ("schema", "x3"),
    }


@pytest.mark.parametrize("rows", [1, 29, 99])
def test_too_few_rows_are_no_answer_and_never_false(plain: Profile, rows: int) -> None:
    window = window_of(plain, independent(np.random.default_rng(7), rows, shift=9.0))
    for observation in WindowJudge(plain).observe(DAY, window, release="m/1"):
        if observation.type == "feature_drift":
            assert (observation.holds, observation.effect) == (None, None)
            assert "at least 100" in observation.message


def test_outputs_are_predictions() -> None:
    rng = np.random.default_rng(8)
    outputs = {"probability": rng.beta(2, 5, 6000).tolist()}
    profile = profile_of(independent(rng, 6000), dates(30, 200), outputs=outputs)
    event = event_of(independent(rng, 500), outputs={"probability": rng.beta(4, 3, 500).tolist()})
    window = WindowState.of(profile)
    window.add(profile, [event])
    holding = held(WindowJudge(profile).observe(DAY, window, release="m/1"))
    assert holding == {("prediction_drift", "outputs.probability")}


def weeks_before(profile: Profile, make: Callable[[], Columns], count: int) -> list[Any]:
    newest = date.fromisoformat(DAY)
    names = [str(newest - timedelta(weeks=week)) for week in range(count, 0, -1)]
    return [(name, window_of(profile, make())) for name in names]


def test_a_change_that_the_last_weeks_share_is_told_from_a_sudden_one(daily: Profile) -> None:
    judge, rng = WindowJudge(daily), np.random.default_rng(9)

    def moved() -> Columns:
        return day(rng, ROWS, shift=5.0)

    past = weeks_before(daily, moved, 5)
    past[0] = past[0][0], window_of(daily, day(rng, ROWS, shift=-5.0))  # too long ago to count
    slow = judge.observe(DAY, window_of(daily, moved()), past, release="m/1")
    evidence = found(slow, "feature_drift", "x0").evidence
    assert evidence["holds"] == {"training": True, "week": False, "anchor": None}
    back = judge.observe(
        DAY, window_of(daily, day(rng, ROWS)), weeks_before(daily, moved, 5), release="m/1"
    )
    drift = found(back, "feature_drift", "x0")
    assert drift.evidence["holds"] == {"training": False, "week": True, "anchor": None}
    assert "against the last weeks" in drift.message


def test_fewer_than_four_weeks_say_nothing(daily: Profile) -> None:
    rng = np.random.default_rng(10)
    past = weeks_before(daily, lambda: day(rng, ROWS, shift=5.0), 3)
    window = window_of(daily, day(rng, ROWS))
    drift = found(
        WindowJudge(daily).observe(DAY, window, past, release="m/1"), "feature_drift", "x0"
    )
    assert drift.evidence["holds"]["week"] is None


def test_the_anchor_measures_what_retraining_forgets(plain: Profile) -> None:
    rng = np.random.default_rng(11)
    later = profile_of(independent(rng, 20_000, shift=1.0), dates(40, 500))
    window = window_of(later, independent(rng, 2000, shift=1.0))
    observations = WindowJudge(later, plain).observe(DAY, window, release="m/2")
    anchor = found(observations, "feature_drift", "anchor")
    assert held(observations) == {("feature_drift", "anchor")}
    assert anchor.severity == "info"
    assert list(anchor.evidence["features"]) == ["x0"]
    assert anchor.evidence["features"]["x0"]["shift"] == pytest.approx(1.0, abs=0.15)
    holds = found(observations, "feature_drift", "x0").evidence["holds"]
    assert holds == {"training": False, "week": None, "anchor": True}
    same = WindowJudge(later, later).observe(DAY, window, release="m/2")
    assert not [o for o in same if o.subject == "anchor"]


def test_an_hour_is_not_compared_with_days(daily: Profile) -> None:
    window = window_of(daily, day(np.random.default_rng(12), ROWS, shift=9.0))
    drift = found(
        WindowJudge(daily).observe("2013-04-01T10", window, release="m/1"), "feature_drift", "x0"
    )
    assert drift.holds is None
    assert "windows of this length" in drift.message


def test_an_empty_window_is_a_volume_of_none(daily: Profile) -> None:
    rng = np.random.default_rng(13)
    past = weeks_before(daily, lambda: day(rng, ROWS), 4)
    observations = WindowJudge(daily).observe(DAY, WindowState.of(daily), past, release="m/1")
    assert held(observations) == {("volume", "")}
    others = {o.holds for o in observations if o.type != "volume"}
    assert others == {None}


def test_a_segment_is_compared_with_itself(daily: Profile) -> None:
    rng = np.random.default_rng(14)
    judge = WindowJudge(daily)

    def segment(shift: float = 0.0) -> WindowState:
        return window_of(daily, day(rng, 150, shift=3.0 + shift))

    past = [(f"2013-03-{k:02}", segment()) for k in range(1, 29)]
    told = {"release": "m/1", "segment": "c0=c1"}
    assert judge.observe_segment(DAY, segment(), past[:10], **told) == []
    quiet = judge.observe_segment(DAY, segment(), past, **told)
    assert held(quiet) == set()
    assert len(quiet) == len(TYPES)
    loud = judge.observe_segment(DAY, segment(6.0), past, **told)
    assert held(loud) == {("feature_drift", "c0=c1/x0")}


def test_figures_are_those_of_the_observations(plain: Profile) -> None:
    judge = WindowJudge(plain)
    window = window_of(plain, independent(np.random.default_rng(15), 1000, shift=0.8))
    figures = judge.figures(DAY, window)
    drift = found(judge.observe(DAY, window, release="m/1"), "feature_drift", "x0")
    assert (figures["state"], figures["feature"]) == ("drift", "x0")
    assert figures["features"]["x0"]["psi"] == pytest.approx(drift.effect)
    assert figures["figure"] == pytest.approx(drift.effect / drift.limit)  # type: ignore[operator]
    few = judge.figures(DAY, window_of(plain, independent(np.random.default_rng(16), 20)))
    assert (few["state"], few["figure"]) == ("not enough data", None)


def test_every_observation_is_small_and_judged_twice_the_same(daily: Profile) -> None:
    rng = np.random.default_rng(17)
    past = weeks_before(daily, lambda: day(rng, ROWS), 5)
    other = profile_of(independent(rng, 2000))
    judge = WindowJudge(daily, other)
    window = window_of(daily, day(rng, ROWS, shift=3.0))
    observations = judge.observe(DAY, window, past, release="m/1")
    assert observations == WindowJudge(daily, other).observe(DAY, window, past, release="m/1")
    assert max(len(orjson.dumps(o.evidence)) for o in observations) <= 4096
    keys = [(o.type, o.subject) for o in observations]
    assert len(keys) == len(set(keys))


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(["x", "c", "b", "other"]), ODD, max_size=4),
    st.integers(0, 150),
    st.booleans(),
)
def test_nothing_that_may_arrive_raises(values: dict[str, Any], rows: int, flat: bool) -> None:
    columns = {"x": [1.0, 1.0] if flat else [0.0, 2.0], "c": ["a", None], "b": [None, None]}
    types: dict[str, Any] = {"x": "double", "c": "string", "b": "double"}
    profile = parse_profile(orjson.dumps(build(columns, types)))
    window = WindowState.of(profile)
    window.add(
        profile, [event_of({}, rows=rows, inputs={n: [v] * rows for n, v in values.items()})]
    )
    judge = WindowJudge(profile, profile_of(independent(np.random.default_rng(0), 50)))
    for observation in judge.observe(DAY, window, [(DAY, window)] * 4, release="m/1"):
        orjson.dumps(observation.evidence)
