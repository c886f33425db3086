"""The controller's metrics: who leads, what is under way, per model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from proa_controller.core import Controller

if TYPE_CHECKING:
    from proa_controller.leadership import Leadership

_PHASES = ("idle", "gating", "canary", "promoting", "returning")


class ControllerMetrics:
    """A collector that reads the controller's state when Prometheus asks."""

    def __init__(
        self,
        registry: CollectorRegistry,
        controller: Controller,
        leadership: Leadership | None = None,
    ) -> None:
        self._registry = registry
        self._controller = controller
        self._leadership = leadership

    def publish(self) -> None:
        """Register with Prometheus."""
        self._registry.register(self)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not ask for the state."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All metrics; of models only from the controller that leads."""
        leading = self._leadership is None or self._leadership.leading
        yield GaugeMetricFamily(
            "proa_controller_leader", "1 in the controller that leads.", float(leading)
        )
        yield GaugeMetricFamily(
            "proa_controller_routes_generation",
            "Generation of the routes last written.",
            self._controller.routes_generation(),
        )
        if leading:
            yield from self._models()

    def _models(self) -> Iterator[GaugeMetricFamily]:
        phase = GaugeMetricFamily(
            "proa_rollout_phase", "1 for the phase a model is in.", labels=["model", "phase"]
        )
        weight = GaugeMetricFamily(
            "proa_rollout_weight", "The challenger's weight in percent.", labels=["model"]
        )
        ready = GaugeMetricFamily(
            "proa_rollout_rollback_ready",
            "1 while the previous release is warm, 0 while it should be and is not.",
            labels=["model"],
        )
        for name in self._controller.names():
            status = self._controller.status(name)
            weight.add_metric([name], status["weight"])
            if status["warm_seconds_left"] > 0:
                ready.add_metric([name], float(status["warm"]))
            for word in _PHASES:
                phase.add_metric([name, word], float(status["phase"] == word))
        yield phase
        yield weight
        yield ready
