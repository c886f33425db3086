"""What each release met per day or hour of event time, as states that can be merged.

State is bounded: so many releases, so many windows each, sketches in the newest of them alone; what
is beyond is counted, stays in the segments, and is said in `/metrics`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from proa.events.event import Event
from proa_monitor.references import Reference
from proa_monitor.traffic import Traffic
from proa_monitor.window_parts import Parts

__all__ = [
    "Key",
    "Length",
    "Track",
    "Window",
    "Windows",
    "names_before",
    "window_end",
    "window_name",
    "window_start",
]

TRACKS: Final = 500
WINDOWS: Final = 400
"""Windows of a track."""
WHOLE: Final = 14
"""The newest windows of a track, which keep their sketches."""
_ANSWERS: Final = 20_000
"""Answers that later feedback can still be put to the release of."""
_OTHER_PURPOSES: Final = frozenset({"gate", "judge", "shadow"})

Length = Literal["day", "hour"]
_NAME_CHARACTERS: Final[dict[Length, int]] = {"day": 10, "hour": 13}


class Key(NamedTuple):
    """Whose windows: `track` is empty for calls that came past the gateway."""

    model: str
    release: str
    track: str

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """Model, release, the digest's first 12 digits and track, as `/metrics` names them."""
        release, _, digest = self.release.partition("@sha256:")
        return (self.model, release, digest[:12], self.track)


@dataclass(slots=True)
class Window:
    """One stretch of event time.

    Attributes:
        events: how many were counted here: with `Parts.marks` what a judgement was made of.
        parts: everything that judges look at.
        unsaved: whether it changed since it was last written down.
    """

    traffic: Traffic = field(default_factory=Traffic)
    events: int = 0
    parts: Parts = field(default_factory=Parts)
    unsaved: bool = True
    drift: tuple[str, dict[str, Any]] | None = None
    kept_still: tuple[str, Parts] | None = None

    @property
    def counts(self) -> Any:
        """`WindowState` of the features; None when the release is not watched."""
        return self.parts.counts

    @property
    def version(self) -> str:
        """Changes whenever what is counted here does; the same for the same events."""
        return f"{self.events}:{self.parts.marks}"

    def still(self, reference: Reference) -> Parts:
        """The parts without sketches, as a value that other threads may read; made once."""
        if self.kept_still is None or self.kept_still[0] != self.version:
            self.kept_still = (self.version, self.parts.still(reference, thin=True))
        return self.kept_still[1]


@dataclass(slots=True)
class Track:
    """One release in one place of its rollout.

    Attributes:
        total: over all windows, those no longer held included.
        windows: by name (`2013-04-01` or `2013-04-01T10`), in no order.
        dropped: windows no longer held.
        changes: grows whenever a window changes.
    """

    key: Key
    kind: str
    reference: Reference
    total: Traffic = field(default_factory=Traffic)
    windows: dict[str, Window] = field(default_factory=dict)
    dropped: int = 0
    changes: int = 0

    @property
    def newest(self) -> str | None:
        """The name of the latest window by event time."""
        return max(self.windows, default=None)

    def window(self, name: str) -> Window:
        """The window of that name, made when missing."""
        window = self.windows.get(name)
        if window is None:
            window = Window(parts=Parts.of(self.reference))
            self.windows[name] = window
            if len(self.windows) > WINDOWS:
                del self.windows[min(self.windows)]
                self.dropped += 1
            if len(self.windows) > WHOLE:
                self.windows[sorted(self.windows)[-WHOLE - 1]].parts.thin()
        return window

    def judge(self, name: str) -> dict[str, Any] | None:
        """How far a window is from its reference; None when the release is not watched."""
        window, judge = self.windows[name], self.reference.judge
        if window.counts is None or judge is None:
            return None
        if window.drift is None or window.drift[0] != window.version:
            window.drift = (window.version, judge.figures(name, window.counts))
        return window.drift[1]


class Windows:
    """The windows of every release.

    Args:
        length: of a window, by event time in UTC.
        reference_of: asked once per release, and again while its bundle is unknown.

    Attributes:
        latest: by model, the greatest event time of users' calls, labels and feedback, and when
            that one came.
        answers: of the newest answers, request to release and track.
        before_change: called with key and name before a window changes.
    """

    def __init__(self, length: Length, reference_of: Callable[[str], Reference]) -> None:
        self.length = length
        self._reference_of = reference_of
        self.tracks: dict[Key, Track] = {}
        self.untracked = 0
        self.latest: dict[str, tuple[str, str]] = {}
        self.answers: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._aside: dict[tuple[Key, str], Track] = {}
        self.before_change: Callable[[Key, str], None] = lambda key, name: None

    def add(self, events: Iterable[Event]) -> None:
        """Count stored events of users and agents, and what was said of them later."""
        characters = _NAME_CHARACTERS[self.length]
        groups: dict[tuple[Key, str], list[Event]] = {}
        for event in events:
            key = self._place(event)
            if key is not None:
                groups.setdefault((key, event["time"][:characters]), []).append(event)
        for (key, name), group in groups.items():
            track = self._track(key, group[0]["kind"])
            if track is None:
                self.untracked += len(group)
                continue
            calls = [e for e in group if e["type"] in ("prediction", "answer")]
            self.before_change(key, name)
            track.total.add(calls)
            window = track.window(name)
            window.traffic.add(calls)
            window.events += len(group)
            window.parts.add(track.reference, group, calls)
            window.unsaved = True
            track.changes += 1
            if window.parts.waits:
                self._aside[key, name] = track

    def unknown(self) -> list[str]:
        """Releases whose bundle was not in the store when they were last asked for."""
        return sorted({t.key.release for t in self.tracks.values() if not t.reference.known})

    def adopt(self, release: str, reference: Reference) -> list[Track]:
        """The bundle of `release` turned up: count on with its bins.

        Returns:
            The tracks whose windows so far lack counts; give them to `backfill`.
        """
        adopted = [track for track in self.tracks.values() if track.key.release == release]
        for track in adopted:
            track.reference = reference
            for window in track.windows.values():
                window.parts, window.unsaved = Parts.of(reference), True
            track.changes += 1
        return adopted if reference.profile is not None else []

    def backfill(self, counted: Windows) -> None:
        """Merge feature counts of events from before `adopt`, counted in a `Windows` apart."""
        for key, theirs in counted.tracks.items():
            mine = self.tracks.get(key)
            if mine is None:
                continue
            for name, window in theirs.windows.items():
                here = mine.windows.get(name)
                if here is not None:
                    here.parts, here.unsaved = here.parts.merge(window.parts), True
            mine.changes += 1

    def of_model(self, model: str) -> list[Track]:
        """Tracks of a model, the newest release first."""
        tracks = [track for track in self.tracks.values() if track.key.model == model]
        return sorted(tracks, key=lambda track: track.total.last, reverse=True)

    @property
    def models(self) -> list[str]:
        return sorted({key.model for key in self.tracks})

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks.values())

    def settle(self) -> None:
        """Count what was put aside for later: cheap work done in larger pieces."""
        aside, self._aside = self._aside, {}
        for (_, name), track in aside.items():
            if name in track.windows:
                track.windows[name].parts.settle(track.reference)

    def reference(self, release: str) -> Reference:
        """The reference of a release, as its tracks have it."""
        known = (t.reference for t in list(self.tracks.values()) if t.key.release == release)
        return next(known, None) or self._reference_of(release)

    def forget(self) -> None:
        """As if nothing had come."""
        self.tracks.clear()
        self.latest.clear()
        self.answers.clear()
        self.untracked = 0

    def _place(self, event: Event) -> Key | None:
        """Whose window an event belongs to; None for what is in no window."""
        kind = event["type"]
        if event["purpose"] in _OTHER_PURPOSES:
            return None
        if kind != "judgement":  # those are made here, of answers that came before
            latest = self.latest.get(event["model"])
            if latest is None or event["time"] > latest[0]:
                self.latest[event["model"]] = (event["time"], event["ingested"])
        if kind == "answer":
            self._remember(event)
        if kind in ("prediction", "answer"):
            return Key(event["model"], event["release"], event["track"] or "")
        if event["kind"] != "llm" or kind == "label":
            return None
        release, track = event["release"], event["track"]
        if release is None or track is None:
            release, track = self.answers.get(event["request"] or "", (release, track))
        return None if release is None else Key(event["model"], release, track or "")

    def _remember(self, event: Event) -> None:
        self.answers[event["request"]] = (event["release"], event["track"] or "")
        if len(self.answers) > _ANSWERS:
            self.answers.popitem(last=False)

    def _track(self, key: Key, kind: str) -> Track | None:
        track = self.tracks.get(key)
        if track is None and len(self.tracks) < TRACKS:
            track = self.tracks[key] = Track(key, kind, self.reference(key.release))
        return track


def window_name(moment: datetime, length: Length) -> str:
    """The name of the window that `moment` lies in."""
    return moment.astimezone(UTC).isoformat()[: _NAME_CHARACTERS[length]]


def window_end(name: str) -> datetime:
    """The first moment after a window."""
    if len(name) == _NAME_CHARACTERS["hour"]:
        return datetime.fromisoformat(f"{name}:00:00+00:00") + timedelta(hours=1)
    return datetime.fromisoformat(f"{name}T00:00:00+00:00") + timedelta(days=1)


def window_start(name: str) -> datetime:
    """The first moment of a window."""
    hours = name if len(name) == _NAME_CHARACTERS["hour"] else f"{name}T00"
    return datetime.fromisoformat(f"{hours}:00:00+00:00")


def names_before(name: str, length: Length, count: int) -> list[str]:
    """The names of the windows of the same hour of the week, oldest first."""
    start = window_start(name)
    return [window_name(start - timedelta(weeks=k), length) for k in range(count, 0, -1)]
