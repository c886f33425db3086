"""The thread that ticks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from proa.errors import ProaError
from proa_controller.core import Controller

__all__ = ["Loop"]

log = logging.getLogger("proa.controller")

_FASTEST_SECONDS = 0.05


class Loop:
    """Ticks every `seconds`, and at once when it is poked.

    Args:
        before: called before each tick; the tick is left out when it says False.
    """

    def __init__(
        self, controller: Controller, seconds: float, *, before: Callable[[], bool]
    ) -> None:
        self._controller = controller
        self._seconds = seconds
        self._before = before
        self._stop = threading.Event()
        self._poked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def poke(self) -> None:
        """Something changed: tick soon."""
        self._poked.set()

    def stop(self) -> None:
        """End after the tick under way."""
        self._stop.set()
        self._poked.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(_FASTEST_SECONDS):
            self._poked.wait(self._seconds)
            self._poked.clear()
            if self._stop.is_set():
                return
            try:
                if self._before():
                    self._controller.tick()
            except ProaError as error:
                log.warning("a tick failed and is tried again: %s", error)
            except Exception:
                log.exception("a tick failed and is tried again")
