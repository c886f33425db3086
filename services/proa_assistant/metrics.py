"""The assistant's metrics. One process serves one release; labels are proa's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from proa.events.event import Event
from proa.release.reference import ReleaseRef

__all__ = ["Metrics"]

_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0
)  # fmt: skip


class Metrics:
    """Everything `/metrics` of an assistant says."""

    def __init__(self, ref: ReleaseRef | None) -> None:
        self.registry = registry = CollectorRegistry()
        info = Gauge(
            "proa_assistant_release_info", "The release that is served; always 1",
            ("model", "version", "digest"), registry=registry,
        )  # fmt: skip
        if ref is not None:
            info.labels(ref.name, str(ref.version), ref.digest).set(1)
        self.requests = Counter(
            "proa_assistant_requests", "Requests answered, by HTTP status", ("status",),
            registry=registry,
        )  # fmt: skip
        self.errors = Counter(
            "proa_assistant_errors", "Requests that failed, by the error's code", ("code",),
            registry=registry,
        )  # fmt: skip
        self.latency = Histogram(
            "proa_assistant_latency_seconds", "Seconds until an answer was complete",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.ttft = Histogram(
            "proa_assistant_ttft_seconds", "Seconds until the engine's first text",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.prepare = Histogram(
            "proa_assistant_prepare_seconds", "Seconds of guard, retrieval and packing",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "proa_assistant_tokens", "Tokens by direction", ("direction",), registry=registry
        )
        self.refusals = Counter(
            "proa_assistant_refusals", "Requests turned down with a fixed text", registry=registry
        )
        self.guard = Counter(
            "proa_assistant_guard", "Guard rules that fired", ("rule", "where", "action"),
            registry=registry,
        )  # fmt: skip
        self.under_way = Gauge("proa_assistant_under_way", "Requests under way", registry=registry)

    def count(self, event: Event) -> None:
        """Add one request by what its event says."""
        self.requests.labels(str(event["status"])).inc()
        self.latency.observe(event["latency_ms"] / 1000)
        if event["ttft_ms"] is not None:
            self.ttft.observe(event["ttft_ms"] / 1000)
        for direction in ("in", "out"):
            self.tokens.labels(direction).inc(event[f"tokens_{direction}"] or 0)
        for finding in event["guard"]:
            self.guard.labels(finding["rule"], finding["where"], finding["action"]).inc()

    def counter(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A counter kept elsewhere, read when somebody looks."""
        self.registry.register(_Read(f"proa_assistant_{name}", meaning, value))


class _Read(Collector):
    def __init__(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        self._name, self._meaning, self._value = name, meaning, value

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._meaning, value=self._value())
