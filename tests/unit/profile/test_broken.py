"""Broken data: each column by itself, against what the reference has shown."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proa.findings.observation import Observation
from proa.profile.judge import WindowJudge
from proa.profile.reference import Profile, build, parse_profile
from proa.profile.volume import volume
from proa.profile.window import WindowState
from tests.unit.profile.worlds import event_of, found, held

ROWS = 1000
DAY = "2013-04-01"


def column(nulls: float, rows: int = ROWS) -> list[float | None]:
    missing = round(nulls * rows)
    return [None] * missing + [float(k % 50) for k in range(rows - missing)]


def profile_with(**columns: list[Any]) -> Profile:
    kinds = {
        name: type(next(v for v in values if v is not None)) for name, values in columns.items()
    }
    types: Any = {
        name: {float: "double", str: "string", bool: "boolean"}[kind]
        for name, kind in kinds.items()
    }
    rows = len(next(iter(columns.values())))
    return parse_profile(
        orjson.dumps(build(columns, types, blocks=[f"{k // 100:03}" for k in range(rows)]))
    )


def judged(profile: Profile, past: int = 0, **columns: list[Any]) -> list[Observation]:
    window = WindowState.of(profile)
    window.add(profile, [event_of(columns)])
    return WindowJudge(profile).observe(DAY, window, [(DAY, window)] * past, release="m/1")


def test_a_burst_of_nulls_is_measured_by_the_worst_block() -> None:
    rows = [None if k % 100 < (20 if k < 100 else 2) else float(k % 50) for k in range(2000)]
    profile = profile_with(x=rows)  # one block in twenty had 20 %, the others 2 %
    for share, holds in ((0.2, False), (0.25, False), (0.4, True), (1.0, True)):
        burst = found(judged(profile, x=column(share)), "null_burst", "x")
        assert burst.holds is holds
        assert burst.effect == pytest.approx(share)
        assert (burst.severity == "critical") == (share > 0.5)


def test_a_column_that_some_block_lacked_wholly_cannot_be_too_empty() -> None:
    profile = profile_with(x=[None] * 100 + [float(k) for k in range(900)])
    assert not found(judged(profile, x=column(1.0)), "null_burst", "x").holds


def test_values_that_are_no_numbers() -> None:
    profile = profile_with(x=column(0.0))
    broken = column(0.0)
    broken[:20] = [float("inf")] * 20
    assert held(judged(profile, x=broken)) == {("invalid_values", "x")}
    assert held(judged(profile, x=[*broken[:5], *column(0.0)])) == set()


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        (lambda v: v, False),
        (lambda v: v + 25, False),  # a spring after a winter: 23 to 65 after -2 to 40
        (lambda v: (v - 32) / 1.8, False),  # Celsius of cold days lies within what is known
        (lambda v: (v - 32) / 1.8 + 273.15, True),
        (lambda v: v * 1e6, True),
    ],
)
def test_another_unit_is_told_from_another_season(change: Any, holds: bool) -> None:
    profile = profile_with(x=[k % 43 - 2.0 for k in range(ROWS)])
    changed = [change(k % 43 - 2.0) for k in range(ROWS)]
    invalid = found(judged(profile, x=changed), "invalid_values", "x")
    assert invalid.holds is holds
    assert ("far off" in invalid.message) is holds


def test_a_share_instead_of_per_cent_is_another_unit() -> None:
    profile = profile_with(x=[float(12 + k % 89) for k in range(ROWS)])
    changed = [(12 + k % 89) / 100 for k in range(ROWS)]
    assert found(judged(profile, x=changed), "invalid_values", "x").holds


def test_a_column_of_another_type_or_none() -> None:
    profile = profile_with(x=column(0.0), b=[k % 2 == 0 for k in range(ROWS)], c=["a", "b"] * 500)
    text: list[Any] = [str(value) for value in column(0.0)]
    observations = judged(profile, x=text, b=[k % 2 for k in range(ROWS)])
    assert held(observations) == {
        ("schema", "x"), ("invalid_values", "x"),
        ("schema", "b"), ("new_category", "b"), ("feature_drift", "b"),
        ("schema", "c"),
    }  # fmt: skip
    schema = found(observations, "schema", "x")
    assert "no number" in schema.message
    assert schema.evidence["types"]["string"] == ROWS
    assert "is not there in 100.0% of rows" in found(observations, "schema", "c").message
    assert found(observations, "null_burst", "c").holds is False


def test_columns_that_the_release_does_not_know() -> None:
    profile = profile_with(x=column(0.0))
    quiet = found(judged(profile, x=column(0.0)), "schema")
    assert quiet.holds is False
    loud = found(judged(profile, x=column(0.0), y=[1] * ROWS), "schema")
    assert loud.holds
    assert loud.evidence["unknown"] == {"y": ROWS}
    assert "y" in loud.message


def test_a_column_that_is_not_watched_is_known() -> None:
    built = build({"x": [1.0], "at": ["2013"]}, {"x": "double", "at": "datetime"})
    profile = parse_profile(orjson.dumps(built))
    assert found(judged(profile, x=column(0.0), at=["2013"] * ROWS), "schema").holds is False


def test_new_categories_are_named() -> None:
    profile = profile_with(c=["UA", "DL"] * 500)
    assert not found(judged(profile, c=["UA"] * 995 + ["B6"] * 5), "new_category", "c").holds
    new = found(judged(profile, c=["UA", "DL"] * 400 + ["B6"] * 200), "new_category", "c")
    assert new.holds
    assert new.evidence["some"] == {"B6": 200}
    assert new.message.endswith("20.0% of rows: B6")


def test_a_flood_of_categories_and_an_id() -> None:
    profile = profile_with(c=["UA", "DL"] * 500, id=[str(k) for k in range(ROWS)])
    flood = [f"u{k}" for k in range(ROWS)]
    observations = judged(profile, c=flood, id=flood)
    assert found(observations, "category_flood", "c").holds
    assert found(observations, "category_flood", "c").effect == pytest.approx(ROWS, rel=0.15)
    assert found(observations, "category_flood", "id").holds is None


def aged(profile: Profile, seconds: list[float | None]) -> WindowState:
    window = WindowState.of(profile)
    features = {"weather_v1": {"age_seconds": seconds}}
    window.add(profile, [event_of({"x": column(0.0)}, features=features)])
    return window


@pytest.mark.parametrize(
    ("seconds", "holds"),
    [
        ([1800.0] * ROWS, False),
        ([1800.0] * 970 + [90_000.0] * 30, False),
        ([1800.0] * 900 + [90_000.0] * 100, True),
        ([1800.0] * 900 + [None] * 100, True),
    ],
)
def test_features_that_are_too_old(seconds: list[float | None], holds: bool) -> None:
    profile = profile_with(x=column(0.0))
    window = aged(profile, seconds)
    judge = WindowJudge(profile, max_age={"weather_v1": 21_600})
    told = found(judge.observe(DAY, window, release="m/1"), "stale_feature", "weather_v1")
    assert (told.holds, told.limit) == (holds, 21_600)
    unknown = WindowJudge(profile).observe(DAY, window, release="m/1")
    assert found(unknown, "stale_feature", "weather_v1").holds is None


def test_without_a_limit_the_last_weeks_say_what_is_old() -> None:
    profile = profile_with(x=column(0.0))
    past = [(DAY, aged(profile, [1800.0] * ROWS))] * 4
    judge = WindowJudge(profile)
    for seconds, holds in ((3000.0, False), (40_000.0, True)):
        window = aged(profile, [seconds] * ROWS)
        told = found(judge.observe(DAY, window, past, release="m/1"), "stale_feature", "weather_v1")
        assert told.holds is holds


@pytest.mark.parametrize(
    ("rows", "past", "holds"),
    [
        (900, [1000, 950, 1050, 990], False),
        (400, [1000, 950, 1050, 990], True),
        (0, [1000, 950, 1050, 990], True),
        (2500, [1000, 950, 1050, 990], True),
        (400, [1000, 300, 2000, 700], False),
        (400, [1000, 1000, 1000, 1000, 450], False),
        (400, [1000, 950, 1050], None),
        (0, [20, 30, 20, 30], None),
        (0, [], None),
    ],
)
def test_volume(rows: int, past: list[int], holds: bool | None) -> None:
    observation = volume(rows, past)
    assert observation.holds is holds
    if holds is not None:
        assert observation.effect is not None
        assert observation.limit is not None
        assert (observation.effect > observation.limit) is holds
