"""What is joined from events after they were stored: truths and opinions, beside the ingest path.

Events wait in memory, in order, and are taken in batches by a thread. Each closed file leaves a
mark behind its last event; once everything before a mark is taken, its number is written down, and
after a restart events of later files are taken again (twice does not matter). When too much waits,
because the database is away, memory is given back and the files are read instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from proa.errors import ProaError
from proa.events.event import Event
from proa_monitor.store import EventStore

__all__ = ["Takers"]

WAITING: Final = 20_000
"""Events held at once."""
_BATCH: Final = 2000
_PAUSE_SECONDS: Final = 0.5
_TYPES: Final = frozenset({"prediction", "label", "feedback", "judgement"})
_log = logging.getLogger(__name__)


class Taker(Protocol):
    """Takes events in any order, any number of times."""

    def take(self, events: Iterable[Event], /) -> object: ...


class Through(Protocol):
    """Keeps the number of the last file that was taken."""

    def mark_through(self, number: int, /) -> None: ...

    def taken_through(self) -> int: ...


class Takers:
    """Attributes:
    truths: labels and feedback taken in this process, by model: more of them, another judgement.
    """

    def __init__(self, store: EventStore, takers: Sequence[Taker], through: Through) -> None:
        self._store, self._takers, self._through = store, takers, through
        self._waiting: deque[Event | int] = deque()
        self._behind = True  # nothing of the files was looked at yet
        self._busy = asyncio.Lock()
        self._over = asyncio.Event()
        self.truths: Counter[str] = Counter()

    def offer(self, events: Iterable[Event]) -> None:
        """Events were stored."""
        if self._behind:
            return  # they will be read from their file
        self._waiting += [event for event in events if event["type"] in _TYPES]
        if len(self._waiting) > WAITING:
            self._behind = True
            self._waiting.clear()

    def closed(self, number: int) -> None:
        """Everything offered so far lies in files up to `number`."""
        if not self._behind:
            self._waiting.append(number)

    async def run(self) -> None:
        """Take until `stop`."""
        failures = 0
        while not self._over.is_set():
            try:
                await self.settle()
                failures = 0
            except Exception as error:
                failures += 1
                if not failures & (failures - 1):  # the 1st, 2nd, 4th, 8th …
                    known = isinstance(error, ProaError)
                    _log.warning("truths are joined later: %s", error, exc_info=not known)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _PAUSE_SECONDS)

    def stop(self) -> None:
        """End `run` soon."""
        self._over.set()

    async def settle(self) -> None:
        """Take everything that was stored until now.

        Raises:
            Unavailable: the database is away; nothing is lost.
        """
        async with self._busy:
            if self._behind:
                await self._catch_up()
            while self._waiting and not self._over.is_set():
                await self._take_some()

    async def _take_some(self) -> None:
        batch: list[Event] = []
        number = None
        for item in self._waiting:
            if isinstance(item, int):
                number = item
                break
            batch.append(item)
            if len(batch) >= _BATCH:
                break
        if batch:
            await asyncio.to_thread(self._take, batch)
        if number is not None:
            await asyncio.to_thread(self._through.mark_through, number)
        # Nothing was put before them meanwhile, but all may have been given up.
        for _ in range(min(len(batch) + (number is not None), len(self._waiting))):
            self._waiting.popleft()

    async def _catch_up(self) -> None:
        """Read what was not taken from the files; new events wait in memory from now on."""
        self._store.close_file()
        numbers = self._store.numbers
        self._behind = False
        try:
            await asyncio.to_thread(self._read, numbers)
        except BaseException:
            self._behind = True
            self._waiting.clear()
            raise

    def _read(self, numbers: list[int]) -> None:
        through = self._through.taken_through()
        wanted = [number for number in numbers if number > through]
        for events in self._store.events_of(wanted):
            self._take([event for event in events if event["type"] in _TYPES])
        if wanted:
            self._through.mark_through(wanted[-1])

    def _take(self, events: list[Event]) -> None:
        for taker in self._takers:
            taker.take(events)
        self.truths.update(e["model"] for e in events if e["type"] in ("label", "feedback"))
