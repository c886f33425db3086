"""Errors, latency and cost of a service beside its windows before."""

from __future__ import annotations

import numpy as np

from proa.findings.observation import Observation
from proa.profile.operation import judge_cost, judge_operation
from proa_monitor.traffic import Traffic
from tests.unit.profile.questions import answer

PICK = np.random.default_rng(0)


def window(
    *, calls: int = 300, errors: float = 0.01, slow: float = 1.0, first_token: bool = True
) -> Traffic:
    """Calls of about 0.1 s times `slow`."""
    traffic = Traffic()
    traffic.add(
        answer(
            k,
            status=500 if PICK.random() < errors else 200,
            latency_ms=float(PICK.lognormal(4.6, 0.5)) * slow,
            ttft_ms=float(PICK.lognormal(3.0, 0.5)) * slow if first_token else None,
        )
        for k in range(calls)
    )
    return traffic


PAST = [window() for _ in range(10)]


def seen(now: Traffic, past: list[Traffic]) -> dict[str, Observation]:
    return {one.type: one for one in judge_operation(now, past)}


def test_ordinary_windows_show_nothing() -> None:
    for _ in range(30):
        assert [o.type for o in judge_operation(window(), PAST) if o.holds] == []


def test_errors_and_slowness_are_seen() -> None:
    found = seen(window(errors=0.06), PAST)
    assert found["errors"].holds is True
    assert found["latency"].holds is False
    found = seen(window(slow=4.0), PAST)
    assert found["latency"].holds is True
    assert found["first_token"].holds is True
    assert found["latency"].evidence["seconds"] == 0.25
    assert "took longer than 0.25 s" in found["latency"].message


def test_many_errors_are_bad_with_nothing_to_compare() -> None:
    found = seen(window(errors=0.3), [])
    assert found["errors"].holds is True
    assert found["errors"].severity == "critical"
    assert found["latency"].holds is None
    assert seen(window(errors=0.0), [])["errors"].holds is False
    assert seen(window(calls=10, errors=1.0), [])["errors"].holds is None


def test_without_tokens_nothing_is_said_of_them() -> None:
    assert "first_token" not in seen(window(first_token=False), [window(first_token=False)])
    assert seen(Traffic(), PAST)["errors"].holds is None
    assert seen(Traffic(), [Traffic()] * 9)["latency"].holds is None


def test_a_dearer_call_is_seen() -> None:
    past = [(10.0 + day % 3, 1000) for day in range(8)]
    assert judge_cost((12.0, 1000), past).holds is False
    assert judge_cost((30.0, 1000), past).holds is True
    assert judge_cost((30.0, 1000), past[:4]).holds is None
    assert judge_cost((0.0, 0), past).holds is None
