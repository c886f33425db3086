"""One monitor process: its state, what it does in the background, and what survives it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput
from proa.events.event import Event
from proa.http.clock import WallClock
from proa.ledger.store import CallStore
from proa.profile.language_reference import LanguageReference
from proa.release.bundle import BundleStore
from proa_monitor.anchors import Anchors
from proa_monitor.costs import WindowCosts
from proa_monitor.evaluator import Evaluator
from proa_monitor.exposition import MonitorCollector
from proa_monitor.figures import Figures
from proa_monitor.finding_store import FindingStore
from proa_monitor.ingest import Ingest
from proa_monitor.judged import Judged
from proa_monitor.judges import Judges
from proa_monitor.judging_access import JudgeAccess, judging_of
from proa_monitor.opinions import Opinions
from proa_monitor.progress import Progress
from proa_monitor.quality import QualityWatch, ReleaseFacts
from proa_monitor.references import Reference, References
from proa_monitor.reports import Reports
from proa_monitor.saving import Saving
from proa_monitor.snapshots import Snapshots
from proa_monitor.state_tables import open_state
from proa_monitor.store import EventStore
from proa_monitor.takers import Takers
from proa_monitor.truth import Truths
from proa_monitor.unmatched import Unmatched
from proa_monitor.window_store import WindowStore
from proa_monitor.windows import Length, Windows

__all__ = ["Monitor", "Settings"]

_TICK_SECONDS: Final = 1.0
_ASK_AGAIN_SECONDS: Final = 5.0
_FILES: Final = 2
_LAST_SECONDS: Final = 10.0
"""What is being judged may end when the process does."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the process.

    Attributes:
        events, reports: folders.
        bundles: URL of the bundle store.
        state: URL of the state database; None means a file beside the events.
        window: length of a window.
        file_bytes, file_seconds: a spool file is closed when it is this large or old.
        series: budget of `/metrics`.
        match_seconds: after this a call's event has come, or never comes.
        judge: the sampled judge of answers; None means there is none.
        snapshots: folder of snapshots for Evidently's UI; None means there are none.
    """

    events: Path
    reports: Path
    bundles: str
    state: str | None = None
    window: Length = "day"
    file_bytes: int = 32 << 20
    file_seconds: float = 3600.0
    series: int = 10_000
    match_seconds: float = 120.0
    judge: JudgeAccess | None = None
    snapshots: Path | None = None


class Monitor:
    """State is what was counted from the events on disk.

    The state database holds the counts of every file up to one number; it is written when a file
    is closed, and whatever is newer is counted again at the start. Lost or unfit, all of it is.

    Args:
        calls: what gateways wrote, to be compared with the events; None where there is none.
    """

    def __init__(self, settings: Settings, calls: CallStore | None = None) -> None:
        self.settings = settings
        self.state = open_state(settings.state, settings.events)
        self._window_store = WindowStore(self.state)
        self.store = EventStore(
            settings.events,
            file_bytes=settings.file_bytes,
            file_seconds=settings.file_seconds,
            above=self._window_store.through(),
        )
        self.findings = FindingStore(self.state)
        self.references = References(BundleStore.from_url(settings.bundles))
        self.windows = Windows(settings.window, self.references.of)
        self.clock = WallClock()
        self.truths = Truths(self.state, slices_of=lambda r: self.windows.reference(r).slices)
        self.opinions = Opinions(self.state)
        self.takers = Takers(self.store, [self.truths, self.opinions], self.truths)
        self.unmatched = Unmatched(
            *(calls, self.store, self.findings, self.clock), late=settings.match_seconds
        )
        self.ingest = Ingest(
            self.store,
            self.clock,
            [self.windows.add, self.takers.offer, self.unmatched.offer, self._heard],
        )
        self.judging = None
        if settings.judge is not None:
            self.judging = judging_of(
                settings.judge,
                folder=settings.events,
                reference_of=self._language_of,
                store=self.store,
                ingest=self.ingest,
                clock=self.clock,
            )
        self.snapshots = None if settings.snapshots is None else Snapshots(settings.snapshots)
        self.reports = Reports(settings.reports, settings.events, settings.bundles)
        self._saving = Saving(self.windows, self._window_store)
        self.store.on_close(self._closed)
        self._tasks: list[asyncio.Task[None]] = []
        self._judging: list[asyncio.Task[None]] = []
        self._judge_tokens: Counter[str] = Counter()
        self._compose_judges(WindowCosts(calls))

    def _compose_judges(self, costs: WindowCosts) -> None:
        """What looks at windows, and what shows it."""
        self.quality = QualityWatch(
            self.truths, lambda r: ReleaseFacts.of(self.windows.reference(r).manifest)
        )
        self.judged = Judged(self.state)
        self.progress = Progress(self.windows, self.judged, self.quality)
        self.judges = Judges(self.quality, self.opinions, costs)
        self.evaluator = Evaluator(
            self.windows,
            self.findings,
            self.judged,
            self.judges,
            Anchors(self.state, self.windows),
            self.takers,
            self.clock,
            *([self.snapshots.offer] if self.snapshots else []),
        )
        figures = Figures(
            *(self.windows, self.findings, self.judged, self.judges, self.evaluator),
            self._counters,
        )
        self.collector = MonitorCollector(
            *(self.windows, self.ingest, self.store, figures),
            budget=self.settings.series,
            more=self._gauges,
        )

    async def start(self) -> None:
        """Count what is on disk, then work in the background."""
        through = self._restore()
        for events in self.store.events_of(n for n in self.store.numbers if n > through):
            self.windows.add(events)
        self._tasks = [
            asyncio.create_task(self.store.compact()),
            asyncio.create_task(self._tick()),
            *([asyncio.create_task(self.snapshots.run())] if self.snapshots else []),
        ]
        self._judging = [
            asyncio.create_task(self.takers.run()),
            asyncio.create_task(self.evaluator.run()),
            asyncio.create_task(self.unmatched.run()),
        ]
        if self.judging:
            await self.judging.start(await asyncio.to_thread(self._recent))

    async def stop(self) -> None:
        """Close the file and save the state; what is not compacted waits for the next start."""
        if self.judging:
            await self.judging.stop()
        self.evaluator.stop()
        self.takers.stop()
        self.unmatched.stop()
        if self._judging:
            await asyncio.wait(self._judging, timeout=_LAST_SECONDS)
        for task in (*self._tasks, *self._judging):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._saving.finish()
        self.store.close_file()
        await self._saving.finish()
        self.store.close()
        self.state.close()

    def _recent(self) -> list[list[Event]]:
        """Of the newest files, what a judge may still be asked about."""
        return [
            [event for event in events if event["kind"] == "llm"]
            for events in self.store.events_of(self.store.numbers[-_FILES:])
        ]

    def _language_of(self, release: str) -> LanguageReference | None:
        tracks = self.windows.tracks.values()
        known = (track.reference for track in tracks if track.key.release == release)
        return next((reference.language for reference in known), None)

    def _heard(self, events: list[Event]) -> None:
        if self.judging is not None:
            self.judging.offer(events)
        for event in events:
            if event["type"] == "judgement":
                self._judge_tokens[event["model"]] += event["tokens"] or 0

    def _counters(self, model: str) -> dict[str, int]:
        return {
            "events_without_call": self.unmatched.events[model],
            "calls_without_event": self.unmatched.calls[model],
            "judge_tokens": self._judge_tokens[model],
        }

    def _gauges(self) -> dict[str, float]:
        judging = self.judging.figures() if self.judging else {}
        return {
            **{f"judging_{n.removesuffix('_total')}": value for n, value in judging.items()},
            "state_failures": float(self._saving.failures),
            "judging_ticks_failed": float(self.evaluator.failures),
            "findings_left_out": float(self.findings.left_out),
        }

    def _closed(self, number: int) -> None:
        self._saving.begin(number)
        self.takers.closed(number)

    async def _tick(self) -> None:
        waited = 0.0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                if self.store.due:
                    self.store.close_file()
                self.windows.settle()
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
        self._saving.incomplete = True
        try:
            self.store.close_file()
            self._saving.take_now()
            numbers = self.store.numbers
            if not self.windows.adopt(release, reference):
                return
            counted = await asyncio.to_thread(self._count, release, reference, numbers)
            self.windows.backfill(counted)
        finally:
            self._saving.incomplete = False

    def _count(self, release: str, reference: Reference, numbers: list[int]) -> Windows:
        counted = Windows(self.windows.length, lambda _: reference)
        model = release.partition("/")[0]
        for events in self.store.events_of(numbers, model=model):
            counted.add(event for event in events if event["release"] == release)
        return counted

    def _restore(self) -> int:
        """Take over the saved counts; returns the number of the last file they cover."""
        numbers = self.store.numbers
        try:
            # Without a single file the events are gone: then what was counted is all there is.
            through = self._window_store.restore(
                self.windows, lambda number: not numbers or number <= numbers[-1]
            )
            if through is not None:
                return through
        except (InvalidInput, ValueError, KeyError, TypeError) as error:
            _log.warning("the saved counts cannot be read (%r): counting all events again", error)
        self.windows.forget()
        self._window_store.clear()
        return 0
