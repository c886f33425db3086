"""What each release met per day or hour of event time, and how far that is from its reference.

State is bounded: so many releases, so many windows each; what is beyond is counted, stays in the
segments, and is said in `/metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from proa.events.event import Event
from proa.profile.drift import WindowDrift
from proa.profile.window import WindowCounts
from proa_monitor.references import Reference
from proa_monitor.traffic import Traffic

__all__ = ["Key", "Length", "Track", "Window", "Windows", "window_end", "window_name"]

SCHEMA_VERSION: Final = 1
_TRACKS: Final = 500
_WINDOWS: Final = 400

Length = Literal["day", "hour"]
_NAME_CHARACTERS: Final[dict[Length, int]] = {"day": 10, "hour": 13}


class Key(NamedTuple):
    """Whose windows: `track` is empty for calls that came past the gateway."""

    model: str
    release: str
    track: str


@dataclass(slots=True)
class Window:
    """One stretch of event time. `counts` is None when the release is not watched."""

    traffic: Traffic = field(default_factory=Traffic)
    counts: WindowCounts | None = None
    judged: tuple[int, WindowDrift] | None = None


@dataclass(slots=True)
class Track:
    """One release in one place of its rollout.

    Attributes:
        total: over all windows, those no longer held included.
        windows: by name (`2013-04-01` or `2013-04-01T10`), in no order.
        dropped: windows no longer held.
    """

    key: Key
    kind: str
    reference: Reference
    total: Traffic = field(default_factory=Traffic)
    windows: dict[str, Window] = field(default_factory=dict)
    dropped: int = 0

    @property
    def newest(self) -> str | None:
        """The name of the latest window by event time."""
        return max(self.windows, default=None)

    def window(self, name: str) -> Window:
        """The window of that name, made when missing."""
        window = self.windows.get(name)
        if window is None:
            profile = self.reference.profile
            window = Window(counts=None if profile is None else WindowCounts.of(profile))
            self.windows[name] = window
            if len(self.windows) > _WINDOWS:
                del self.windows[min(self.windows)]
                self.dropped += 1
        return window

    def judge(self, name: str) -> WindowDrift | None:
        """The drift of a window; None when the release is not watched."""
        window, rule = self.windows[name], self.reference.rule
        if window.counts is None or rule is None:
            return None
        if window.judged is None or window.judged[0] != window.counts.rows:
            window.judged = (window.counts.rows, rule.judge(window.counts))
        return window.judged[1]


class Windows:
    """The windows of every release.

    Args:
        length: of a window, by event time in UTC.
        reference_of: asked once per release, and again while its bundle is unknown.
    """

    def __init__(self, length: Length, reference_of: Callable[[str], Reference]) -> None:
        self.length = length
        self._reference_of = reference_of
        self.tracks: dict[Key, Track] = {}
        self.untracked = 0

    def add(self, events: Iterable[Event]) -> None:
        """Count stored predictions and answers of users and agents."""
        characters = _NAME_CHARACTERS[self.length]
        groups: dict[tuple[Key, str], list[Event]] = {}
        for event in events:
            if event["type"] not in ("prediction", "answer"):
                continue
            if event["purpose"] in ("gate", "judge", "shadow"):
                continue
            key = Key(event["model"], event["release"], event["track"] or "")
            groups.setdefault((key, event["time"][:characters]), []).append(event)
        for (key, name), group in groups.items():
            track = self._track(key, group[0]["kind"])
            if track is None:
                self.untracked += len(group)
                continue
            track.total.add(group)
            window = track.window(name)
            window.traffic.add(group)
            if window.counts is not None and track.reference.profile is not None:
                window.counts.add(track.reference.profile, group)

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
                profile = reference.profile
                window.counts = None if profile is None else WindowCounts.of(profile)
        return adopted if reference.profile is not None else []

    def backfill(self, counted: Windows) -> None:
        """Merge feature counts of events from before `adopt`, counted in a `Windows` apart."""
        for key, theirs in counted.tracks.items():
            mine = self.tracks.get(key)
            if mine is None:
                continue
            for name, window in theirs.windows.items():
                here = mine.windows.get(name)
                if here is not None and here.counts is not None and window.counts is not None:
                    here.counts = here.counts.merge(window.counts)
                    here.judged = None

    def of_model(self, model: str) -> list[Track]:
        """Tracks of a model, the newest release first."""
        tracks = [track for track in self.tracks.values() if track.key.model == model]
        return sorted(tracks, key=lambda track: track.total.last, reverse=True)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "length": self.length,
            "untracked": self.untracked,
            "tracks": [_track_json(track) for track in self.tracks.values()],
        }

    def restore(self, value: Mapping[str, Any]) -> bool:
        """Take over what `to_json` wrote; False, and nothing happens, when it does not fit.

        It does not fit when windows are counted in another length or in other bins than the
        bundle store holds now.
        """
        if (value["schema_version"], value["length"]) != (SCHEMA_VERSION, self.length):
            return False
        tracks = {}
        for saved in value["tracks"]:
            track = _track_from(saved, self._reference_of(saved["key"][1]))
            if track is None:
                return False
            tracks[track.key] = track
        self.tracks, self.untracked = tracks, value["untracked"]
        return True

    def _track(self, key: Key, kind: str) -> Track | None:
        track = self.tracks.get(key)
        if track is None and len(self.tracks) < _TRACKS:
            known = (t.reference for t in self.tracks.values() if t.key.release == key.release)
            reference = next(known, None) or self._reference_of(key.release)
            track = self.tracks[key] = Track(key, kind, reference)
        return track


def window_name(moment: datetime, length: Length) -> str:
    """The name of the window that `moment` lies in."""
    return moment.astimezone(UTC).isoformat()[: _NAME_CHARACTERS[length]]


def window_end(name: str) -> datetime:
    """The first moment after a window."""
    if len(name) == _NAME_CHARACTERS["hour"]:
        return datetime.fromisoformat(f"{name}:00:00+00:00") + timedelta(hours=1)
    return datetime.fromisoformat(f"{name}T00:00:00+00:00") + timedelta(days=1)


def _track_json(track: Track) -> dict[str, Any]:
    profile = track.reference.profile
    return {
        "key": list(track.key),
        "kind": track.kind,
        "profile": None if profile is None else profile.digest,
        "total": track.total.to_json(),
        "dropped": track.dropped,
        "windows": {
            name: {
                "traffic": window.traffic.to_json(),
                "counts": None if window.counts is None else window.counts.to_json(),
            }
            for name, window in track.windows.items()
        },
    }


def _track_from(saved: Mapping[str, Any], reference: Reference) -> Track | None:
    profile = reference.profile
    if saved["profile"] != (None if profile is None else profile.digest):
        return None
    windows: Sequence[tuple[str, Mapping[str, Any]]] = list(saved["windows"].items())
    return Track(
        Key(*saved["key"]),
        saved["kind"],
        reference,
        Traffic.from_json(saved["total"]),
        {
            name: Window(
                Traffic.from_json(window["traffic"]),
                None if window["counts"] is None else WindowCounts.from_json(window["counts"]),
            )
            for name, window in windows
        },
        saved["dropped"],
    )
