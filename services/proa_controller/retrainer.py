"""The thread that follows findings: it asks the rule for the next step and takes it.

It holds no state: what it knows stands in the journal, and a run is found by its name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from proa.errors import ProaError
from proa.project.retrain import RetrainSection
from proa.retraining.policy import read_windows
from proa.retraining.request import Request
from proa.retraining.step import (
    CONTROLLER,
    Hold,
    Promote,
    Run,
    Step,
    Stop,
    Wait,
    Write,
    marked,
    next_step,
)
from proa_controller.core import Controller
from proa_controller.findings import Seen
from proa_controller.rounds import Rounds
from proa_controller.runs import Order, Runner

__all__ = ["Findings", "Retrainer"]

log = logging.getLogger("proa.controller")

_STEPS: Final = 20
"""More steps than one look ever needs."""


class Findings(Protocol):
    """The part of `MonitorFindings` that is needed."""

    def of(self, model: str) -> Seen:
        """Everything the monitor found of a model."""


class Retrainer:
    """Looks every `seconds`.

    Args:
        may: asked before every look; it is left out when the answer is no.
    """

    def __init__(
        self,
        controller: Controller,
        findings: Findings,
        runner: Runner,
        seconds: float,
        *,
        may: Callable[[], bool] | None = None,
    ) -> None:
        self._controller, self._findings, self._runner = controller, findings, runner
        self._rounds = Rounds("retrainer", self.look, seconds, may=may)
        self.looked_at: float | None = None
        """Epoch seconds of the last whole look."""

    def start(self) -> None:
        """Begin to look."""
        self._rounds.start()

    def stop(self) -> None:
        """End after the look under way, and what must not outlive this process."""
        self._rounds.stop()
        self._runner.close()

    def look(self) -> None:
        """One look at every model that is retrained; one's fault never stops the others."""
        whole = True
        for name in self._controller.retraining_models():
            try:
                self._look_at(name)
            except ProaError as error:
                self._controller.waits(name, error.message)
                log.warning("%s: retraining: %s", name, error)
                whole = False
            except Exception:
                log.exception("%s: retraining", name)
                whole = False
        if whole:
            self.looked_at = time.time()

    def _look_at(self, name: str) -> None:
        seen = self._findings.of(name)
        for _ in range(_STEPS):
            section = self._controller.retrain_section(name)
            situation = None
            if section is not None:
                situation = self._controller.situation(name, section, seen)
            if section is None or situation is None:
                return
            past = self._controller.retraining_past(name)
            last = past.requests[-1] if past.requests else None
            if last is not None and last.run is not None:
                look = self._runner.look(name, last.run)
                if look.word == "running" and not last.is_open:  # a person refused it meanwhile
                    self._runner.stop(name, last.run)
                situation = replace(situation, run=look.word, said=look.said)
            step = next_step(section, past, situation)
            if not self._take(name, section, step):
                return
        log.error("%s: retraining finds no end of steps", name)

    def _take(self, name: str, section: RetrainSection, step: Step) -> bool:
        """Take one step; whether there may be another now."""
        match step:
            case Write():
                self._controller.note_retraining(name, step)
                log.info("%s: %s: %s", name, step.action, step.reason)
                return True
            case Stop(request, then):
                self._runner.stop(name, str(request.run))
                self._controller.note_retraining(name, then)
                return True
            case Run(request):
                self._runner.start(_order(name, section, request))
                self._controller.waits(name, f"run {request.run} is under way")
            case Promote(request):
                reason = self._controller.promote_retrained(request)
                self._controller.waits(name, reason or "its rollout is under way")
            case Hold(note, reason):
                self._controller.note_retraining(name, note)
                self._controller.waits(name, reason)
            case Wait(reason):
                self._controller.waits(name, reason)
        return False


def _order(name: str, section: RetrainSection, request: Request) -> Order:
    """The run of a request's present attempt."""
    moved = read_windows(request.windows).overrides() if request.windows else {}
    run = str(request.run)
    return Order(
        model=name,
        run=run,
        overrides={**{key: _text(value) for key, value in section.set_.items()}, **moved},
        cause={
            "cause": f"{request.cause}: {request.lines[0]['reason'][:300]} {marked(run)}",
            "requested_by": CONTROLLER,
            "evidence": str(request.lines[0]["details"]["evidence"]),
        },
        project=section.project,
    )


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
