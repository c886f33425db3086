"""One request to an upstream: what is sent, and how its answer is counted and charged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from proa.http.facts import parse_facts
from proa.ledger.prices import CallPrice, TokenPrice
from proa_gateway.calls import CallUnderWay
from proa_gateway.streams import StreamTally, assistant_facts

__all__ = ["Errand", "count_rows", "count_tokens"]


@dataclass(frozen=True, slots=True)
class Errand:
    """One request to an upstream.

    Attributes:
        what: names the upstream in errors, for people.
        count: reads what a good answer was from its body and `x-proa-facts` into the call.
        price: what the caller is charged; None when another door charges it.
        chat: the answer is long and dear: it is cancelled when the client leaves.
        tally: of the stream that the client asked for.
        shadow: is given the call and this errand once the client has its answer.
        own_key: the upstream is sent a key of ours, so its 401 and 403 are none of the client's.
    """

    url: str
    path: str
    body: bytes
    headers: dict[str, str]
    what: str
    count: Callable[[CallUnderWay, bytes, str | None], None]
    price: CallPrice | TokenPrice | None = None
    chat: bool = False
    tally: StreamTally | None = None
    own_key: bool = False
    shadow: Callable[[CallUnderWay, Errand], None] | None = None

    def charge(self, call: CallUnderWay) -> None:
        """Set what the call costs, and the rates it is charged by."""
        if self.price is None:
            return
        call.price = str(self.price)
        if isinstance(self.price, CallPrice):
            call.cost_micro = self.price.per_call_micro
        else:
            call.cost_micro = self.price.cost(call.tokens_in, call.tokens_out)


def count_tokens(call: CallUnderWay, body: bytes, _facts: str | None) -> None:
    """Read a chat completion; what an upstream does not say stays unknown."""
    answer = _decode(body)
    usage, choices = answer.get("usage"), answer.get("choices")
    if isinstance(usage, dict):
        call.tokens_in = _whole(usage.get("prompt_tokens"))
        call.tokens_out = _whole(usage.get("completion_tokens"))
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        reason = choices[0].get("finish_reason")
        call.finish_reason = reason[:32] if isinstance(reason, str) else None
    call.refused, call.guard_hits = assistant_facts(answer.get("proa"))


def count_rows(call: CallUnderWay, body: bytes, facts: str | None) -> None:
    """What the service says of itself, else the rows of an inference answer
    (`outputs[0].shape[0]`) or of plain `predictions`.
    """
    told = parse_facts(facts)
    if told is not None:
        call.rows, call.bins, call.decisions = told.rows, told.bins, told.decisions
        return
    answer = _decode(body)
    predictions, outputs = answer.get("predictions"), answer.get("outputs")
    if isinstance(predictions, list):
        call.rows = len(predictions)
    elif isinstance(outputs, list) and outputs and isinstance(outputs[0], dict):
        shape = outputs[0].get("shape")
        call.rows = _whole(shape[0]) if isinstance(shape, list) and shape else None


def _decode(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
