"""Where calls are kept and counted. SQLite here; another database answers the same contract."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from proa.errors import InvalidInput, Unavailable
from proa.http.clock import WallClock, rfc3339
from proa.http.ids import new_id
from proa.ledger.call import BROKEN_STREAM, CALL_FIELDS, Call
from proa.ledger.sqlite import connect
from proa.ledger.tally import Tally
from proa.ledger.tally_query import QUERIES, tallies_of

__all__ = [
    "DIMENSIONS",
    "CallStore",
    "Cost",
    "Percentiles",
    "ReleaseCounts",
    "SqliteCallStore",
    "TallyStore",
]

DIMENSIONS: Final = ("team", "feature", "model", "release", "purpose")
MAX_LIMIT: Final = 10_000
_END_OF_TIME: Final = "~"  # sorts after every RFC 3339 text

_T = TypeVar("_T")
_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles of the values themselves, not of buckets; milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class ReleaseCounts:
    """What one release did at the user door.

    Attributes:
        errors: answers of 500 and above, and streams that broke.
        client_gone: calls whose client left before the end; they are no errors.
        units: distinct units served.
        latency_ms: over answers below 400 that reached their end: a fast refusal is no fast
            answer; None without any.
        ttft_ms: over streams that had a first content; None without any.
    """

    calls: int
    errors: int
    client_gone: int
    units: int
    rows: int
    tokens_in: int
    tokens_out: int
    latency_ms: Percentiles | None
    ttft_ms: Percentiles | None

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of a bill.

    Attributes:
        calls: calls at the user door.
        engine_calls: calls at the engine door.
        tokens_in: tokens at the engine door, where every token passes once.
        cost_micro: both doors; classic calls are charged at the user door.
    """

    key: str | None
    calls: int
    engine_calls: int
    tokens_in: int
    tokens_out: int
    cost_micro: int

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)


class CallStore(Protocol):
    """Calls, each stored once however often it is inserted. Times are RFC 3339 as in `Call`."""

    def insert(self, calls: Sequence[Call]) -> int:
        """Store calls; those whose (request, door) is there already change nothing.

        Returns:
            how many were new.
        """

    def calls(
        self,
        *,
        since: str | None = None,
        model: str | None = None,
        request: str | None = None,
        limit: int = 1000,
    ) -> list[Call]:
        """Calls in order of their start. `request` also finds the calls it caused."""

    def costs(self, *, by: str, since: str | None = None, until: str | None = None) -> list[Cost]:
        """The bill of [since, until) by one of `DIMENSIONS`, dearest first.

        An engine's call without model or release counts for those of the call that caused it.
        Exams, judges and shadows are nobody's bill: by team and feature they are left out.
        """

    def counts(
        self, *, model: str, since: str | None = None, purpose: str = "user"
    ) -> dict[str, ReleaseCounts]:
        """Exact counts per release of one model since a moment."""


class TallyStore(Protocol):
    """Calls, summed up for whoever judges releases by them."""

    @property
    def identity(self) -> tuple[str, str]:
        """The ledger's id and when it was made: calls before that may be in another one."""

    def tallies(
        self, *, model: str, since: str, until: str | None = None, purpose: str = "user"
    ) -> dict[str, Tally]:
        """What each release of a model did in [since, until)."""


class SqliteCallStore:
    """The ledger in one SQLite file (WAL): one writer at a time, readers never wait.

    Safe to call from several threads.

    Attributes:
        identity: an id made with the file, and when; gateways that share a ledger say the same.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        # An insert is only answered when a power cut cannot take it: its spool is deleted next.
        self._writer = connect(path, durable=True)
        self._writer.executescript(_SCHEMA)
        _add_columns(self._writer)
        self._reader = connect(path)
        self.identity = _identity(self._writer)

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def insert(self, calls: Sequence[Call]) -> int:
        with self._writing:
            before = self._writer.total_changes
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany(_INSERT, map(_AS_ROW, calls))
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise Unavailable(f"the ledger {self._path} cannot be written: {error}") from error
            return self._writer.total_changes - before

    def calls(
        self,
        *,
        since: str | None = None,
        model: str | None = None,
        request: str | None = None,
        limit: int = 1000,
    ) -> list[Call]:
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"limit = {limit}: expected 1 to {MAX_LIMIT:,}", param="limit")
        conditions = ["started >= :since"]
        if model is not None:
            conditions.append("model = :model")
        if request is not None:
            conditions.append("(request = :request OR parent = :request)")
        query = (
            f"SELECT {', '.join(CALL_FIELDS)} FROM calls"  # noqa: S608 - constants only
            f" WHERE {' AND '.join(conditions)} ORDER BY started, request LIMIT :limit"
        )
        values = {"since": since or "", "model": model, "request": request, "limit": limit}
        return [_to_call(row) for row in self._read(lambda sql: sql.execute(query, values))]

    def costs(self, *, by: str, since: str | None = None, until: str | None = None) -> list[Cost]:
        if by not in DIMENSIONS:
            raise InvalidInput(f"by = {by!r}: expected one of {', '.join(DIMENSIONS)}", param="by")
        dimension = f"COALESCE(c.{by}, p.{by})" if by in ("model", "release") else f"c.{by}"
        billed = (
            "AND c.purpose NOT IN ('gate', 'judge', 'shadow')" if by in ("team", "feature") else ""
        )
        query = _COSTS.format(dimension=dimension, billed=billed)
        values = {"since": since or "", "until": until or _END_OF_TIME}
        return [Cost(*row) for row in self._read(lambda sql: sql.execute(query, values))]

    def counts(
        self, *, model: str, since: str | None = None, purpose: str = "user"
    ) -> dict[str, ReleaseCounts]:
        values = {"model": model, "since": since or "", "purpose": purpose, "broken": BROKEN_STREAM}

        def read(sql: sqlite3.Connection) -> list[_Row]:
            # One transaction: percentiles are of the same calls that were counted.
            sql.execute("BEGIN")
            try:
                rows = sql.execute(_COUNTS, values).fetchall()
                return [
                    (*row[:-2], *_two_percentiles(sql, {**values, "release": row[0]}, row[-2:]))
                    for row in rows
                ]
            finally:
                sql.execute("COMMIT")

        return {row[0]: ReleaseCounts(*row[1:]) for row in self._read(read)}

    def tallies(
        self, *, model: str, since: str, until: str | None = None, purpose: str = "user"
    ) -> dict[str, Tally]:
        values = {
            "model": model,
            "since": since,
            "until": until or _END_OF_TIME,
            "purpose": purpose,
            "broken": BROKEN_STREAM,
        }

        def read(sql: sqlite3.Connection) -> list[Any]:
            # One transaction: sums and histograms are of the same calls.
            sql.execute("BEGIN")
            try:
                return [sql.execute(query, values).fetchall() for query in QUERIES]
            finally:
                sql.execute("COMMIT")

        return tallies_of(*self._read(read))

    def _read(self, query: Callable[[sqlite3.Connection], Any]) -> list[Any]:
        with self._reading:
            try:
                return list(query(self._reader))
            except sqlite3.Error as error:
                raise Unavailable(f"the ledger {self._path} cannot be read: {error}") from error


def _add_columns(sql: sqlite3.Connection) -> None:
    there = {row[1] for row in sql.execute("PRAGMA table_info(calls)")}
    for name, kind in _LATER.items():
        if name not in there:
            sql.execute(f"ALTER TABLE calls ADD COLUMN {name} {kind}")


def _identity(sql: sqlite3.Connection) -> tuple[str, str]:
    now = rfc3339(WallClock().now())
    sql.execute("INSERT OR IGNORE INTO identity VALUES (1, ?, ?)", (new_id(), now))
    found: tuple[str, str] = sql.execute("SELECT id, created FROM identity").fetchone()
    return found


def _two_percentiles(
    sql: sqlite3.Connection, values: dict[str, Any], sizes: tuple[int, int]
) -> tuple[Percentiles | None, Percentiles | None]:
    latency, ttft = (
        _percentiles(sql, column, values, size)
        for column, size in zip(("latency_ms", "ttft_ms"), sizes, strict=True)
    )
    return latency, ttft


def _percentiles(
    sql: sqlite3.Connection, column: str, values: dict[str, Any], size: int
) -> Percentiles | None:
    if not size:
        return None
    query = _RANKED.format(column=column)
    p50, p95, p99 = (
        sql.execute(query, {**values, "rank": math.ceil(q * size / 100) - 1}).fetchone()[0]
        for q in (50, 95, 99)
    )
    return Percentiles(p50, p95, p99)


def _to_call(row: _Row) -> Call:
    values = dict(zip(CALL_FIELDS, row, strict=True))
    refused = values["refused"]
    return Call(
        **{
            **values,
            "stream": bool(values["stream"]),
            "complete": bool(values["complete"]),
            "refused": None if refused is None else bool(refused),
        }
    )


_AS_ROW: Final = attrgetter(*CALL_FIELDS)
_INSERT: Final = (
    f"INSERT OR IGNORE INTO calls ({', '.join(CALL_FIELDS)})"  # noqa: S608 - constants only
    f" VALUES ({', '.join('?' * len(CALL_FIELDS))})"
)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS calls (
  schema_version INTEGER NOT NULL, request TEXT NOT NULL, parent TEXT, door TEXT NOT NULL,
  started TEXT NOT NULL, latency_ms REAL NOT NULL, ttft_ms REAL, key TEXT NOT NULL,
  team TEXT NOT NULL, feature TEXT NOT NULL, user TEXT, unit TEXT, purpose TEXT NOT NULL,
  kind TEXT NOT NULL, model TEXT, release TEXT, track TEXT, engine TEXT, status INTEGER NOT NULL,
  error TEXT, tokens_in INTEGER, tokens_out INTEGER, cost_micro INTEGER NOT NULL, price TEXT,
  rows INTEGER, stream INTEGER NOT NULL, complete INTEGER NOT NULL, trace TEXT,
  bins TEXT, finish_reason TEXT, refused INTEGER, guard_hits INTEGER, agreed REAL,
  PRIMARY KEY (request, door)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (started);
CREATE INDEX IF NOT EXISTS calls_by_model ON calls (model, started);
CREATE INDEX IF NOT EXISTS calls_by_parent ON calls (parent) WHERE parent IS NOT NULL;
CREATE TABLE IF NOT EXISTS identity (
  one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, created TEXT NOT NULL
) STRICT;
"""
# Columns that a ledger made before them lacks.
_LATER: Final = {
    "bins": "TEXT", "finish_reason": "TEXT", "refused": "INTEGER", "guard_hits": "INTEGER",
    "agreed": "REAL",
}  # fmt: skip
_COSTS: Final = """
SELECT {dimension} AS dimension,
  SUM(c.door = 'user'), SUM(c.door = 'engine'),
  COALESCE(SUM(c.tokens_in) FILTER (WHERE c.door = 'engine'), 0),
  COALESCE(SUM(c.tokens_out) FILTER (WHERE c.door = 'engine'), 0),
  SUM(c.cost_micro)
FROM calls AS c LEFT JOIN calls AS p ON p.request = c.parent AND p.door = 'user'
WHERE c.started >= :since AND c.started < :until {billed}
GROUP BY dimension ORDER BY SUM(c.cost_micro) DESC, dimension
"""
_WHERE: Final = """
FROM calls WHERE model = :model AND started >= :since AND purpose = :purpose AND door = 'user'
"""
_COUNTS: Final = f"""
SELECT release, COUNT(*), SUM(status >= 500 OR error IS :broken), SUM(error IS 'client_gone'),
  COUNT(DISTINCT unit), COALESCE(SUM(rows), 0),
  COALESCE(SUM(tokens_in), 0), COALESCE(SUM(tokens_out), 0),
  SUM(complete AND status < 400), COUNT(ttft_ms)
{_WHERE} AND release IS NOT NULL GROUP BY release ORDER BY release
"""
_RANKED: Final = (
    "SELECT {column} "
    + _WHERE
    + " AND release = :release AND {column} IS NOT NULL"
    + " AND (complete AND status < 400 OR '{column}' = 'ttft_ms')"
    + " ORDER BY {column} LIMIT 1 OFFSET :rank"
)
