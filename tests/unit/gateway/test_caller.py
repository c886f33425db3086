from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.http.headers import INTERNAL
from proa.ledger.keys import Key
from proa_gateway.caller import caller_of

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
FORGED = {
    b"x-proa-request": b"forged",
    b"x-proa-parent": b"P",
    b"x-proa-release": b"m/9@sha256:0",
    b"x-proa-track": b"challenger",
    b"x-proa-purpose": b"gate",
    b"x-proa-team": b"rich",
    b"x-proa-feature": b"other",
    b"x-proa-variant": b"v",
    b"x-proa-facts": b'9;;{"0":9}',
    b"x-proa-event-time": b"2013-04-01T00:00:00Z",
    b"x-proa-unit": b"u1",
    b"traceparent": TRACE.encode(),
}


def a_key(*rights: str) -> Key:
    return Key("id", "team", "feature", frozenset(rights), None, datetime.now(UTC), None)


def test_a_client_s_internal_headers_are_stripped() -> None:
    caller = caller_of(a_key("call"), FORGED)
    passed = caller.forwarded("R")
    assert passed == {
        "content-type": "application/json",
        "x-proa-request": "R",
        "x-proa-team": "team",
        "x-proa-feature": "feature",
        "x-proa-purpose": "user",
        "x-proa-unit": "u1",
        "traceparent": TRACE,
    }
    assert (caller.track, caller.parent, caller.release) == (None, None, None)
    assert caller.trace == "a" * 32
    assert set(FORGED) >= {name.encode() for name in INTERNAL}


def test_each_right_opens_its_own_headers() -> None:
    judge = caller_of(a_key("call", "judge"), FORGED)
    assert (judge.track, judge.purpose, judge.team) == ("challenger", "gate", "team")
    service = caller_of(a_key("internal"), FORGED)
    assert (service.team, service.feature, service.parent) == ("rich", "other", "P")
    assert service.purpose == "gate"
    assert service.forwarded("R")["x-proa-variant"] == "v"
    replay = caller_of(a_key("replay"), FORGED)
    assert replay.event_time == "2013-04-01T00:00:00.000000Z"
    assert replay.purpose == "user"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({b"x-proa-purpose": b"fun"}, "x-proa-purpose = 'fun': expected one of user, gate"),
        ({b"x-proa-unit": b"x" * 257}, "x-proa-unit has 257 characters"),
        ({b"x-proa-event-time": b"now"}, "x-proa-event-time = 'now'"),
    ],
)
def test_values_that_mean_nothing_are_named(headers: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        caller_of(a_key("admin"), headers)


def test_a_bad_traceparent_is_dropped_and_a_unit_never_breaks_a_header() -> None:
    caller = caller_of(a_key("call"), {b"traceparent": b"00-short"})
    assert (caller.trace, caller.traceparent) == (None, None)
    caller.unit = "zwei\r\nx-proa-team: rich ü"
    value = caller.forwarded("R")["x-proa-unit"]
    assert value.isascii()
    assert "\n" not in value
