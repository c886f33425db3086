"""Reasons of a sample of the answers, for their events: worked out after the answer was sent.

Whoever asked waits for none of it: one thread explains, few events wait for it, and one that finds
no room goes out without reasons. The first of them imports shap: 80 MiB and two seconds.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from proa.errors import InvalidInput
from proa_predictor.answer import Reason

__all__ = ["KeptReasons"]

_WAITING: Final = 64
_ROWS: Final = 64
"""Answers of more rows are not explained: they would keep the others waiting."""
_CLOSE_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)

Event = dict[str, Any]


class Explains(Protocol):
    """See `reasons.Explainer`."""

    def reasons(self, values: Mapping[str, list[Any]]) -> tuple[list[list[Reason]], str, float]: ...


class KeptReasons:
    """Explains a share of the answers and sends their events on.

    Args:
        share: of users' answers, 0 … 1; whether one is of them depends on its request id alone.
        send: where events go.
    """

    def __init__(self, explainer: Explains, share: float, send: Callable[[Event], object]) -> None:
        self._explainer, self._send = explainer, send
        self._below = int(share * (1 << 32))
        self._queue: queue.Queue[tuple[Event, Mapping[str, Any]] | None] = queue.Queue(_WAITING)
        self._closing = False
        self._under_way: Event | None = None
        self._thread = threading.Thread(target=self._work, name="reasons", daemon=True)
        self._thread.start()

    def take(self, event: Event, inputs: Mapping[str, Any]) -> bool:
        """Whether this event will be sent from here, with its reasons; never blocks."""
        if event["purpose"] not in ("user", "agent") or not 0 < event["rows"] <= _ROWS:
            return False
        if zlib.crc32(event["request"].encode()) >= self._below:
            return False
        try:
            self._queue.put_nowait((event, inputs))
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Send what waits as it is; what is being explained may take two seconds more.

        An event that is sent twice meanwhile counts once, by its id.
        """
        self._closing = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_CLOSE_SECONDS)
        if self._under_way is not None:
            self._send(self._under_way)
        while not self._queue.empty():
            job = self._queue.get_nowait()
            if job is not None:
                self._send(job[0])

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            event, inputs = job
            self._under_way = event
            reasons = None if self._closing else self._reasons(event, inputs)
            self._send(event if reasons is None else {**event, "reasons": reasons})
            self._under_way = None

    def _reasons(self, event: Event, inputs: Mapping[str, Any]) -> list[list[Reason]] | None:
        try:
            return self._explainer.reasons(dict(inputs))[0]
        except InvalidInput as error:  # no such release has reasons: not one of its answers
            self._below = 0
            _log.warning("no reasons are kept: %s", error.message)
        except Exception:
            _log.exception("reasons of request %s", event["request"])
        return None
