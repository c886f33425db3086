"""Window counts: they add up, in any order and grouping."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import Conflict, InvalidInput
from proa.profile.reference import Profile, build, build_answers, parse_profile
from proa.profile.window import WindowCounts

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

EVENTS = st.lists(
    st.integers(0, 3).flatmap(
        lambda rows: st.fixed_dictionaries(
            {
                "status": st.sampled_from([200, 500]),
                "rows": st.just(rows),
                "inputs": st.dictionaries(
                    st.sampled_from(["x", "c", "unknown"]),
                    st.lists(
                        st.none() | st.floats() | st.text(max_size=2), min_size=rows, max_size=rows
                    ),
                ),
                "outputs": st.just({}),
            }
        )
    ),
    max_size=5,
)


def counted(events: list[dict[str, Any]], profile: Profile = PROFILE) -> WindowCounts:
    window = WindowCounts.of(profile)
    window.add(profile, events)
    return window


@given(EVENTS, EVENTS, EVENTS)
def test_merge_is_associative_and_commutative(a: Any, b: Any, c: Any) -> None:
    x, y, z = counted(a), counted(b), counted(c)
    assert x.merge(y) == y.merge(x)
    assert x.merge(y).merge(z) == x.merge(y.merge(z))
    assert x.merge(WindowCounts.of(PROFILE)) == x


@given(EVENTS, EVENTS)
def test_counting_parts_is_counting_the_whole(a: Any, b: Any) -> None:
    assert counted(a).merge(counted(b)) == counted(a + b) == counted(b + a)


@given(EVENTS)
def test_every_feature_counts_every_answered_row(events: Any) -> None:
    window = counted(events)
    answered = sum(event["rows"] for event in events if event["status"] < 400)
    assert window.rows == answered
    assert {sum(counts) for counts in window.features.values()} <= {answered}


@given(EVENTS)
def test_counts_survive_json(events: Any) -> None:
    window = counted(events)
    assert WindowCounts.from_json(orjson.loads(orjson.dumps(window.to_json()))) == window


def test_answers_are_counted_by_what_can_be_read_off_them() -> None:
    event = {"status": 200, "question": "why?", "refused": True, "answer": "no"}
    window = counted([event, event | {"status": 503}], ANSWERS)
    assert window.rows == 1
    assert sum(window.features["refused"]) == 1


def test_windows_in_other_bins_are_not_merged() -> None:
    with pytest.raises(Conflict, match="different bins"):
        counted([]).merge(WindowCounts.of(ANSWERS))


def test_counts_of_another_version_are_refused() -> None:
    with pytest.raises(InvalidInput, match="version 2"):
        WindowCounts.from_json(counted([]).to_json() | {"schema_version": 2})
