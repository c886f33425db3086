"""What was observed in every window that was judged, and of which events that was made."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson

from proa.findings.observation import Observation
from proa.ledger.database import Database
from proa_monitor.windows import Key

__all__ = ["TABLES", "Judged"]

TABLES: Final = """
CREATE TABLE IF NOT EXISTS monitor_judged (
  model {word} NOT NULL, release {word} NOT NULL, track {word} NOT NULL, name {word} NOT NULL,
  version {word} NOT NULL, observations {bytes} NOT NULL,
  PRIMARY KEY (model, release, track, name)
);
"""
KEPT: Final = 120
"""Windows of a track, the newest, whose observations are kept."""
_LOCK: Final = "monitor"
_LENIENT: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_PUT: Final = (
    "INSERT INTO monitor_judged (model, release, track, name, version, observations) "
    "VALUES (:model, :release, :track, :name, :version, :observations) "
    "ON CONFLICT (model, release, track, name) DO UPDATE SET "
    "version = EXCLUDED.version, observations = EXCLUDED.observations"
)


class Judged:
    """Observations by track and window. Methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: dict[Key, dict[str, tuple[str, tuple[Observation, ...]]]] = {}
        with database.reading() as session:
            rows = session.ask(
                "SELECT model, release, track, name, version, observations FROM monitor_judged"
            )
        for model, release, track, name, version, data in rows:
            found = orjson.loads(zlib.decompress(bytes(data)))
            seen = tuple(Observation(**one) for one in found)
            self._kept.setdefault(Key(model, release, track), {})[name] = (version, seen)

    def of(self, key: Key, name: str) -> tuple[Observation, ...]:
        """What was observed in a window; nothing while it is not over."""
        with self._lock:
            return self._kept.get(key, {}).get(name, ("", ()))[1]

    def version(self, key: Key, name: str) -> str | None:
        """Of which events that was made; None when it was never judged, or long ago."""
        with self._lock:
            found = self._kept.get(key, {}).get(name)
        return None if found is None else found[0]

    def newest(self, key: Key) -> str | None:
        """The newest window that was judged."""
        with self._lock:
            kept = self._kept.get(key, {})
            return max((name for name in kept if "/" not in name), default=None)

    def oldest(self, key: Key) -> str | None:
        """Older windows are not known any more; None while nothing was given up."""
        with self._lock:
            kept = self._kept.get(key, {})
            return min(kept) if len(kept) >= KEPT else None

    def put(self, key: Key, name: str, version: str, seen: Sequence[Observation]) -> None:
        """A window was judged, for the first time or again.

        Raises:
            Unavailable: the database is away; nothing changed.
        """
        text = orjson.dumps([asdict(one) for one in seen], default=str, option=_LENIENT)
        row: dict[str, Any] = {**key._asdict(), "name": name, "version": version}
        row["observations"] = zlib.compress(text, 1)
        with self._lock:
            kept = self._kept.get(key, {})
            oldest = min(kept, default=name) if len(kept) >= KEPT and name not in kept else None
            with self._database.writing(_LOCK) as session:
                session.ask(_PUT, row)
                if oldest is not None:
                    session.ask(
                        "DELETE FROM monitor_judged WHERE model = :model AND release = :release "
                        "AND track = :track AND name = :oldest",
                        {**key._asdict(), "oldest": oldest},
                    )
            kept = self._kept.setdefault(key, kept)
            kept[name] = (version, tuple(seen))
            if oldest is not None:
                kept.pop(oldest, None)
