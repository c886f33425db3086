"""The gateway's metrics. Labels hold only names from routes and engines, never a client's text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proa.ledger.call import Call

__all__ = ["Metrics"]

_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
_CALL: Final = ("door", "model", "track", "release", "status")


class _Series:
    """The children of one label set, looked up once."""

    __slots__ = ("calls", "cost", "latency", "tokens_in", "tokens_out", "ttft")

    def __init__(self, metrics: Metrics, call: Call) -> None:
        # At the engine door the model is the engine.
        model, track = call.engine or call.model or "", call.track or ""
        release, target = _short(call.release), (call.door, model)
        self.calls = metrics.calls.labels(call.door, model, track, release, str(call.status))
        self.latency = metrics.latency.labels(call.door, model, track, release)
        self.ttft = metrics.ttft.labels(call.door, model, track, release)
        self.tokens_in = metrics.tokens.labels(*target, "in")
        self.tokens_out = metrics.tokens.labels(*target, "out")
        self.cost = metrics.cost.labels(*target)


class Metrics:
    """Everything `/metrics` of the gateway says.

    `proa_gateway_calls_total` and `_latency_seconds` are for alerting (rate, errors, duration);
    decisions are made on the ledger's exact counts, never on these.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = Counter(
            "proa_gateway_calls", "Calls answered, by release and HTTP status", _CALL,
            registry=registry,
        )  # fmt: skip
        self.latency = Histogram(
            "proa_gateway_latency_seconds", "Seconds until an answer was complete", _CALL[:-1],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.ttft = Histogram(
            "proa_gateway_ttft_seconds", "Seconds until a stream's first content", _CALL[:-1],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "proa_gateway_tokens", "Tokens by door, model or engine, and direction",
            ("door", "model", "direction"), registry=registry,
        )  # fmt: skip
        self.cost = Counter(
            "proa_gateway_cost_micro", "Cost in millionths of the currency", ("door", "model"),
            registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "proa_gateway_refused", "Requests without a valid key or right", ("door", "code"),
            registry=registry,
        )  # fmt: skip
        self.broken = Counter(
            "proa_gateway_broken", "Answers which did not reach their end, by reason",
            ("door", "reason"), registry=registry,
        )  # fmt: skip
        self._series: dict[tuple[str | None, ...], _Series] = {}

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A gauge `proa_gateway_<name>` that is read when somebody looks."""
        Gauge(f"proa_gateway_{name}", meaning, registry=self.registry).set_function(value)

    def count(self, call: Call) -> None:
        """Add one finished call."""
        known = call.release is not None or call.engine is not None
        name = (
            call.door, call.model if known else None, call.track if known else None, call.release,
            call.engine, str(call.status),
        )  # fmt: skip
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = _Series(self, call if known else _nameless(call))
        series.calls.inc()
        series.latency.observe(call.latency_ms / 1000)
        if call.ttft_ms is not None:
            series.ttft.observe(call.ttft_ms / 1000)
        if call.tokens_in:
            series.tokens_in.inc(call.tokens_in)
        if call.tokens_out:
            series.tokens_out.inc(call.tokens_out)
        if call.cost_micro:
            series.cost.inc(call.cost_micro)
        if not call.complete:
            self.broken.labels(call.door, call.error or "").inc()


def _nameless(call: Call) -> Call:
    """A model nobody routes to is a client's text: it must not become a label."""
    from dataclasses import replace

    return replace(call, model=None, track=None)


def _short(release: str | None) -> str:
    return release.partition("@")[0] if release else ""
