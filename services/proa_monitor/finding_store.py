"""Findings on disk: each change of the book is durable together with the findings it made."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Literal

import orjson

from proa.errors import InvalidInput, NotFound, ProaError
from proa.findings.book import BookKey, FindingBook
from proa.findings.finding import Finding
from proa.findings.observation import GROUPS, Observation
from proa.ledger.database import Database, Session

__all__ = ["TABLES", "FindingStore"]

TABLES: Final = """
CREATE TABLE IF NOT EXISTS monitor_findings (
  id {word} PRIMARY KEY, model {word} NOT NULL, release {word} NOT NULL, track {word} NOT NULL,
  type {word} NOT NULL, since {word} NOT NULL, last {word} NOT NULL, is_open bigint NOT NULL,
  body {word} NOT NULL
);
CREATE INDEX IF NOT EXISTS monitor_findings_by_time ON monitor_findings (since);
CREATE TABLE IF NOT EXISTS monitor_book (
  model {word} NOT NULL, kind {word} NOT NULL, release {word} NOT NULL, track {word} NOT NULL,
  scale {word} NOT NULL, page {bytes} NOT NULL,
  PRIMARY KEY (model, kind, release, track, scale)
);
"""
MOST: Final = 1000
"""Findings of one answer at most."""
_LOCK: Final = "monitor"
_LENIENT: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

Series = tuple[str, str, str, str]
"""model, release, track, type"""


class FindingStore:
    """The book, and every finding there ever was. Methods may be called from any thread.

    Attributes:
        totals: findings ever opened, by model, release, track and type.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._book = FindingBook()
        self._open: dict[str, Finding] = {}
        self.totals: Counter[Series] = Counter()
        with database.reading() as session:
            for *key, page in session.ask(
                "SELECT model, kind, release, track, scale, page FROM monitor_book"
            ):
                self._book.restore(BookKey(*key), bytes(page))
            for (body,) in session.ask("SELECT body FROM monitor_findings WHERE is_open = 1"):
                finding = Finding.from_wire(orjson.loads(body))
                self._open[finding.id] = finding
            for *series, count in session.ask(
                "SELECT model, release, track, type, COUNT(*) FROM monitor_findings "
                "GROUP BY model, release, track, type"
            ):
                self.totals[(series[0], series[1], series[2], series[3])] = int(count)

    @property
    def left_out(self) -> int:
        """Observations that the book has no room for."""
        return self._book.left_out

    def see(
        self,
        key: BookKey,
        window: str,
        window_start: str,
        window_end: str,
        observations: Iterable[Observation],
    ) -> list[Finding]:
        """`FindingBook.see`, made durable; returns the findings that are new or changed.

        Raises:
            Unavailable: the database is away; then nothing was seen, and it may be said again.
        """
        seen = list(observations)
        return self._change(
            key, lambda: self._book.see(key, window, window_start, window_end, seen)
        )

    def end(self, key: BookKey, moment: str) -> list[Finding]:
        """`FindingBook.end`, made durable."""
        return self._change(key, lambda: self._book.end(key, moment))

    @property
    def keys(self) -> list[BookKey]:
        """Everything that was ever judged."""
        with self._lock:
            return self._book.keys

    def open(self, model: str | None = None) -> list[Finding]:
        """The open findings, of one model or all, the newest first. Asks no database."""
        with self._lock:
            found = [f for f in self._open.values() if model in (None, f.model)]
        return sorted(found, key=lambda f: (f.since, f.id), reverse=True)

    def get(self, finding_id: str) -> Finding:
        """One finding.

        Raises:
            NotFound: there was never one of that id.
        """
        with self._database.reading() as session:
            rows = session.ask(
                "SELECT body FROM monitor_findings WHERE id = :id", {"id": finding_id[:64]}
            )
        if not rows:
            raise NotFound(f"no finding has the id {finding_id!r:.80}", code="unknown_finding")
        return Finding.from_wire(orjson.loads(rows[0][0]))

    def find(
        self,
        model: str | None = None,
        *,
        only: Literal["open", "closed"] | None = None,
        kind: str | None = None,
        since: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Finding], bool]:
        """Findings, the newest first, and whether there are more of them.

        Args:
            kind: a type of finding.
            since: only those seen, or gone, in a window that ended at this moment or later.

        Raises:
            InvalidInput: no type of finding.
        """
        if kind is not None and kind not in GROUPS:
            raise InvalidInput(
                f"type = {kind!r:.80}: expected one of {', '.join(GROUPS)}", param="type"
            )
        conditions = {
            "model": ("model = :model", model),
            "open": ("is_open = :open", None if only is None else int(only == "open")),
            "kind": ("type = :kind", kind),
            "since": ("last >= :since", since),
        }
        asked = {name: one for name, one in conditions.items() if one[1] is not None}
        where = " AND ".join(["1 = 1", *(condition for condition, _ in asked.values())])
        with self._database.reading() as session:
            rows = session.ask(
                f"SELECT body FROM monitor_findings WHERE {where} "  # noqa: S608 - constants only
                "ORDER BY since DESC, id DESC LIMIT :most",
                {name: value for name, (_, value) in asked.items()} | {"most": limit + 1},
            )
        found = [Finding.from_wire(orjson.loads(body)) for (body,) in rows[:limit]]
        return found, len(rows) > limit

    def _change(self, key: BookKey, change: Callable[[], list[Finding]]) -> list[Finding]:
        with self._lock:
            before = self._book.to_bytes(key) if key in self._book.keys else None
            changed = change()
            page = self._book.to_bytes(key)
            if page == before:
                return changed
            try:
                with self._database.writing(_LOCK) as session:
                    new = _write(session, key, page, changed)
            except ProaError:
                self._book.restore(key, before)
                raise
            for finding in changed:
                if finding.open:
                    self._open[finding.id] = finding
                else:
                    self._open.pop(finding.id, None)
            self.totals.update((f.model, f.release, f.track, f.type) for f in new)
            return changed


def _write(session: Session, key: BookKey, page: bytes, changed: list[Finding]) -> list[Finding]:
    """Returns the findings that were not there before."""
    session.ask(
        "INSERT INTO monitor_book (model, kind, release, track, scale, page) "
        "VALUES (:model, :kind, :release, :track, :scale, :page) "
        "ON CONFLICT (model, kind, release, track, scale) DO UPDATE SET page = EXCLUDED.page",
        {**key._asdict(), "page": page},
    )
    new = []
    for finding in changed:
        if not session.ask("SELECT 1 FROM monitor_findings WHERE id = :id", {"id": finding.id}):
            new.append(finding)
        session.ask(
            "INSERT INTO monitor_findings "
            "(id, model, release, track, type, since, last, is_open, body) VALUES "
            "(:id, :model, :release, :track, :type, :since, :last, :open, :body) "
            "ON CONFLICT (id) DO UPDATE SET last = EXCLUDED.last, "
            "is_open = EXCLUDED.is_open, body = EXCLUDED.body",
            {
                "id": finding.id,
                "model": finding.model,
                "release": finding.release,
                "track": finding.track,
                "type": finding.type,
                "since": finding.since,
                "last": max(finding.seen, finding.until or ""),
                "open": int(finding.open),
                "body": orjson.dumps(finding.to_wire(), default=str, option=_LENIENT).decode(),
            },
        )
    return new
