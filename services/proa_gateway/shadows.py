"""Copies of calls for a challenger nobody is served by: sent after the user has the answer.

Off the way of every answer: a bounded queue, a few workers, and what does not fit is counted and
forgotten. A copy's call stands in the ledger with `purpose=shadow`, a request id of its own, the
user's as its parent, and costs nothing; its event carries the user's request id, so that both
answers and a later label meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

from proa.errors import ProaError, Unavailable
from proa.http import headers as names
from proa.http.clock import Clock, rfc3339
from proa.http.ids import new_id
from proa_gateway.calls import CallUnderWay, Recorder
from proa_gateway.errand import Errand, count_rows
from proa_gateway.routes import Track
from proa_gateway.upstream import Upstream

__all__ = ["PURPOSE", "Shadows"]

PURPOSE: Final = "shadow"
MOST_COPIES: Final = 1000
MOST_BYTES: Final = 32 << 20
WORKERS: Final = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Copy:
    call: CallUnderWay
    errand: Errand
    track: Track


class Shadows:
    """The copies on their way.

    Args:
        most: copies that may wait; further ones are dropped.

    Attributes:
        answered, dropped: by model, since this process began.
    """

    def __init__(
        self, upstream: Upstream, recorder: Recorder, clock: Clock, *, most: int = MOST_COPIES
    ) -> None:
        self._upstream, self._recorder, self._clock = upstream, recorder, clock
        self._waiting: asyncio.Queue[_Copy] = asyncio.Queue(most)
        self._bytes = 0
        self._workers: list[asyncio.Task[None]] = []
        self.answered: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to send; needs a running loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]

    async def stop(self) -> None:
        """Drop what waits."""
        for worker in self._workers:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        while not self._waiting.empty():
            self._drop(self._waiting.get_nowait())

    def offer(self, call: CallUnderWay, errand: Errand, track: Track) -> None:
        """Take a copy of an answered call, or count that there was no room for it."""
        copy = _Copy(call, errand, track)
        if self._waiting.full() or self._bytes + len(errand.body) > MOST_BYTES:
            self._drop(copy)
            return
        self._bytes += len(errand.body)
        self._waiting.put_nowait(copy)

    def _drop(self, copy: _Copy) -> None:
        self.dropped[copy.call.model or ""] += 1

    async def _work(self) -> None:
        while True:
            copy = await self._waiting.get()
            self._bytes -= len(copy.errand.body)
            try:
                await self._send(copy)
            except asyncio.CancelledError:
                self._drop(copy)
                raise
            except Exception:
                _log.exception("the shadow of request %s", copy.call.request)
                self._drop(copy)

    async def _send(self, copy: _Copy) -> None:
        user, errand, track = copy.call, copy.errand, copy.track
        call = CallUnderWay(
            new_id(),
            user.door,
            replace(user.caller, purpose=PURPOSE, parent=user.request),
            rfc3339(self._clock.now()),
            perf_counter(),
            user.kind,
            model=user.model,
            release=track.release,
            track=track.name,
            user=user.user,
        )
        status, error = 0, None
        try:
            what = f"the shadow of {user.model!r}, {track.release},"
            response = await self._upstream.post(
                track.url, errand.path, body=errand.body, headers=_headers(copy), what=what
            )
            body = await self._upstream.read(response, what=what)
            status, call.release = response.status, response.headers.get(names.RELEASE)
            call.release = call.release or track.release
            if status < 400:
                count_rows(call, body, response.headers.get(names.FACTS))
                call.agreed = _agreed(user.decisions, call.decisions)
            else:
                error = f"http_{status}"
        except ProaError as fault:
            status, error = fault.status, fault.code
        try:
            self._recorder.record(call, status, error=error)
        except Unavailable:
            self._drop(copy)
            _log.exception("the shadow of request %s could not be recorded", user.request)
            return
        self.answered[user.model or ""] += 1


def _headers(copy: _Copy) -> Mapping[str, str]:
    return {**copy.errand.headers, names.PURPOSE: PURPOSE, names.TRACK: copy.track.name}


def _agreed(one: str, other: str) -> float | None:
    """The share of rows decided alike; None where a model decides nothing."""
    if not one or len(one) != len(other):
        return None
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
