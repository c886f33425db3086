"""What the store of calls promises over each database."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.http.ids import new_id
from proa.ledger.call import Call
from proa.ledger.open import Ledger
from proa.ledger.store import CallStore, Percentiles

ONE, TWO = "m/1@sha256:" + "a" * 64, "m/2@sha256:" + "b" * 64


@pytest.fixture
def store(ledger: Ledger) -> CallStore:
    return ledger.calls


def a_call(second: int = 0, **change: Any) -> Call:
    values: dict[str, Any] = {
        "request": new_id(),
        "door": "user",
        "started": f"2026-11-21T12:00:{second:02d}.000000Z",
        "latency_ms": 1.0,
        "key": "k",
        "team": "t",
        "feature": "f",
        "purpose": "user",
        "kind": "classic",
        "model": "m",
        "release": ONE,
        "track": "champion",
        "status": 200,
    }
    return Call(**{**values, **change})


def test_a_call_is_stored_once_however_often_it_comes(store: CallStore) -> None:
    call = a_call(tokens_in=3, stream=True, complete=False, unit="ü", trace="0" * 32)
    assert store.insert([call, call]) == 1
    assert store.insert([call]) == 0
    assert store.calls() == [call]
    other_door = a_call(request=call.request, door="engine")
    assert store.insert([other_door]) == 1


def test_inserts_from_many_threads_add_up(store: CallStore) -> None:
    shared = [a_call() for _ in range(50)]
    threads = [threading.Thread(target=store.insert, args=[shared]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.calls()) == 50


def test_what_postgres_has_no_text_for_is_stored_all_the_same(store: CallStore) -> None:
    plain, odd = a_call(1), a_call(2, user="a\0b", unit='\\u0000 "quoted" \\')
    assert store.insert([plain, odd]) == 2
    assert store.insert([odd]) == 0
    found = store.calls()
    assert found[0] == plain
    assert found[1].user in ("a\0b", "a\ufffdb")
    assert found[1].unit == odd.unit


def test_a_call_no_column_can_hold_spoils_no_other(store: CallStore) -> None:
    with pytest.raises(InvalidInput, match="cannot hold it"):
        store.insert([a_call(), a_call(tokens_in=2**63)])
    with pytest.raises(InvalidInput, match="cannot hold it"):
        store.insert([a_call(status=None)])
    assert store.calls() == []
    assert store.insert([a_call()]) == 1


def test_calls_are_found_by_time_model_and_cause(store: CallStore) -> None:
    late, early = a_call(30), a_call(10)
    caused = a_call(31, door="engine", model=None, release=None, parent=late.request, engine="e")
    other = a_call(20, model="n")
    store.insert([late, early, caused, other])
    assert store.calls() == [early, other, late, caused]
    assert store.calls(since="2026-11-21T12:00:30.000000Z") == [late, caused]
    assert store.calls(model="n") == [other]
    assert store.calls(request=late.request) == [late, caused]
    assert store.calls(limit=1) == [early]
    assert store.calls(request="nobody") == []
    for limit in (0, 10_001):
        with pytest.raises(InvalidInput, match=f"limit = {limit}"):
            store.calls(limit=limit)


def test_a_bill_counts_every_token_once_and_no_exam(store: CallStore) -> None:
    user = a_call(1, kind="llm", tokens_in=100, tokens_out=10)
    engine = a_call(
        1, door="engine", model=None, release=None, parent=user.request, engine="e",
        tokens_in=300, tokens_out=10, cost_micro=50,
    )  # fmt: skip
    classic = a_call(2, team="u", cost_micro=20, rows=1)
    exam = a_call(3, purpose="gate", cost_micro=7)
    store.insert([user, engine, classic, exam])
    by_team = {cost.key: cost for cost in store.costs(by="team")}
    assert by_team["t"].to_wire() == {
        "key": "t", "calls": 1, "engine_calls": 1, "tokens_in": 300, "tokens_out": 10,
        "cost_micro": 50,
    }  # fmt: skip
    assert by_team["u"].cost_micro == 20
    assert {cost.key: cost.cost_micro for cost in store.costs(by="purpose")} == {
        "user": 70,
        "gate": 7,
    }
    # The engine's call counts for the release that caused it.
    assert {cost.key: cost.cost_micro for cost in store.costs(by="release")} == {ONE: 77}
    late = store.costs(by="purpose", since="2026-11-21T12:00:02.000000Z")
    assert {cost.key: cost.cost_micro for cost in late} == {"user": 20, "gate": 7}
    early = store.costs(by="purpose", until="2026-11-21T12:00:02.000000Z")
    assert {cost.key: cost.cost_micro for cost in early} == {"user": 50}
    with pytest.raises(InvalidInput, match="by = 'colour': expected one of team, feature"):
        store.costs(by="colour")


def test_counts_are_by_release_and_name_every_outcome(store: CallStore) -> None:
    store.insert(
        [
            a_call(1, latency_ms=10.0, unit="a", rows=2, tokens_in=1, tokens_out=2),
            a_call(2, latency_ms=30.0, unit="a", ttft_ms=5.0, stream=True),
            a_call(3, latency_ms=0.1, status=503, error="upstream_down"),
            a_call(4, latency_ms=0.1, status=400, error="wrong_type", unit="b"),
            a_call(5, error="broken_stream", complete=False, ttft_ms=7.0),
            a_call(6, error="client_gone", complete=False, status=499),
            a_call(7, release=TWO),
            a_call(8, purpose="gate"),
            a_call(9, door="engine"),
            a_call(10, model="n"),
            a_call(11, release=None, status=503),
        ]
    )
    counts = store.counts(model="m")
    assert set(counts) == {ONE, TWO}
    one = counts[ONE]
    assert (one.calls, one.errors, one.client_gone, one.units, one.rows) == (6, 2, 1, 2, 2)
    assert (one.tokens_in, one.tokens_out) == (1, 2)
    assert one.latency_ms == Percentiles(10.0, 30.0, 30.0)
    assert one.ttft_ms == Percentiles(5.0, 7.0, 7.0)
    assert store.counts(model="m", purpose="gate")[ONE].calls == 1
    assert store.counts(model="m", since="2026-11-21T12:00:07.000000Z").keys() == {TWO}
    assert store.counts(model="nobody") == {}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(latencies=st.lists(st.floats(0, 1e6), min_size=1, max_size=150))
def test_percentiles_are_exact(store: CallStore, latencies: list[float]) -> None:
    model = new_id()
    store.insert([a_call(latency_ms=value, model=model) for value in latencies])
    ordered = sorted(latencies)
    expected = [ordered[math.ceil(q * len(ordered) / 100) - 1] for q in (50, 95, 99)]
    counts = store.counts(model=model)[ONE]
    assert counts.calls == len(latencies)
    assert counts.latency_ms == Percentiles(*expected)
