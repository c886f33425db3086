from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.ledger.call import CALL_FIELDS, Call
from proa.ledger.prices import CallPrice, TokenPrice

KEYS = (
    "schema_version request parent door started latency_ms ttft_ms key team feature user unit "
    "purpose kind model release track engine status error tokens_in tokens_out cost_micro price "
    "rows stream complete trace bins finish_reason refused guard_hits agreed"
)


def a_call(**change: Any) -> Call:
    values: dict[str, Any] = {
        "request": "01J0000000000000000000000A",
        "door": "user",
        "started": "2026-11-21T12:00:00.000000Z",
        "latency_ms": 1.5,
        "key": "abc",
        "team": "t",
        "feature": "f",
        "purpose": "user",
        "kind": "classic",
        "status": 200,
    }
    return Call(**{**values, **change})


def test_every_key_of_version_1_is_present_and_in_order() -> None:
    assert " ".join(CALL_FIELDS) == KEYS
    assert " ".join(orjson.loads(a_call().to_bytes())) == KEYS


def test_a_call_comes_back_and_is_one_line() -> None:
    call = a_call(user="two\nlines", tokens_in=3, complete=False)
    assert b"\n" not in call.to_bytes()
    assert Call.from_bytes(call.to_bytes()) == call
    assert Call.from_wire(call.to_wire()) == call


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schema_version":2}', "schema_version = 2 of a call: expected 1"),
        (b'{"schema_version":1,"x":1}', r"lacks \['complete'.*unknown \['x'\]"),
    ],
)
def test_other_lines_are_no_calls(line: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Call.from_bytes(line)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**8), st.integers(0, 10**8))
def test_cost_is_within_half_a_micro(into: int, out: int, rate_in: int, rate_out: int) -> None:
    exact = into * rate_in + out * rate_out
    assert abs(TokenPrice(rate_in, rate_out).cost(into, out) * 1_000_000 - exact) <= 500_000


def test_unknown_counts_cost_nothing_and_zero_is_a_price() -> None:
    assert TokenPrice(10**6, 10**6).cost(None, None) == 0
    assert TokenPrice(0, 0).cost(10, 10) == 0
    assert str(TokenPrice(150_000, 600_000)) == "tokens:150000:600000"
    assert str(CallPrice(20)) == "call:20"


@pytest.mark.parametrize("rate", [None, -1, 1.5, "3", True])
def test_bad_rates_are_named(rate: object) -> None:
    with pytest.raises(InvalidInput, match=r"prices\.classic_call_micro = "):
        CallPrice.parse({"classic_call_micro": rate}, where="prices")
    with pytest.raises(InvalidInput, match=r"e\.prices\.output_per_million_micro = "):
        TokenPrice.parse(
            {"input_per_million_micro": 1, "output_per_million_micro": rate}, where="e.prices"
        )
