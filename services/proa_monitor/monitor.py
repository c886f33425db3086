"""One monitor process: its state, what it does in the background, and what survives it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from proa.http.clock import WallClock
from proa.release.bundle import BundleStore
from proa_monitor.exposition import MonitorCollector
from proa_monitor.ingest import Ingest
from proa_monitor.references import Reference, References
from proa_monitor.reports import Reports
from proa_monitor.store import EventStore
from proa_monitor.windows import Length, Windows

__all__ = ["Monitor", "Settings"]

_TICK_SECONDS: Final = 1.0
_ASK_AGAIN_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the process.

    Attributes:
        events, reports: folders.
        bundles: URL of the bundle store.
        window: length of a window.
        file_bytes, file_seconds: a spool file is closed when it is this large or old.
        series: budget of `/metrics`.
    """

    events: Path
    reports: Path
    bundles: str
    window: Length = "day"
    file_bytes: int = 32 << 20
    file_seconds: float = 3600.0
    series: int = 10_000


class Monitor:
    """State is what was counted from the events on disk.

    `state.json` holds the counts of every file up to one number; it is written when a file is
    closed, and whatever is newer is counted again at the start. Lost or unfit, all of it is.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = EventStore(
            settings.events, file_bytes=settings.file_bytes, file_seconds=settings.file_seconds
        )
        self.references = References(BundleStore.from_url(settings.bundles))
        self.windows = Windows(settings.window, self.references.of)
        self.clock = WallClock()
        self.ingest = Ingest(self.store, self.windows, self.clock)
        self.reports = Reports(settings.reports, settings.events, settings.bundles)
        self.collector = MonitorCollector(
            self.windows, self.ingest, self.store, budget=settings.series
        )
        self.store.on_close(self._save)
        self._incomplete = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Count what is on disk, then work in the background."""
        through = self._restore()
        for events in self.store.events_of(n for n in self.store.numbers if n > through):
            self.windows.add(events)
        self._tasks = [
            asyncio.create_task(self.store.compact()),
            asyncio.create_task(self._tick()),
        ]

    async def stop(self) -> None:
        """Close the file and save the state; what is not compacted waits for the next start."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.store.close_file()
        self.store.close()

    async def _tick(self) -> None:
        waited = 0.0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                if self.store.due:
                    self.store.close_file()
                waited += _TICK_SECONDS
                if waited >= _ASK_AGAIN_SECONDS:
                    waited = 0.0
                    await self._ask_again()
            except Exception:
                _log.exception("the monitor's background work failed; it goes on")

    async def _ask_again(self) -> None:
        for release in self.windows.unknown():
            reference = await asyncio.to_thread(self.references.of, release)
            if reference.known:
                await self._adopt(release, reference)

    async def _adopt(self, release: str, reference: Reference) -> None:
        """Count what a release met before its bundle was known.

        Everything so far is in closed files, new events are counted as they come, and the two
        are merged; until then no state is saved.
        """
        self.store.close_file()
        numbers = self.store.numbers
        if not self.windows.adopt(release, reference):
            return
        self._incomplete = True
        try:
            counted = await asyncio.to_thread(self._count, release, reference, numbers)
            self.windows.backfill(counted)
        finally:
            self._incomplete = False

    def _count(self, release: str, reference: Reference, numbers: list[int]) -> Windows:
        counted = Windows(self.windows.length, lambda _: reference)
        model = release.partition("/")[0]
        for events in self.store.events_of(numbers, model=model):
            counted.add(event for event in events if event["release"] == release)
        return counted

    @property
    def _state(self) -> Path:
        return self.settings.events / "state.json"

    def _save(self, through: int) -> None:
        """Every event up to file `through` is counted, and no other: write that down."""
        if self._incomplete:
            return
        fresh = self._state.with_suffix(".tmp")
        try:
            fresh.write_bytes(orjson.dumps({"through": through, **self.windows.to_json()}))
            fresh.chmod(0o600)
            fresh.replace(self._state)
        except OSError as error:  # a full disk: the state before is as good, only older
            with contextlib.suppress(OSError):
                os.unlink(fresh)  # noqa: PTH108 - as plain as it gets on a full disk
            _log.error("the state could not be saved: %s", error)

    def _restore(self) -> int:
        """Take over the saved counts; returns the number of the last file they cover."""
        try:
            value = orjson.loads(self._state.read_bytes())
            covered = self.windows.restore(value)
            through: int = value["through"]
            if covered and through <= max(self.store.numbers, default=0):
                return through
            _log.warning("the saved counts do not fit any more: counting all events again")
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("the saved counts cannot be read (%r): counting all events again", error)
        self.windows.tracks.clear()
        self.windows.untracked = 0
        return 0
