"""Calls as counted from events: how many, how fast, how large; sums that can be merged."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from proa.events.event import Event

__all__ = ["LATENCY_SECONDS", "Traffic"]

LATENCY_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the buckets of latency and time to first token; above them lies one more."""


def _buckets() -> list[int]:
    return [0] * (len(LATENCY_SECONDS) + 1)


@dataclass(slots=True)
class Traffic:
    """Sums over predictions and answers.

    Attributes:
        errors: calls answered with 400 or more.
        rows: rows scored; one per answer of a language model.
        latency, first_token: calls per bucket of `LATENCY_SECONDS`.
        latency_seconds, first_token_seconds: their sums.
        first, last: least and greatest event time; empty before the first call.
    """

    calls: int = 0
    errors: int = 0
    rows: int = 0
    refused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency: list[int] = field(default_factory=_buckets)
    latency_seconds: float = 0.0
    first_token: list[int] = field(default_factory=_buckets)
    first_token_seconds: float = 0.0
    first: str = ""
    last: str = ""

    def add(self, events: Iterable[Event]) -> None:
        """Count checked predictions and answers, in place."""
        for event in events:
            self.calls += 1
            self.errors += event["status"] >= 400
            seconds = event["latency_ms"] / 1000
            self.latency[bisect_left(LATENCY_SECONDS, seconds)] += 1
            self.latency_seconds += seconds
            time = event["time"]
            if time > self.last:
                self.last = time
            if time < self.first or not self.first:
                self.first = time
            if event["type"] == "prediction":
                self.rows += event["rows"]
            else:
                self._add_answer(event)

    def _add_answer(self, event: Event) -> None:
        self.rows += event["status"] < 400
        self.refused += event["refused"]
        self.tokens_in += event["tokens_in"] or 0
        self.tokens_out += event["tokens_out"] or 0
        if event["ttft_ms"] is not None:
            seconds = event["ttft_ms"] / 1000
            self.first_token[bisect_left(LATENCY_SECONDS, seconds)] += 1
            self.first_token_seconds += seconds

    def merge(self, other: Traffic) -> Traffic:
        """The sums of both together, as a new value."""
        merged: dict[str, Any] = {}
        for name, mine in asdict(self).items():
            theirs = getattr(other, name)
            if name == "last":
                merged[name] = max(mine, theirs)
            elif name == "first":
                merged[name] = min(filter(None, (mine, theirs)), default="")
            elif isinstance(mine, list):
                merged[name] = [a + b for a, b in zip(mine, theirs, strict=True)]
            else:
                merged[name] = mine + theirs
        return Traffic(**merged)

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` of the calls took at most, interpolated within its bucket."""
        wanted, below = share * self.calls, 0
        if not self.calls:
            return None
        for place, (upper, count) in enumerate(zip(LATENCY_SECONDS, self.latency, strict=False)):
            if count and below + count >= wanted:
                lower = LATENCY_SECONDS[place - 1] if place else 0.0
                return lower + (upper - lower) * (wanted - below) / count
            below += count
        return LATENCY_SECONDS[-1]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Traffic:
        return cls(**value)
