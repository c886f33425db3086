"""The journal: an append-only, hash-chained record of every decision.

Each line's hash covers the line and the hash before it, so that a changed, lost or moved line
shows. The chain cannot show that its end was cut off, so the number and hash of the last line are
also noted beside it (`proa.ledger.journal_note`); `verify` compares the two, and with a head that
somebody noted elsewhere, since who can change both can change both alike.

A line is written once per `key`: a controller that died between journal and state repeats its last
step and the repeated line is not doubled. Lines are ordered by `seq`: the clock may step back.
Writers take turns over a lock of the database, and number and `prev` are unique in it: two of them
(a controller that lost its lease and does not know it yet) may both add lines, never two chains.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from proa.errors import Conflict, InvalidInput
from proa.ledger.database import Database, Row, Session
from proa.ledger.journal_note import FileNote, HeadNote, TableNote
from proa.ledger.sqlite import SqliteFile
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
    """The journal. One process writes; any may read.

    Args:
        database: holds the table `journal`; or the path of a SQLite file, which is made.
        note: where its end is noted; by default beside the file, else in the database.
    """

    def __init__(self, database: Database | Path, note: HeadNote | None = None) -> None:
        if isinstance(database, Path):
            database.parent.mkdir(parents=True, exist_ok=True)
            note = note or FileNote(database.with_suffix(".head"))
            database = SqliteFile(database, _SCHEMA)
        self._database = database
        self._note = note or TableNote()
        self._appending = threading.Lock()  # notes in the order of their lines

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
        """Write one line, safe before this returns; a known key returns its line.

        Raises:
            Unavailable: the database cannot be written; nothing was.
        """
        fields = {
            "key": key,
            "time": time,
            "model": model,
            "action": action,
            "release": release,
            "who": _storable(who),
            "reason": _storable(reason),
            "details": dict(details),
        }
        with self._appending:
            with self._database.writing("journal") as session:
                known = session.ask(_BY_KEY, {"key": key})
                if known:
                    return _line(known[0])
                head, noted = _last(session), self._noted(session)
                last: Head | Line = head
                if _is_cut(session, noted, head):
                    last = _insert(session, head, _loss(noted, head, time))
                line = _insert(session, last, fields)
                self._note.within(session, (line.seq, line.hash))
            self._note.after((line.seq, line.hash))
            return line

    def _noted(self, session: Session) -> Head:
        """What is noted beside: an empty head when nothing is, `_DAMAGED` when it is unreadable."""
        try:
            noted = self._note.read(session)
        except InvalidInput:
            return _DAMAGED
        return Head() if noted is None else Head(*noted)

    def lines(
        self,
        model: str | None = None,
        *,
        after: int = 0,
        limit: int = 10_000,
        actions: Sequence[str] = (),
    ) -> list[Line]:
        """Lines in order, of one model or all, with `seq` above `after`, of some actions or all.

        Args:
            limit: at most so many; all of them when it is negative.

        Raises:
            Unavailable: the database cannot be read.
        """
        with self._database.reading() as session:
            return _lines(session, model, after=after, limit=limit, actions=actions)

    def head(self) -> Head:
        """The last line's number and hash: noted elsewhere, it shows later that no line before it
        was changed or lost."""
        with self._database.reading() as session:
            return _last(session)

    def verify(self, noted: Head | None = None) -> int:
        """Check the whole chain and its end; return the number of lines.

        Args:
            noted: a head that `head` once gave.

        Raises:
            Conflict: a line was changed, lost or moved; the message names the first.
        """
        with self._database.reading() as session:
            lines = _lines(session, None, after=0, limit=-1, actions=())
            beside = self._noted(session)
        prev, count = _GENESIS, 0
        hashes = {0: _GENESIS}
        for line in lines:
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
        if beside == _DAMAGED or (beside.seq == 0 and count):
            raise Conflict(
                f"{self._note.name} is missing or damaged: whether the end of the journal of "
                f"{count} lines was cut off cannot be said",
                code="journal_cut",
            )
        for head, where in ((beside, self._note.name), (noted, "the head given")):
            if head is not None and hashes.get(head.seq) != head.hash:
                what = "does not have line" if head.seq > count else "has another line"
                raise Conflict(
                    f"the journal of {count} lines {what} {head.seq}, which {where} names: lines "
                    "were cut off or written anew",
                    code="journal_cut",
                )
        return count

    def close(self) -> None:
        self._database.close()


_COLUMNS: Final = ", ".join(field.name for field in fields(Line))
_BY_KEY: Final = f"SELECT {_COLUMNS} FROM journal WHERE key = :key"  # noqa: S608 - constants
_INSERT: Final = (
    f"INSERT INTO journal ({_COLUMNS}) VALUES "  # noqa: S608 - constants only
    "(:seq, :key, :time, :model, :action, :release, :who, :reason, :details, :prev, :hash)"
)
_ALL: Final = 2**62


def _last(session: Session) -> Head:
    rows = session.ask("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
    return Head(*rows[0]) if rows else Head()


def _is_cut(session: Session, noted: Head, last: Head) -> bool:
    """Whether the noted head is not in the journal. One that lies before the end is in it: a
    crash between a line and its note."""
    if noted.seq == 0 or noted == last:
        return False
    rows = session.ask("SELECT hash FROM journal WHERE seq = :seq", {"seq": noted.seq})
    return not rows or rows[0][0] != noted.hash


def _lines(
    session: Session, model: str | None, *, after: int, limit: int, actions: Sequence[str]
) -> list[Line]:
    chosen = {f"action_{chr(97 + number)}": action for number, action in enumerate(actions)}
    conditions = ["seq > :after"]
    if model is not None:
        conditions.append("model = :model")
    if chosen:
        conditions.append(f"action IN ({', '.join(f':{name}' for name in chosen)})")
    rows = session.ask(
        f"SELECT {_COLUMNS} FROM journal WHERE {' AND '.join(conditions)} "  # noqa: S608
        "ORDER BY seq LIMIT :limit",
        {"after": after, "model": model, "limit": _ALL if limit < 0 else limit, **chosen},
    )
    return [_line(row) for row in rows]


def _insert(session: Session, last: Head | Line, fields: Mapping[str, Any]) -> Line:
    body = {"seq": last.seq + 1, **fields, "prev": last.hash}
    line = Line(**body, hash=digest_bytes(canonical_json(body)))
    session.ask(_INSERT, {**line.to_json(), "details": json.dumps(body["details"])})
    return line


def _storable(text: str) -> str:
    """Not every database has a text with the character 0 in it; the chain is over what is kept."""
    return text.replace("\0", "\ufffd")


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


def _line(row: Row) -> Line:
    *plain, details, prev, digest = row
    return Line(*(*plain, json.loads(details), prev, digest))
