"""Watches the registry's aliases: `challenger` asks, `champion` reports.

Polls, because MLflow's webhooks refuse addresses inside a cluster by default. MLflow may be down
for as long as it likes: nothing else waits for this thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from proa.errors import ProaError, Unavailable
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION, Pointer
from proa_controller.core import Controller

log = logging.getLogger("proa.controller")


class Aliases(Protocol):
    """The part of `proa.release.registry.Registry` that is watched."""

    def pointers(self, name: str) -> Mapping[str, Pointer]:
        """Where each alias of a model points; empty when the model is unknown."""

    def digest(self, name: str, version: int) -> str | None:
        """The digest a version carries; None when there is no such version, or it has none."""

    def set_alias(self, ref: ReleaseRef, alias: str) -> None:
        """Point an alias at a release."""

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; harmless when it is not there."""


class Watcher:
    """One thread that looks every `seconds`.

    Args:
        may: asked before every look; it is left out when the answer is no.
    """

    def __init__(
        self,
        controller: Controller,
        registry: Aliases,
        seconds: float,
        *,
        may: Callable[[], bool] | None = None,
    ) -> None:
        self._controller = controller
        self._registry = registry
        self._seconds = seconds
        self._may = may
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aliases", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the look under way."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            if self._may is not None and not self._may():
                continue
            try:
                self.look()
            except Exception:
                log.exception("a look at the aliases failed and is tried again")

    def look(self) -> None:
        """One look at every model's aliases; what is wrong there goes into the model's status."""
        names = self._controller.names()
        try:
            for name in names:
                self._look_at(name)
        except Unavailable as error:  # for every model: none waits for the others' time-outs
            for name in names:
                self._controller.registry_says(name, error.message)

    def _look_at(self, name: str) -> None:
        try:
            pointers = self._registry.pointers(name)
            fault = self._report(name, pointers.get(CHAMPION))
            asked = pointers.get(CHALLENGER)
            if asked is not None and asked.digest is None:
                fault = fault or (
                    f"MLflow: {CHALLENGER} points to {name}/{asked.version}, which is no release "
                    "of proa"
                )
            self._controller.challenger_says(name, _release(name, asked))
        except Unavailable:
            raise
        except ProaError as error:
            fault = error.message
        except Exception:
            log.exception("%s: aliases", name)
            return
        self._controller.registry_says(name, fault)

    def _report(self, name: str, found: Pointer | None) -> str | None:
        """Make `champion` say what serves; return why it cannot be said."""
        champion, reported = self._controller.reported(name)
        release = _release(name, found)
        if champion is None:
            if release is not None:
                self._controller.seed(release)
            return None
        if release == champion:
            self._controller.champion_reported(champion)
            return None
        if release is not None and release != reported and reported is not None:
            # It points neither at the champion nor at what was reported before: a hand moved it.
            # It is put back and read as the request it was meant to be.
            self._controller.champion_moved(release)
        fault = self._wrong_number(champion)
        if fault is None:
            self._registry.set_alias(champion, CHAMPION)
            self._controller.champion_reported(champion)
        elif found is not None:
            self._registry.delete_alias(name, CHAMPION)  # better nothing than something untrue
        return fault

    def _wrong_number(self, champion: ReleaseRef) -> str | None:
        """Numbers start again when a model is deleted and created anew, and tags can be edited."""
        digest = self._registry.digest(champion.name, champion.version)
        if digest == champion.digest:
            return None
        says = "has no such release" if digest is None else f"says {champion.short} is {digest}"
        return f"MLflow {says}; what serves is {champion}, so {CHAMPION} cannot be reported"


def _release(name: str, pointer: Pointer | None) -> ReleaseRef | None:
    return None if pointer is None else pointer.ref(name)
