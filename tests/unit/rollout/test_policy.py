"""A policy is read strictly; every mistake is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.rollout.policy import Policy, Shadow, parse_policy


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"minimum_calls": 3}, "minimum_calls is not a key; .*minimum_units now"),
        ({"steps": [50, 10]}, "rising"),
        ({"steps": [0]}, "1 to 99"),
        ({"minimum_units": 2.5}, "minimum_units = 2.5: expected a whole number"),
        ({"minimum_units": True}, "minimum_units = True"),
        ({"error_margin": 1.5}, "error_margin = 1.5: expected a number from 0 to 1"),
        ({"latency_ratio": 0.9}, "latency_ratio = 0.9: expected a number from 1"),
        ({"max_seconds": float("nan")}, "max_seconds = nan"),
        ({"on_inconclusive": "wait"}, "on_inconclusive = 'wait': expected abort or hold"),
        ({"shadow": {}}, "shadow is empty"),
        ({"shadow": {"hours": 1}}, "shadow: hours is not a key; expected one of labels, seconds"),
        ({"shadow": 10, "steps": []}, "shadow needs steps"),
    ],
)
def test_what_is_wrong_is_named(value: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_policy(value)


def test_a_number_of_units_is_the_short_form_of_a_shadow() -> None:
    assert parse_policy({"shadow": 500}).shadow == Shadow(units=500)
    assert parse_policy({"shadow": {"labels": 500}}).weights == (0, 10, 50)
    assert parse_policy({}).weights == (10, 50)


@given(
    st.builds(
        Policy,
        steps=st.sampled_from([(5,), (10, 50)]),
        minimum_units=st.integers(0, 10**6),
        error_margin=st.floats(0, 1),
        on_inconclusive=st.sampled_from(["abort", "hold"]),
        shadow=st.one_of(st.none(), st.builds(Shadow, units=st.integers(1, 10**6))),
    )
)
def test_a_policy_survives_its_file(policy: Policy) -> None:
    assert parse_policy(json.loads(json.dumps(policy.to_json()))) == policy
