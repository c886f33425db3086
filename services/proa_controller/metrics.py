"""The controller's metrics: what is under way, per model."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from proa_controller.core import Controller

_PHASES = ("idle", "gating", "canary", "promoting", "returning")


class ControllerMetrics:
    """A collector that reads the controller's state when Prometheus asks."""

    def __init__(self, registry: CollectorRegistry, controller: Controller) -> None:
        self._registry = registry
        self._controller = controller

    def publish(self) -> None:
        """Register with Prometheus."""
        self._registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """`proa_rollout_phase{model,phase}` (1 for the present one), `proa_rollout_weight`."""
        phase = GaugeMetricFamily(
            "proa_rollout_phase", "1 for the phase a model is in.", labels=["model", "phase"]
        )
        weight = GaugeMetricFamily(
            "proa_rollout_weight", "The challenger's weight in percent.", labels=["model"]
        )
        for name in self._controller.names():
            status = self._controller.status(name)
            weight.add_metric([name], status["weight"])
            for word in _PHASES:
                phase.add_metric([name, word], float(status["phase"] == word))
        yield phase
        yield weight
