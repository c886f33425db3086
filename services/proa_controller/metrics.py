"""The controller's metrics: who leads, what is under way, per model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proa.errors import Unavailable
from proa.ledger.worklist import Worklist
from proa.retraining.request import OPEN
from proa_controller.core import Controller

if TYPE_CHECKING:
    from proa_controller.leadership import Leadership
    from proa_controller.retrainer import Retrainer

_PHASES = ("idle", "gating", "canary", "promoting", "returning")


class ControllerMetrics:
    """A collector that reads the controller's state when Prometheus asks."""

    def __init__(
        self,
        registry: CollectorRegistry,
        controller: Controller,
        leadership: Leadership | None = None,
        retrainer: Retrainer | None = None,
        worklist: Worklist | None = None,
    ) -> None:
        self._registry = registry
        self._controller = controller
        self._leadership = leadership
        self._retrainer = retrainer
        self._worklist = worklist

    def publish(self) -> None:
        """Register with Prometheus."""
        self._registry.register(self)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not ask for the state."""
        return []

    def collect(self) -> Iterator[Metric]:
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
            yield from self._retraining()
            yield from self._bad_answers()

    def _bad_answers(self) -> Iterator[Metric]:
        if self._worklist is None:
            return
        items = GaugeMetricFamily(
            "proa_worklist_open", "Bad answers that nobody has decided about.", labels=["model"]
        )
        try:
            counts = self._worklist.open_counts()
        except Unavailable:
            return  # everything else can still be told
        for name in self._controller.language_models():
            items.add_metric([name], counts.get(name, 0))
        yield items

    def _retraining(self) -> Iterator[Metric]:
        """Requests of models that are retrained by themselves, as they were last known."""
        if self._retrainer is None:
            return
        if self._retrainer.looked_at is not None:
            yield GaugeMetricFamily(
                "proa_retraining_last_look_timestamp_seconds",
                "When the findings of every model were last read.",
                self._retrainer.looked_at,
            )
        of, in_state = ["model"], ["model", "state"]
        state = GaugeMetricFamily(
            "proa_retraining_state", "1 for the state of a model's request.", labels=in_state
        )
        asked = CounterMetricFamily(
            "proa_retraining_requests", "Requests, by what asked.", labels=["model", "cause"]
        )
        ended = CounterMetricFamily(
            "proa_retraining_runs", "Requests that ended, by how.", labels=["model", "outcome"]
        )
        stopped = GaugeMetricFamily(
            "proa_retraining_stopped", "1 while the circuit breaker is open.", labels=of
        )
        waits = GaugeMetricFamily(
            "proa_retraining_approval_waiting", "1 while a person must say yes.", labels=of
        )
        blocked = GaugeMetricFamily(
            "proa_retraining_data_blocked", "1 while broken data hold a request back.", labels=of
        )
        for name in self._controller.retraining_models():
            past = self._controller.retraining_counts(name)
            now = "idle" if past.open is None else past.open.state
            for word in ("idle", *OPEN):
                state.add_metric([name, word], float(now == word))
            for cause, count in Counter(request.cause for request in past.requests).items():
                asked.add_metric([name, cause], count)
            ends = Counter(str(r.state) for r in past.requests if not r.is_open)
            for word in ("done", "failed", "withdrawn"):
                ended.add_metric([name, word], ends[word])
            stopped.add_metric([name], float(past.stopped))
            waits.add_metric([name], float(now == "awaiting_approval"))
            blocked.add_metric([name], float(self._controller.looked(name).blocked))
        yield from (state, asked, ended, stopped, waits, blocked)

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
