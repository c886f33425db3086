"""Saving windows: what was counted up to a closed file is written beside the counting.

The moment is that of the file's closing. Windows are taken one by one afterwards, in between other
work; one that is about to change before its turn is taken first. A process that ends meanwhile, or
a database that is away, leaves the state before, and newer files are counted again at the start.
"""

from __future__ import annotations

import asyncio
import logging

from proa.errors import ProaError
from proa_monitor.window_store import Snapshot, WindowStore
from proa_monitor.windows import Key, Windows

__all__ = ["Saving"]

_log = logging.getLogger(__name__)


class Saving:
    """One save at a time, on the event loop; the database is asked in a thread.

    Attributes:
        incomplete: windows do not hold every event just now: nothing is saved.
        failures: saves that the database refused.
    """

    def __init__(self, windows: Windows, store: WindowStore) -> None:
        self._windows, self._store = windows, store
        self._snapshot: Snapshot | None = None
        self._task: asyncio.Task[None] | None = None
        self.incomplete = False
        self.failures = 0
        windows.before_change = self._keep

    def begin(self, through: int) -> None:
        """Every event up to file `through` is counted, and no other: write that down."""
        if self.incomplete or (self._task is not None and not self._task.done()):
            return  # the next file comes
        self._snapshot = Snapshot.of(self._windows, through)
        self._task = asyncio.get_running_loop().create_task(self._save(self._snapshot))

    async def finish(self, through: int | None = None) -> None:
        """Wait for a save that is under way; then save up to `through`, when given."""
        if self._task is not None:
            await self._task
        if through is not None:
            self.begin(through)
            if self._task is not None:
                await self._task

    def take_now(self) -> None:
        """Windows are about to change as a whole: take what still waits."""
        if self._snapshot is not None:
            for _ in self._snapshot.steps():
                pass

    def _keep(self, key: Key, name: str) -> None:
        if self._snapshot is not None and self._snapshot.waiting:
            self._snapshot.keep(key, name)

    async def _save(self, snapshot: Snapshot) -> None:
        for _ in snapshot.steps():
            await asyncio.sleep(0)
        try:
            await asyncio.to_thread(self._store.save, snapshot)
        except ProaError as error:  # the state before is as good, only older
            self.failures += 1
            snapshot.undo(self._windows)
            _log.error("the state could not be saved: %s", error)
