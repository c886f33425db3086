"""Two databases, the same calls: the same bill, counts, percentiles and tallies, digit by digit."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proa.http.ids import new_id
from proa.ledger.call import Call
from proa.ledger.open import Ledger
from proa.ledger.store import DIMENSIONS, CallStore
from proa.ledger.tally import LATENCY_BASE
from tests.contract.ledger.conftest import served
from tests.contract.ledger.test_call_store import ONE, TWO, a_call
from tests.postgres import Server

SINCE, UNTIL = "2026-11-21T12:00:05.000000Z", "2026-11-21T12:00:40.000000Z"
# People's order and the order of bytes differ for these.
WORDS = ("a", "B", "b", "Á", "á", "z", "Z", "_", "-", "a b", "ab", "é", "e")

words = st.sampled_from(WORDS)
latencies = st.one_of(
    st.floats(0, 1e7, allow_subnormal=False),
    st.sampled_from([0.0, 1.0, 0.001, LATENCY_BASE, LATENCY_BASE**2]),
)
calls = st.builds(
    a_call,
    second=st.integers(0, 59),
    door=st.sampled_from(["user", "user", "engine"]),
    latency_ms=latencies,
    ttft_ms=st.none() | latencies,
    team=words,
    feature=words,
    user=st.none() | words,
    unit=st.none() | words,
    purpose=st.sampled_from(["user", "user", "user", "gate", "shadow"]),
    model=st.sampled_from(["m", "m", "m", None, "N", "n"]),
    release=st.sampled_from([ONE, TWO, None]),
    status=st.sampled_from([200, 200, 200, 400, 429, 499, 500, 503]),
    error=st.sampled_from([None, None, None, "client_gone", "shutdown", "broken_stream", "odd"]),
    tokens_in=st.none() | st.integers(0, 10**6),
    tokens_out=st.none() | st.integers(0, 10**6),
    cost_micro=st.integers(0, 10**9),
    rows=st.none() | st.integers(0, 1000),
    stream=st.booleans(),
    complete=st.booleans(),
    bins=st.sampled_from([None, '{"2":3}', '{"-4":1,"2":1}', '{"99999":7}']),
    finish_reason=st.sampled_from([None, "stop", "length"]),
    refused=st.none() | st.booleans(),
    guard_hits=st.none() | st.integers(0, 5),
    agreed=st.none() | st.floats(0, 1),
)


@pytest.fixture
def pair(
    postgres: Server, tmp_path: Path, open_url: Callable[[str], Ledger]
) -> Callable[[], tuple[CallStore, CallStore]]:
    """`pair()`: a store over each database, both empty again."""
    url = served(postgres)
    other = open_url(url).calls

    def make() -> tuple[CallStore, CallStore]:
        with psycopg.connect(url) as connection:
            connection.execute("TRUNCATE proa.calls")
        return open_url(f"sqlite:///{tmp_path}/{new_id()}.db").calls, other

    return make


def figures(store: CallStore) -> dict[str, Any]:
    return {
        "calls": store.calls(),
        "later": store.calls(since=SINCE, model="m", limit=7),
        "bills": {
            (by, since, until): store.costs(by=by, since=since, until=until)
            for by in DIMENSIONS
            for since, until in ((None, None), (SINCE, UNTIL))
        },
        "counts": {
            (model, since, purpose): list(
                store.counts(model=model, since=since, purpose=purpose).items()
            )
            for model in ("m", "n")
            for since in (None, SINCE)
            for purpose in ("user", "gate")
        },
        "tallies": {
            (since, until, purpose): {
                release: tally.to_wire()
                for release, tally in store.tallies(
                    model="m", since=since, until=until, purpose=purpose
                ).items()
            }
            for since, until in (("", None), (SINCE, UNTIL))
            for purpose in ("user", "shadow")
        },
    }


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(some=st.lists(calls, max_size=60), data=st.randoms(use_true_random=False))
def test_equal_to_the_last_digit(
    pair: Callable[[], tuple[CallStore, CallStore]], some: list[Call], data: random.Random
) -> None:
    causes = [call for call in some if call.door == "user"]
    for call in some:
        if call.door == "engine" and causes and data.random() < 0.5:
            object.__setattr__(call, "parent", data.choice(causes).request)
    one, other = pair()
    assert one.insert(some) == other.insert(data.sample(some, len(some))) == len(some)
    assert figures(one) == figures(other)


def test_a_tally_is_what_the_calls_say(pair: Callable[[], tuple[CallStore, CallStore]]) -> None:
    """Against sums made here, one call after the other, in another way."""
    dice = random.Random(5)
    some = [
        a_call(
            dice.randrange(60),
            unit=f"u{dice.randrange(300)}",
            latency_ms=dice.lognormvariate(3, 1),
            agreed=dice.randrange(8) / 7,
            status=dice.choice([200, 200, 200, 503]),
        )
        for _ in range(3000)
    ]
    good = [call for call in some if call.status < 400]
    by_unit: dict[str, list[float]] = defaultdict(list)
    for call in good:
        by_unit[call.unit or call.request].append(math.log(call.latency_ms))
    sums = [math.fsum(values) for values in by_unit.values()]
    one, other = pair()
    for store in (one, other):
        assert store.insert(dice.sample(some, len(some))) == len(some)
    assert figures(one) == figures(other)
    # Sums of fractions depend on the order in which they are added: not in all of twenty windows
    # would two databases agree by chance.
    for second in range(0, 60, 3):
        since = f"2026-11-21T12:00:{second:02d}.000000Z"
        assert one.tallies(model="m", since=since) == other.tallies(model="m", since=since)
    for store in (one, other):
        tally = store.tallies(model="m", since="")[ONE]
        found = tally.of("log_latency")
        assert (tally.calls, found.calls, found.units) == (3000, len(good), len(by_unit))
        # Latencies are counted in thousandths of a natural logarithm: 0.1 % of a latency.
        assert found.mean == pytest.approx(math.fsum(sums) / len(good), abs=5e-4)
        assert found.squares == pytest.approx(math.fsum(x * x for x in sums), rel=1e-3)
        assert found.raw_squares == pytest.approx(
            math.fsum(x * x for values in by_unit.values() for x in values), rel=1e-3
        )
        agreed = tally.of("agreed")
        assert agreed.mean == pytest.approx(
            math.fsum(call.agreed or 0 for call in good) / len(good), abs=5e-5
        )
        errors = tally.of("errors")
        assert (errors.total, errors.raw_squares) == (3000 - len(good), 3000 - len(good))
        assert sum(tally.latency.values()) == len(good)
        assert all(math.isfinite(value) for value in astuple(found))
