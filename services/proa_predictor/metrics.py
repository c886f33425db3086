"""The predictor's metrics. One process serves one release, so only status and code are labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from proa.release.reference import ReleaseRef

__all__ = ["Metrics"]

_SECONDS: Final = (
    0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5
)  # fmt: skip


class Metrics:
    """Everything `/metrics` of a predictor says."""

    def __init__(self, ref: ReleaseRef | None) -> None:
        self.registry = registry = CollectorRegistry()
        info = Gauge(
            "proa_predictor_release_info", "The release that is served; always 1",
            ("model", "version", "digest"), registry=registry,
        )  # fmt: skip
        if ref is not None:
            info.labels(ref.name, str(ref.version), ref.digest).set(1)
        self._requests = Counter(
            "proa_predictor_requests", "Requests answered, by HTTP status", ("status",),
            registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "proa_predictor_errors", "Requests that failed, by the error's code", ("code",),
            registry=registry,
        )  # fmt: skip
        self._rows = Counter("proa_predictor_rows", "Rows answered", registry=registry)
        self._latency = Histogram(
            "proa_predictor_latency_seconds", "Seconds from a request's last byte to its answer",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._by_status = {200: self._requests.labels("200")}

    def count(self, status: int, seconds: float, rows: int) -> None:
        """Add one answered request."""
        series = self._by_status.get(status)
        if series is None:
            series = self._by_status[status] = self._requests.labels(str(status))
        series.inc()
        self._latency.observe(seconds)
        if rows:
            self._rows.inc(rows)

    def error(self, code: str) -> None:
        """Add one failure; codes are proa's own words, never a client's."""
        self._errors.labels(code).inc()

    def counter(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A counter kept elsewhere, read when somebody looks."""
        self.registry.register(_Read(f"proa_predictor_{name}", meaning, value))


class _Read(Collector):
    def __init__(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        self._name, self._meaning, self._value = name, meaning, value

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._meaning, value=self._value())
