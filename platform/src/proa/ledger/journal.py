"""The journal: an append-only, hash-chained record of every decision, in SQLite.

Each line's hash covers the line and the hash before it, so that a changed, lost or moved line
shows. A line is written once per `key`: a controller that died between journal and state repeats
its last step and the repeated line is not doubled.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proa.errors import Conflict
from proa.release.canonical import canonical_json, digest_bytes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, time TEXT NOT NULL, model TEXT NOT NULL,
    action TEXT NOT NULL, release TEXT, who TEXT NOT NULL, reason TEXT NOT NULL,
    details TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS journal_model ON journal (model, seq);
CREATE TRIGGER IF NOT EXISTS journal_no_update BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS journal_no_delete BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
_GENESIS = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Line:
    """One decision. `time` is RFC 3339 in UTC; `release` is `name/version@digest` or None."""

    seq: int
    key: str
    time: str
    model: str
    action: str
    release: str | None
    who: str
    reason: str
    details: Mapping[str, Any]
    prev: str
    hash: str

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        return asdict(self)


class Journal:
    """The journal in the SQLite file `path`. One process writes; any may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as db:
            db.executescript(_SCHEMA)

    def append(
        self,
        *,
        key: str,
        time: str,
        model: str,
        action: str,
        release: str | None,
        who: str,
        reason: str,
        details: Mapping[str, Any],
    ) -> Line:
        """Write one line, flushed to disk before this returns; a known key returns its line."""
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            known = db.execute("SELECT * FROM journal WHERE key = ?", (key,)).fetchone()
            if known is not None:
                return _line(known)
            last = db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
            seq, prev = (last["seq"] + 1, last["hash"]) if last else (1, _GENESIS)
            body: dict[str, Any] = {
                "seq": seq,
                "key": key,
                "time": time,
                "model": model,
                "action": action,
                "release": release,
                "who": who,
                "reason": reason,
                "details": dict(details),
                "prev": prev,
            }
            line = Line(**body, hash=digest_bytes(canonical_json(body)))
            db.execute(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*list(body.values())[:8], json.dumps(body["details"]), prev, line.hash),
            )
            db.execute("COMMIT")
            return line

    def lines(self, model: str | None = None, *, after: int = 0, limit: int = 10_000) -> list[Line]:
        """Lines in order, of one model or all, with `seq` above `after`."""
        with self._connect() as db:
            rows = db.execute(
                "SELECT * FROM journal WHERE seq > ? AND (? IS NULL OR model = ?) "
                "ORDER BY seq LIMIT ?",
                (after, model, model, limit),
            )
            return [_line(row) for row in rows]

    def verify(self) -> int:
        """Check the whole chain; return the number of lines.

        Raises:
            Conflict: a line was changed, lost or moved; the message names the first.
        """
        prev, count = _GENESIS, 0
        for line in self.lines(limit=-1):
            count += 1
            body = {key: value for key, value in line.to_json().items() if key != "hash"}
            whole = digest_bytes(canonical_json(body)) == line.hash
            if line.seq != count or line.prev != prev or not whole:
                raise Conflict(f"journal line {line.seq} does not follow from line {count - 1}")
            prev = line.hash
        return count

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            yield db
        finally:
            db.close()


def _line(row: sqlite3.Row) -> Line:
    return Line(**{**dict(row), "details": json.loads(row["details"])})
