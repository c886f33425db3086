"""The release of each model that came first: what no retraining moves."""

from __future__ import annotations

from typing import Final

from proa.ledger.database import Database
from proa_monitor.references import Reference
from proa_monitor.windows import Track, Windows

__all__ = ["TABLES", "Anchors"]

TABLES: Final = """
CREATE TABLE IF NOT EXISTS monitor_anchors (model {word} PRIMARY KEY, release {word} NOT NULL);
"""
_LOCK: Final = "monitor"


class Anchors:
    """By model, the first release with a profile that calls came for; it never changes."""

    def __init__(self, database: Database, windows: Windows) -> None:
        self._database, self._windows = database, windows
        with database.reading() as session:
            self._first: dict[str, str] = {
                str(model): str(release)
                for model, release in session.ask("SELECT model, release FROM monitor_anchors")
            }
        self._references: dict[str, Reference] = {}

    def see(self, track: Track) -> None:
        """A release serves: keep it when it is the first one of its model."""
        model = track.key.model
        if (
            model in self._first
            or track.reference.profile is None
            or track.key.track == "challenger"
        ):
            return
        with self._database.writing(_LOCK) as session:
            session.ask(
                "INSERT INTO monitor_anchors (model, release) VALUES (:model, :release) "
                "ON CONFLICT DO NOTHING",
                {"model": model, "release": track.key.release},
            )
        self._first[model] = track.key.release

    def of(self, model: str) -> Reference | None:
        """Its reference; None before the first release, or while its bundle cannot be read."""
        release = self._first.get(model)
        if release is None:
            return None
        found = self._references.get(release)
        if found is None:
            found = self._windows.reference(release)
            if found.known:
                self._references[release] = found
        return found
