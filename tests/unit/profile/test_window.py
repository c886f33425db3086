"""Windows: they add up, in any order and grouping, survive being written, and stay small."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.errors import Conflict, InvalidInput
from proa.profile.reference import Profile, build, build_answers, parse_profile
from proa.profile.window import WindowState

PROFILE = parse_profile(
    orjson.dumps(
        build(
            {"x": [0.0, 1.0, 2.0, 5.0], "c": ["a", "b", "a", None]},
            {"x": "double", "c": "string"},
            outputs={"probability": [0.1, 0.2, 0.3, 0.4]},
        )
    )
)
ANSWERS = parse_profile(orjson.dumps(build_answers([{"question": "why?", "refused": False}])))

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=2)
    | st.sampled_from(["a", "b", "zz", "y" * 70])
)
EVENTS = st.lists(
    st.integers(0, 3).flatmap(
        lambda rows: st.fixed_dictionaries(
            {
                "status": st.sampled_from([200, 500]),
                "rows": st.just(rows),
                "inputs": st.dictionaries(
                    st.sampled_from(["x", "c", "unknown", "more"]),
                    st.lists(VALUES, min_size=rows, max_size=rows),
                ),
                "outputs": st.just({}),
                "features": st.none()
                | st.fixed_dictionaries({"weather_v1": st.just({"age_seconds": [3600.0] * rows})}),
            }
        )
    ),
    max_size=5,
)


def counted(events: list[dict[str, Any]], profile: Profile = PROFILE) -> WindowState:
    window = WindowState.of(profile)
    window.add(profile, events)
    return window


@settings(max_examples=25)
@given(EVENTS, EVENTS, EVENTS)
def test_merge_is_associative_and_commutative(a: Any, b: Any, c: Any) -> None:
    x, y, z = counted(a), counted(b), counted(c)
    assert x.merge(y) == y.merge(x)
    assert x.merge(y).merge(z) == x.merge(y.merge(z))
    assert x.merge(WindowState.of(PROFILE)) == x


@settings(max_examples=25)
@given(EVENTS, EVENTS)
def test_counting_parts_is_counting_the_whole(a: Any, b: Any) -> None:
    assert counted(a).merge(counted(b)) == counted(a + b) == counted(b + a)
    by_one = WindowState.of(PROFILE)
    for event in a:
        by_one.add(PROFILE, [event])
        by_one.flush()
    assert by_one == counted(a)


@settings(max_examples=40)
@given(EVENTS)
def test_every_feature_counts_every_answered_row(events: Any) -> None:
    window = counted(events)
    answered = sum(event["rows"] for event in events if event["status"] < 400)
    assert window.rows == answered
    assert {sum(counts) for counts in window.counts.values()} == {answered}
    for name, counts in window.counts.items():
        nulls = counts[{f.name: f.bins.null for f in PROFILE.features}[name]]
        assert sum(window.features[name].kinds) == answered - nulls


@settings(max_examples=40)
@given(EVENTS)
def test_a_window_survives_being_written(events: Any) -> None:
    window = counted(events)
    read = WindowState.from_bytes(window.to_bytes())
    assert read == window
    assert read.to_bytes() == window.to_bytes()
    assert read.merge(window) == counted(events + events)


def numbers(count: int, seed: int, spread: float = 1.0) -> list[dict[str, Any]]:
    pick = random.Random(seed)
    columns = {"x": [pick.gauss(2, spread) for _ in range(count)], "c": ["a"] * count}
    return [{"status": 200, "rows": count, "inputs": columns, "outputs": {}}]


def test_moments_and_quantiles_of_parts_are_those_of_the_whole() -> None:
    parts = [numbers(4000, seed, spread=seed + 1) for seed in range(5)]
    values = np.array([v for part in parts for event in part for v in event["inputs"]["x"]])
    merged = counted(parts[0])
    for part in parts[1:]:
        merged = counted(part).merge(merged)
    moments = merged.moments("x")
    assert moments is not None
    assert moments.count == len(values)
    assert moments.mean == pytest.approx(values.mean())
    assert moments.sd == pytest.approx(values.std())
    assert (moments.least, moments.most) == (values.min(), values.max())
    shares = (0.05, 0.5, 0.95)
    found = merged.quantiles("x", shares)
    assert found is not None
    ranks = [(values <= value).mean() for value in found]
    assert ranks == pytest.approx(shares, abs=0.03)


def test_a_million_categories_and_columns_stay_small() -> None:
    window = counted(numbers(1000, 1))
    before = len(window.to_bytes())
    for start in range(0, 200_000, 1000):
        names = [f"poison-{k}" for k in range(start, start + 1000)]
        inputs = {"x": [1.0] * 1000, "c": names} | {name: [1] * 1000 for name in names[:20]}
        window.add(PROFILE, [{"status": 200, "rows": 1000, "inputs": inputs, "outputs": {}}])
    state = window.features["c"]
    assert state.distinct is not None
    assert state.distinct.get_estimate() == pytest.approx(200_000, rel=0.15)
    assert len(state.fresh) == len(window.unknown) == 16
    assert set(state.fresh.values()) == {1}
    assert len(window.to_bytes()) < before + 6000


def test_some_of_many_new_names_are_kept_with_exact_counts_however_they_come() -> None:
    pick = random.Random(3)
    names = [f"n{pick.randrange(60)}" for _ in range(900)]
    events = [
        {"status": 200, "rows": 1, "inputs": {"x": [1.0], "c": [name]}, "outputs": {}}
        for name in names
    ]
    whole = counted(events)
    merged = counted(events[:100]).merge(counted(events[500:]).merge(counted(events[100:500])))
    assert whole == merged
    assert all(count == names.count(name) for name, count in whole.features["c"].fresh.items())


def test_a_thinned_window_keeps_its_counts_and_loses_its_sketches() -> None:
    window = counted(numbers(500, 4))
    thin = window.thin()
    assert thin == window
    assert thin.quantiles("x", [0.5]) is None
    assert len(thin.to_bytes()) < len(window.to_bytes()) / 4
    together = thin.merge(window)
    assert together.rows == 1000
    assert together.quantiles("x", [0.5]) is None
    assert window.quantiles("x", [0.5]) is not None


def test_merging_changes_neither_side() -> None:
    a, b = counted(numbers(300, 5)), counted(numbers(300, 6))
    before = a.to_bytes(), b.to_bytes()
    merged = a.merge(b)
    merged.add(PROFILE, numbers(300, 7))
    merged.flush()
    assert (a.to_bytes(), b.to_bytes()) == before


def test_a_table_counts_as_its_events_do() -> None:
    events = numbers(5000, 8)
    table = WindowState.of(PROFILE)
    columns = events[0]["inputs"]
    nothing = [None] * 5000
    table.add_columns(PROFILE, {**columns, "outputs.probability": nothing})
    by_event = counted(events)
    assert (table.rows, table.counts) == (by_event.rows, by_event.counts)
    array = WindowState.of(PROFILE)
    array.add_columns(
        PROFILE,
        {"x": np.array(columns["x"]), "c": np.array(columns["c"]), "outputs.probability": nothing},
    )
    assert array == table


def test_many_odd_numbers_are_counted_as_few_are() -> None:
    odd = [float("nan"), float("inf"), float("-inf"), -1e300, 1e300, 0.0, 1.0, 5.0, None, 2.5]
    few = counted([{"status": 200, "rows": 10, "inputs": {"x": odd}, "outputs": {}}])
    many = WindowState.of(PROFILE)
    values = np.array([np.nan if v is None else v for v in odd] * 1000)
    none = [None] * 10_000
    many.add_columns(PROFILE, {"x": values, "c": none, "outputs.probability": none})
    assert many.counts["x"] == [n * 1000 for n in few.counts["x"]]


def test_answers_are_counted_by_what_can_be_read_off_them() -> None:
    event = {"status": 200, "question": "why?", "refused": True, "answer": "no"}
    window = counted([event, event | {"status": 503}], ANSWERS)
    assert window.rows == 1
    assert sum(window.counts["refused"]) == 1


def test_windows_in_other_bins_are_not_merged() -> None:
    with pytest.raises(Conflict, match="different bins"):
        counted([]).merge(WindowState.of(ANSWERS))


@pytest.mark.parametrize("data", [b"", b"{}", b"proa-window-1\n", b"proa-window-2\nnonsense"])
def test_what_is_no_window_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        WindowState.from_bytes(data)


def test_a_cut_window_is_refused() -> None:
    whole = counted(numbers(10, 9)).to_bytes()
    for length in range(0, len(whole), 37):
        with pytest.raises(InvalidInput):
            WindowState.from_bytes(whole[:length])
