"""Watches the registry's aliases: `challenger` asks, `champion` reports.

Polls, because MLflow's webhooks refuse addresses inside a cluster by default. MLflow may be down
for as long as it likes: nothing else waits for this thread.
"""

from __future__ import annotations

import logging
import threading

from proa.errors import ProaError
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION, Registry
from proa_controller.core import Controller

log = logging.getLogger("proa.controller")


class Watcher:
    """One thread that looks every `seconds`."""

    def __init__(self, controller: Controller, registry: Registry, seconds: float) -> None:
        self._controller = controller
        self._registry = registry
        self._seconds = seconds
        self._stop = threading.Event()
        self._reported: dict[str, ReleaseRef] = {}
        self._thread = threading.Thread(target=self._run, name="aliases", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the look under way."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for name in self._controller.names():
                try:
                    self.look(name)
                except ProaError as error:
                    log.info("%s: aliases: %s", name, error)
                except Exception:
                    log.exception("%s: aliases", name)

    def look(self, name: str) -> None:
        """One look at one model's aliases."""
        champion = self._controller.reported(name)
        if champion is not None:
            found = self._registry.alias(name, CHAMPION)
            if found != champion:
                self._registry.set_alias(champion, CHAMPION)
                if found is not None and found not in (self._reported.get(name), None):
                    # It pointed neither at the champion nor at what was reported before: a hand
                    # moved it. It is put back and read as the request it was meant to be.
                    self._controller.wished(found, "mlflow alias champion")
            self._reported[name] = champion
        wish = self._registry.alias(name, CHALLENGER)
        if wish is not None:
            self._controller.wished(wish, "mlflow alias challenger")
