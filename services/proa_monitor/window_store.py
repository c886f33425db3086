"""Windows in the state database: written together with the number of the last file they cover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proa.ledger.database import Database
from proa_monitor.traffic import Traffic
from proa_monitor.window_parts import Parts
from proa_monitor.windows import WHOLE, Key, Track, Window, Windows

__all__ = ["TABLES", "Snapshot", "WindowStore"]

SCHEMA_VERSION: Final = 2
TABLES: Final = """
CREATE TABLE IF NOT EXISTS monitor_windows (
  model {word} NOT NULL, release {word} NOT NULL, track {word} NOT NULL, name {word} NOT NULL,
  events bigint NOT NULL, traffic {word} NOT NULL, parts {bytes} NOT NULL,
  PRIMARY KEY (model, release, track, name)
);
CREATE TABLE IF NOT EXISTS monitor_tracks (
  model {word} NOT NULL, release {word} NOT NULL, track {word} NOT NULL, body {word} NOT NULL,
  PRIMARY KEY (model, release, track)
);
CREATE TABLE IF NOT EXISTS monitor_meta (name {word} PRIMARY KEY, body {word} NOT NULL);
"""
_LOCK: Final = "monitor"
_WINDOW: Final = (
    "INSERT INTO monitor_windows (model, release, track, name, events, traffic, parts) "
    "VALUES (:model, :release, :track, :name, :events, :traffic, :parts) "
    "ON CONFLICT (model, release, track, name) DO UPDATE SET "
    "events = EXCLUDED.events, traffic = EXCLUDED.traffic, parts = EXCLUDED.parts"
)
_TRACK: Final = (
    "INSERT INTO monitor_tracks (model, release, track, body) "
    "VALUES (:model, :release, :track, :body) "
    "ON CONFLICT (model, release, track) DO UPDATE SET body = EXCLUDED.body"
)
_META: Final = (
    "INSERT INTO monitor_meta (name, body) VALUES (:name, :body) "
    "ON CONFLICT (name) DO UPDATE SET body = EXCLUDED.body"
)


@dataclass(slots=True)
class Snapshot:
    """What has to be written, as of one moment. Windows are written as they are when `rows` comes
    to them; whoever changes one of `waiting` before that calls `keep` first.
    """

    meta: bytes
    tracks: list[dict[str, Any]]
    waiting: dict[tuple[Key, str], tuple[Track, Window]]
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, windows: Windows, through: int) -> Snapshot:
        """Everything unsaved."""
        meta = {
            "schema_version": SCHEMA_VERSION,
            "through": through,
            "length": windows.length,
            "untracked": windows.untracked,
            "latest": windows.latest,
            "answers": list(windows.answers.items()),
        }
        changed = {
            (track.key, name): (track, window)
            for track in windows
            for name, window in track.windows.items()
            if window.unsaved
        }
        keys = {key for key, _ in changed}
        tracks = [
            {**track.key._asdict(), "body": _track_json(track)}
            for track in windows
            if track.key in keys
        ]
        return cls(orjson.dumps(meta), tracks, changed, [])

    def keep(self, key: Key, name: str) -> None:
        """Take the window as it is now."""
        found = self.waiting.pop((key, name), None)
        if found is not None:
            track, window = found
            self.rows.append(_row(track, name, window))
            window.unsaved = False

    def steps(self) -> Iterator[None]:
        """Take one window after the other."""
        while self.waiting:
            self.keep(*next(iter(self.waiting)))
            yield

    def undo(self, windows: Windows) -> None:
        """It could not be written: all of it is unsaved still."""
        for row in self.rows:
            track = windows.tracks.get(Key(row["model"], row["release"], row["track"]))
            if track is not None and row["name"] in track.windows:
                track.windows[row["name"]].unsaved = True


class WindowStore:
    """Reads and writes windows; calls ask the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def through(self) -> int:
        """The number of the last file that the saved windows cover; 0 when none were saved."""
        with self._database.reading() as session:
            saved = session.ask("SELECT body FROM monitor_meta WHERE name = 'windows'")
        try:
            return int(orjson.loads(saved[0][0])["through"]) if saved else 0
        except (ValueError, KeyError, TypeError):
            return 0

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot, all of it or nothing.

        Raises:
            Unavailable: the database is away.
        """
        with self._database.writing(_LOCK) as session:
            for row in snapshot.rows:
                session.ask(_WINDOW, row)
            for track in snapshot.tracks:
                session.ask(_TRACK, track)
                session.ask(
                    "DELETE FROM monitor_windows WHERE model = :model AND release = :release "
                    "AND track = :track AND name < :oldest",
                    {k: track[k] for k in Key._fields} | {"oldest": _oldest(track["body"])},
                )
            session.ask(_META, {"name": "windows", "body": snapshot.meta.decode()})

    def clear(self) -> None:
        """Forget every window."""
        with self._database.writing(_LOCK) as session:
            for table in ("monitor_windows", "monitor_tracks"):
                session.ask(f"DELETE FROM {table}")  # noqa: S608 - constants
            session.ask("DELETE FROM monitor_meta WHERE name = 'windows'")

    def restore(self, windows: Windows, fits: Callable[[int], bool]) -> int | None:
        """Put what was saved into `windows`, which are empty.

        Args:
            fits: whether the number of the last file that was covered can be so.

        Returns:
            that number; None when nothing was saved, or it does not fit: the length of windows,
            the bins the bundle store holds now, or the events on disk are others.

        Raises:
            InvalidInput, ValueError, KeyError, TypeError: the rows are damaged.
        """
        with self._database.reading() as session:
            saved = session.ask("SELECT body FROM monitor_meta WHERE name = 'windows'")
            tracks = session.ask("SELECT model, release, track, body FROM monitor_tracks")
            rows = session.ask(
                "SELECT model, release, track, name, events, traffic, parts FROM monitor_windows"
            )
        if not saved:
            return None
        meta = orjson.loads(saved[0][0])
        if (meta["schema_version"], meta["length"]) != (SCHEMA_VERSION, windows.length):
            return None
        if not fits(meta["through"]):
            return None
        for *key, body in tracks:
            track = _track_from(Key(*key), orjson.loads(body), windows)
            if track is None:
                return None
            windows.tracks[track.key] = track
        for model, release, place, name, events, traffic, parts in rows:
            windows.tracks[Key(model, release, place)].windows[name] = Window(
                Traffic.from_json(orjson.loads(traffic)),
                int(events),
                Parts.from_bytes(bytes(parts)),
                unsaved=False,
            )
        for track in windows:
            for name in sorted(track.windows)[:-WHOLE]:
                track.windows[name].parts.thin()
        windows.untracked = meta["untracked"]
        windows.latest = {model: (time, came) for model, (time, came) in meta["latest"].items()}
        windows.answers.update({request: (r, t) for request, (r, t) in meta["answers"]})
        return int(meta["through"])


def _row(track: Track, name: str, window: Window) -> dict[str, Any]:
    return {
        **track.key._asdict(),
        "name": name,
        "events": window.events,
        "traffic": orjson.dumps(window.traffic.to_json()).decode(),
        "parts": window.parts.to_bytes(track.reference),
    }


def _track_json(track: Track) -> str:
    return orjson.dumps(
        {
            "kind": track.kind,
            "reference": track.reference.digest,
            "total": track.total.to_json(),
            "dropped": track.dropped,
            "oldest": min(track.windows, default=""),
        }
    ).decode()


def _oldest(body: str) -> str:
    return str(orjson.loads(body)["oldest"])


def _track_from(key: Key, saved: dict[str, Any], windows: Windows) -> Track | None:
    reference = windows.reference(key.release)
    if saved["reference"] != reference.digest:
        return None
    return Track(
        key,
        saved["kind"],
        reference,
        Traffic.from_json(saved["total"]),
        {},
        saved["dropped"],
    )
