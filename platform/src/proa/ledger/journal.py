"""The journal: an append-only, hash-chained record of every decision, in SQLite.

Each line's hash covers the line and the hash before it, so that a changed, lost or moved line
shows. The chain cannot show that its end was cut off, so the number and hash of the last line also
stand in a file beside the database; `verify` compares the two, and with a head that somebody noted
elsewhere, since who can change both files can change both alike.

A line is written once per `key`: a controller that died between journal and state repeats its last
step and the repeated line is not doubled. Lines are ordered by `seq`: the clock may step back.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from proa.embedded.files import read_json, write_json
from proa.errors import Conflict, InvalidInput, NotFound
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
LOST = "lines_lost"
"""The action of a line which says that lines before it are gone."""


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


@dataclass(frozen=True, slots=True)
class Head:
    """The last line's number and hash; `0` and zeros for an empty journal."""

    seq: int = 0
    hash: str = _GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read `SEQ:sha256:HEX`.

        Raises:
            InvalidInput: another form.
        """
        seq, _, digest = text.partition(":")
        if not seq.isdigit() or len(digest) != len(_GENESIS) or not digest.startswith("sha256:"):
            raise InvalidInput(
                f"head {text!r}: expected NUMBER:sha256:<64 hex digits>, as verify prints it",
                param="head",
            )
        return cls(int(seq), digest)


_DAMAGED = Head(-1, "damaged")


class Journal:
    """The journal in the SQLite file `path`. One process writes; any may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head_file = path.with_suffix(".head")
        self._writing = threading.Lock()
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
        with self._writing, self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            known = db.execute("SELECT * FROM journal WHERE key = ?", (key,)).fetchone()
            if known is not None:
                return _line(known)
            head = self._last(db)
            last: Head | Line = head
            if self._is_cut(db, head):
                last = _insert(db, head, _loss(self._noted(), head, time))
            line = _insert(
                db,
                last,
                {
                    "key": key,
                    "time": time,
                    "model": model,
                    "action": action,
                    "release": release,
                    "who": who,
                    "reason": reason,
                    "details": dict(details),
                },
            )
            db.execute("COMMIT")
            write_json(self._head_file, {"seq": line.seq, "hash": line.hash})
            return line

    def _last(self, db: sqlite3.Connection) -> Head:
        last = db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(last["seq"], last["hash"]) if last else Head()

    def _noted(self) -> Head:
        """What the file beside the database says: an empty head when it is not there, `_DAMAGED`
        when it cannot be read."""
        try:
            value = read_json(self._head_file)
            return Head(int(value["seq"]), str(value["hash"]))
        except NotFound:
            return Head()
        except (InvalidInput, KeyError, TypeError, ValueError):
            return _DAMAGED

    def _is_cut(self, db: sqlite3.Connection, last: Head) -> bool:
        """Whether the noted head is not in the journal. One that lies before the end is in it: a
        crash between a line and its note."""
        noted = self._noted()
        if noted.seq == 0 or noted == last:
            return False
        row = db.execute("SELECT hash FROM journal WHERE seq = ?", (noted.seq,)).fetchone()
        return row is None or row["hash"] != noted.hash

    def lines(
        self,
        model: str | None = None,
        *,
        after: int = 0,
        limit: int = 10_000,
        actions: Sequence[str] = (),
    ) -> list[Line]:
        """Lines in order, of one model or all, with `seq` above `after`, of some actions or all."""
        marks = ", ".join("?" * len(actions))
        chosen = f"AND action IN ({marks}) " if actions else ""
        with self._connect() as db:
            rows = db.execute(
                "SELECT * FROM journal WHERE seq > ? AND (? IS NULL OR model = ?) "  # noqa: S608
                f"{chosen}ORDER BY seq LIMIT ?",
                (after, model, model, *actions, limit),
            )
            return [_line(row) for row in rows]

    def head(self) -> Head:
        """The last line's number and hash: noted elsewhere, it shows later that no line before it
        was changed or lost."""
        with self._connect() as db:
            return self._last(db)

    def verify(self, noted: Head | None = None) -> int:
        """Check the whole chain and its end; return the number of lines.

        Args:
            noted: a head that `head` once gave.

        Raises:
            Conflict: a line was changed, lost or moved; the message names the first.
        """
        prev, count = _GENESIS, 0
        hashes = {0: _GENESIS}
        for line in self.lines(limit=-1):
            count += 1
            body = {key: value for key, value in line.to_json().items() if key != "hash"}
            whole = digest_bytes(canonical_json(body)) == line.hash
            if line.seq != count or line.prev != prev or not whole:
                raise Conflict(
                    f"journal line {line.seq} does not follow from line {count - 1}",
                    code="journal_broken",
                )
            if line.action == LOST:
                raise Conflict(f"journal line {line.seq}: {line.reason}", code="journal_cut")
            prev = hashes[count] = line.hash
        beside = self._noted()
        if beside == _DAMAGED or (beside.seq == 0 and count):
            raise Conflict(
                f"{self._head_file.name} is missing or damaged: whether the end of the journal of "
                f"{count} lines was cut off cannot be said",
                code="journal_cut",
            )
        for head, where in ((beside, self._head_file.name), (noted, "the head given")):
            if head is not None and hashes.get(head.seq) != head.hash:
                what = "does not have line" if head.seq > count else "has another line"
                raise Conflict(
                    f"the journal of {count} lines {what} {head.seq}, which {where} names: lines "
                    "were cut off or written anew",
                    code="journal_cut",
                )
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


def _insert(db: sqlite3.Connection, last: Head | Line, fields: Mapping[str, Any]) -> Line:
    body = {"seq": last.seq + 1, **fields, "prev": last.hash}
    line = Line(**body, hash=digest_bytes(canonical_json(body)))
    db.execute(
        "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*list(body.values())[:8], json.dumps(body["details"]), last.hash, line.hash),
    )
    return line


def _loss(noted: Head, last: Head, time: str) -> dict[str, Any]:
    """The line that says so before anything is written over the gap."""
    return {
        "key": f"{LOST}:{noted.seq}:{noted.hash}:{last.seq}",
        "time": time,
        "model": "",
        "action": LOST,
        "release": None,
        "who": "proa-controller",
        "reason": (
            f"its head file was damaged when the journal ended at line {last.seq}"
            if noted == _DAMAGED
            else f"the journal ended at line {last.seq}, but line {noted.seq} had been written"
        ),
        "details": {"noted": str(noted), "found": str(last)},
    }


def _line(row: sqlite3.Row) -> Line:
    return Line(**{**dict(row), "details": json.loads(row["details"])})
