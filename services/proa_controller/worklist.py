"""The worklist's two ends here: what the monitor found bad comes in, what people decide is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from proa.errors import ProaError, Unavailable
from proa.http.clock import WallClock, rfc3339
from proa.ledger.worklist import Item, Worklist
from proa.rollout.people import By
from proa_controller.core import Controller
from proa_controller.rounds import Rounds

__all__ = ["Collector", "resolve"]

log = logging.getLogger("proa.controller")

_ROUNDS: Final = 50
"""Answers of the monitor that one look takes in, when there is much."""


class Bad(Protocol):
    """The part of `MonitorFindings` that is needed."""

    def ask(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """GET one JSON object."""


class Collector:
    """A thread that asks the monitor for bad answers of language models every `seconds`.

    What was taken in, and up to when, is stored together: a kill loses nothing and doubles
    nothing.

    Args:
        may: asked before every look; it is left out when the answer is no.
    """

    def __init__(
        self,
        controller: Controller,
        monitor: Bad,
        worklist: Worklist,
        seconds: float,
        *,
        may: Callable[[], bool] | None = None,
    ) -> None:
        self._controller, self._monitor, self._worklist = controller, monitor, worklist
        self._rounds = Rounds("worklist", self.look, seconds, may=may)

    def start(self) -> None:
        """Begin to look."""
        self._rounds.start()

    def stop(self) -> None:
        """End after the look under way."""
        self._rounds.stop()

    def look(self) -> None:
        """One look at every language model; one's fault never stops the others."""
        for name in self._controller.language_models():
            try:
                self._look_at(name)
            except ProaError as error:
                log.warning("%s: worklist: %s", name, error)
            except Exception:
                log.exception("%s: worklist", name)

    def _look_at(self, name: str) -> None:
        for _ in range(_ROUNDS):
            since = self._worklist.through(name)
            query = {} if since is None else {"since": since}
            found = self._monitor.ask(f"/v1/models/{name}/bad", query)
            try:
                through = str(found["through"])
                new = self._worklist.take(
                    name, found["items"], through=through, now=rfc3339(WallClock().now())
                )
            except (KeyError, TypeError) as error:
                raise Unavailable(f"the monitor's answer cannot be read: {error!r}") from error
            if new:
                log.info("%s: %d bad answers for the worklist", name, new)
            if not found.get("truncated") or through == since:
                return


def resolve(
    controller: Controller,
    worklist: Worklist,
    identity: str,
    resolution: str,
    *,
    who: str,
    reason: str,
    by: By,
) -> Item:
    """Write down what became of an item: in the worklist, and in the journal without its text.

    Raises:
        InvalidInput, NotFound, Conflict: see `Worklist.resolve`.
    """
    now = rfc3339(WallClock().now())
    item = worklist.resolve(identity, resolution, who=who, reason=reason, now=now)
    controller.note_resolved(item.model, item.id, resolution, who=who, reason=reason, by=by)
    return item
