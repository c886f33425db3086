"""Judging windows that are over: once, in order, and again when late events changed them.

The event loop picks what is due, a thread judges it; the watermark says what is over. Windows that
were missed altogether, because nothing came, are judged as empty ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from proa.errors import ProaError
from proa.findings.book import LOOK_BACK, BookKey
from proa.findings.observation import Observation
from proa.http.clock import Clock, rfc3339
from proa_monitor.anchors import Anchors
from proa_monitor.finding_store import FindingStore
from proa_monitor.judged import Judged
from proa_monitor.judges import Judges, Occasion, Past
from proa_monitor.takers import Takers
from proa_monitor.traffic import Traffic
from proa_monitor.watermark import is_live, watermark
from proa_monitor.window_parts import Parts
from proa_monitor.windows import (
    Key,
    Track,
    Windows,
    names_before,
    window_end,
    window_name,
    window_start,
)

__all__ = ["Evaluator"]

TICK_SECONDS: Final = 1.0
_SEASONS: Final = 8
_BEFORE: Final = 28
_SOUND: Final = 7
"""So many of them, or all of them."""
_EMPTY: Final = 7
"""Windows running without a call that are judged; after them a model is taken to be idle."""
_GONE: Final = 2
"""Windows without a call after which a release that another one took over from is gone."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Due:
    track: Track
    name: str
    version: str


class _State(NamedTuple):
    """Of a track when it was last judged: the same again, and nothing is due."""

    changes: int
    through: str
    truths: int


class Evaluator:
    """Judges every track of every model.

    Args:
        tell: called in a thread with track, window, its end and what was seen in it.

    Attributes:
        last_judged: by model, wall clock in seconds, when nothing of it was left to judge.
        failures: ticks that failed as a whole.
    """

    def __init__(
        self,
        windows: Windows,
        findings: FindingStore,
        judged: Judged,
        judges: Judges,
        anchors: Anchors,
        takers: Takers,
        clock: Clock,
        tell: Callable[[Key, str, str, Sequence[Observation]], object] = lambda *_: None,
    ) -> None:
        self._windows, self._findings, self._judged = windows, findings, judged
        self._judges, self._anchors = judges, anchors
        self._takers, self._clock, self._tell = takers, clock, tell
        self._done: dict[Key, _State] = {}
        self._forgotten: dict[str, str] = {}
        self._over = asyncio.Event()
        self.last_judged: dict[str, float] = {}
        self.failures = 0

    async def run(self) -> None:
        """Judge until `stop`."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), TICK_SECONDS)
                return
            try:
                await self.tick()
            except Exception as error:
                self._failed("windows", error)

    def stop(self) -> None:
        """End `run` after the window that is under way."""
        self._over.set()

    async def tick(self) -> None:
        """Judge everything that is due; what fails with one model holds up no other."""
        await self._takers.settle()
        now = self._clock.now()
        for model in self._windows.models:
            try:
                await self._model(model, now)
            except Exception as error:
                self._failed(model, error)
            if self._over.is_set():
                return

    async def _model(self, model: str, now: datetime) -> None:
        through = watermark(self._windows, model, now)
        if through is None:
            return
        for track in self._windows.of_model(model):
            await self._track(track, through)
            if self._over.is_set():
                return
        await asyncio.to_thread(self._settle_model, model, through)
        self.last_judged[model] = time.time()

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        if self.failures & (self.failures - 1):
            return  # the 1st, 2nd, 4th, 8th …: loud, but never a flood
        if isinstance(error, ProaError):
            _log.warning("%s are judged later: %s", what, error.message)
        else:
            _log.error("judging %s failed; it is tried again", what, exc_info=error)

    async def _track(self, track: Track, through: datetime) -> None:
        # What is over, what came and what is known to be true decide what is due.
        truths = self._takers.truths[track.key.model]
        state = _State(track.changes, window_name(through, self._windows.length), truths)
        before = self._done.get(track.key)
        if before == state:
            return
        await asyncio.to_thread(self._anchors.see, track)
        due = self._due(track, through)
        for one in due:
            occasion = self._occasion(track, one.name)
            await asyncio.to_thread(self._judge, occasion, one)
            if self._over.is_set():
                return
        if not due and before is not None and before.truths != truths:
            await self._truth_again(track, through)
        if self._windows.length == "day":
            await self._weeks(track, through)
        if due or (before is not None and before.truths != truths):
            await asyncio.to_thread(self._judges.show, track.key, rfc3339(through))
        self._done[track.key] = state

    async def _truth_again(self, track: Track, through: datetime) -> None:
        """Labels came, but no calls: the newest window's figures of quality are others now."""
        over = sorted(name for name in track.windows if window_end(name) <= through)
        if over:
            occasion = self._occasion(track, over[-1])
            await asyncio.to_thread(self._judge_truth, track, occasion)

    def _due(self, track: Track, through: datetime) -> list[_Due]:
        over = sorted(name for name in track.windows if window_end(name) <= through)
        if not over:
            return []
        again = over[-LOOK_BACK:]
        names = [*over[:-LOOK_BACK], *self._with_empty(track, again, through)]
        due: list[_Due] = []
        for name in names:
            window = track.windows.get(name)
            version = "0:" if window is None else window.version
            known = self._judged.version(track.key, name)
            if known is None and name < (self._judged.oldest(track.key) or ""):
                continue  # judged long ago, and forgotten
            # What follows is judged against what came before: it is looked at again as well.
            if known is None or (name >= again[0] and (due or known != version)):
                due.append(_Due(track, name, version))
        return due

    def _with_empty(self, track: Track, over: list[str], through: datetime) -> Iterator[str]:
        """The windows from the first to the last of `over`, and those after it, empty ones too."""
        length = self._windows.length
        step = timedelta(days=1) if length == "day" else timedelta(hours=1)
        present, start, last = set(over), window_start(over[0]), window_start(over[-1])
        current = self._windows.of_model(track.key.model)[0] is track
        if current:
            last = min(through - step, last + _EMPTY * step)
        empty = 0
        while start <= last:
            name = window_name(start, length)
            if name in present:
                empty = 0
                yield name
            elif empty < _EMPTY and name not in track.windows:
                empty += 1
                yield name
            elif empty >= _EMPTY:  # a long silence: go on where there is something again
                following = [one for one in over if one > name]
                if not following:
                    return
                start, empty = window_start(following[0]) - step, 0
            start += step

    def _occasion(self, track: Track, name: str) -> Occasion:
        window = track.windows.get(name)
        parts = Parts.of(track.reference)
        if window is not None:
            parts = window.parts.still(track.reference, thin=False)
        seasons = names_before(name, self._windows.length, _SEASONS)
        before = self._before(track, name)
        return Occasion(
            *track.key,
            name=name,
            end=rfc3339(window_end(name)),
            reference=track.reference,
            parts=parts,
            traffic=Traffic() if window is None else window.traffic,
            seasons=self._past(track, seasons),
            before=self._past(track, before),
            traffic_before=[track.windows[one].traffic for one in before],
            live=is_live(self._windows, track.key.model),
            shared=any(
                other is not track and name in other.windows
                for other in self._windows.of_model(track.key.model)
            ),
        )

    def _before(self, track: Track, name: str) -> list[str]:
        """The windows right before one, without those that were themselves out of the ordinary:
        what lasts must not become its own measure at once."""
        before = [one for one in sorted(track.windows) if one < name][-_BEFORE:]
        sound = [one for one in before if not self._was_odd(track.key, one)]
        return sound if len(sound) >= _SOUND else before

    def _was_odd(self, key: Key, name: str) -> bool:
        seen = self._judged.of(key, name)
        return any(one.holds and one.group in ("language", "operations") for one in seen)

    def _past(self, track: Track, names: list[str]) -> Past:
        """Windows of those names: this release's, else another one's in the same place."""
        others = [
            one
            for one in self._windows.of_model(track.key.model)
            if one is not track and one.key.track == track.key.track
        ]
        found = []
        for name in names:
            for one in (track, *others):
                if name in one.windows:
                    found.append((name, one.windows[name].still(one.reference)))
                    break
        return found

    def _judge(self, asked: Occasion, due: _Due) -> None:
        seen = self._judges.observe(asked, self._anchors.of(asked.model))
        start = rfc3339(window_start(asked.name))
        self._findings.see(_book_key(due.track), asked.name, start, asked.end, seen)
        self._judged.put(due.track.key, asked.name, due.version, seen)
        self._tell(due.track.key, asked.name, asked.end, seen)

    def _judge_truth(self, track: Track, asked: Occasion) -> None:
        seen = {(one.type, one.subject): one for one in self._judges.truth(asked)}
        start = rfc3339(window_start(asked.name))
        self._findings.see(_book_key(track), asked.name, start, asked.end, seen.values())
        before = {(o.type, o.subject): o for o in self._judged.of(track.key, asked.name)}
        version = self._judged.version(track.key, asked.name)
        if version is not None:
            self._judged.put(track.key, asked.name, version, list((before | seen).values()))

    async def _weeks(self, track: Track, through: datetime) -> None:
        """Seven days from a Monday on, as one window: drift too slow for a day to show."""
        weeks: dict[str, list[str]] = {}
        for name in track.windows:
            start = window_start(name)
            monday = window_name(start - timedelta(days=start.weekday()), "day")
            weeks.setdefault(monday, []).append(name)
        # A week that another release had a part of is no week: weekdays alone would set it apart.
        days_of_model = {
            name for other in self._windows.of_model(track.key.model) for name in other.windows
        }
        over = sorted(
            monday
            for monday, days in weeks.items()
            if window_start(monday) + timedelta(days=7) <= through
            and days_of_model.intersection(_week(monday)) == set(days)
        )
        for monday in over[-2:]:
            name = f"{monday}/P7D"
            version = ";".join(track.windows[day].version for day in sorted(weeks[monday]))
            if self._judged.version(track.key, name) == version:
                continue
            past = [m for m in over if m < monday][-_SEASONS:]
            days = {
                m: [track.windows[d].still(track.reference) for d in sorted(weeks[m])]
                for m in [*past, monday]
            }
            await asyncio.to_thread(self._judge_week, track, name, version, days)

    def _judge_week(
        self, track: Track, name: str, version: str, days: dict[str, list[Parts]]
    ) -> None:
        whole = {f"{monday}/P7D": _together(parts) for monday, parts in days.items()}
        start = window_start(name.partition("/")[0])
        end = rfc3339(start + timedelta(days=7))
        past = [(one, parts) for one, parts in whole.items() if one != name]
        asked = Occasion(
            *track.key,
            name=name,
            end=end,
            reference=track.reference,
            parts=whole[name],
            traffic=Traffic(),
            seasons=past,
            before=past,
            traffic_before=(),
        )
        seen = self._judges.drift(asked, self._anchors.of(track.key.model))
        key = _book_key(track)._replace(scale="week")
        self._findings.see(key, name, rfc3339(start), end, seen)
        self._judged.put(track.key, name, version, seen)

    def _settle_model(self, model: str, through: datetime) -> None:
        day = rfc3339(through)[:10]
        if self._forgotten.get(model) != day:
            self._forgotten[model] = day
            self._judges.forget(model, rfc3339(through))
        self._end_gone(model, through)

    def _end_gone(self, model: str, through: datetime) -> None:
        """Close what is open of releases that serve no more while another one does."""
        open_of = {(f.release, f.track) for f in self._findings.open(model)}
        tracks = self._windows.of_model(model)
        step = timedelta(days=1) if self._windows.length == "day" else timedelta(hours=1)
        for track in tracks[1:]:
            newest = track.newest
            if newest is None or (track.key.release, track.key.track) not in open_of:
                continue
            gone = window_end(newest) + _GONE * step
            if gone <= through and (tracks[0].newest or "") > newest:
                for scale in ("", "week"):
                    self._findings.end(_book_key(track)._replace(scale=scale), rfc3339(gone))


def _week(monday: str) -> list[str]:
    start = window_start(monday)
    return [window_name(start + timedelta(days=day), "day") for day in range(7)]


def _book_key(track: Track) -> BookKey:
    return BookKey(track.key.model, track.kind, track.key.release, track.key.track)


def _together(parts: list[Parts]) -> Parts:
    whole = parts[0]
    for one in parts[1:]:
        whole = whole.merge(one)
    return whole
