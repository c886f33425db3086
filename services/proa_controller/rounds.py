"""A thread that looks at something again and again, between two of whose looks it can be ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Rounds"]

_LAST_SECONDS: Final = 15.0


class Rounds:
    """Calls `look` every `seconds`, for the first time after as many.

    Args:
        may: asked before every look; it is left out when the answer is no.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], None],
        seconds: float,
        *,
        may: Callable[[], bool] | None = None,
    ) -> None:
        self._look, self._seconds, self._may = look, seconds, may
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look under way."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=_LAST_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            if self._may is None or self._may():
                self._look()
