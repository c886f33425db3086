"""Where calls are kept, counted and billed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from proa.errors import InvalidInput
from proa.http.clock import WallClock, rfc3339
from proa.http.ids import new_id
from proa.ledger.call import BROKEN_STREAM, CALL_FIELDS, Call
from proa.ledger.database import Database, Row, Session
from proa.ledger.sqlite import SqliteFile
from proa.ledger.tally import Tally
from proa.ledger.tally_query import QUERIES, tallies_of

__all__ = ["DIMENSIONS", "CallStore", "Cost", "Percentiles", "ReleaseCounts", "make_identity"]

DIMENSIONS: Final = ("team", "feature", "model", "release", "purpose")
MAX_LIMIT: Final = 10_000
_END_OF_TIME: Final = "~"  # sorts after every RFC 3339 text


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


class CallStore:
    """Calls, each stored once however often it is inserted. Times are RFC 3339 as in `Call`.

    Safe to call from several threads. Faults of the database are `Unavailable`.

    Args:
        database: holds the tables `calls` and `identity`; or the path of a SQLite file, which is
            made.
    """

    def __init__(self, database: Database | Path) -> None:
        if isinstance(database, Path):
            database = SqliteFile(database, _SCHEMA, later={"calls": _LATER})
        self._database = database
        self._identity: tuple[str, str] | None = None
        if not database.remote:
            with database.writing("identity") as session:
                make_identity(session)

    def close(self) -> None:
        self._database.close()

    @property
    def identity(self) -> tuple[str, str]:
        """The ledger's id and when it was made: calls before that may be in another one.

        Gateways that share a ledger say the same.
        """
        if self._identity is None:
            with self._database.reading() as session:
                ((name, created),) = session.ask("SELECT id, created FROM identity")
            self._identity = str(name), str(created)
        return self._identity

    def insert(self, calls: Sequence[Call]) -> int:
        """Store calls; those whose (request, door) is there already change nothing.

        Returns:
            how many were new.

        Raises:
            Unavailable: nothing was stored.  InvalidInput: nor will it be: one cannot be.
        """
        with self._database.writing("calls") as session:
            return session.add("calls", CALL_FIELDS, map(_AS_ROW, calls))

    def calls(
        self,
        *,
        since: str | None = None,
        model: str | None = None,
        request: str | None = None,
        limit: int = 1000,
    ) -> list[Call]:
        """Calls in order of their start. `request` also finds the calls it caused."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"limit = {limit}: expected 1 to {MAX_LIMIT:,}", param="limit")
        conditions = ["started >= :since"]
        if model is not None:
            conditions.append("model = :model")
        if request is not None:
            conditions.append("(request = :request OR parent = :request)")
        query = (
            f"SELECT {_NAMES} FROM calls"  # noqa: S608 - constants only
            f" WHERE {' AND '.join(conditions)} ORDER BY started, request, door LIMIT :limit"
        )
        values = {"since": since or "", "model": model, "request": request, "limit": limit}
        with self._database.reading() as session:
            return [_to_call(row) for row in session.ask(query, values)]

    def costs(self, *, by: str, since: str | None = None, until: str | None = None) -> list[Cost]:
        """The bill of [since, until) by one of `DIMENSIONS`, dearest first.

        An engine's call without model or release counts for those of the call that caused it.
        Exams, judges and shadows are nobody's bill: by team and feature they are left out.
        """
        if by not in DIMENSIONS:
            raise InvalidInput(f"by = {by!r}: expected one of {', '.join(DIMENSIONS)}", param="by")
        dimension = f"COALESCE(c.{by}, p.{by})" if by in ("model", "release") else f"c.{by}"
        billed = (
            "AND c.purpose NOT IN ('gate', 'judge', 'shadow')" if by in ("team", "feature") else ""
        )
        query = _COSTS.format(dimension=dimension, billed=billed)
        values = {"since": since or "", "until": until or _END_OF_TIME}
        with self._database.reading() as session:
            return [Cost(*row) for row in session.ask(query, values)]

    def counts(
        self, *, model: str, since: str | None = None, purpose: str = "user"
    ) -> dict[str, ReleaseCounts]:
        """Exact counts per release of one model since a moment."""
        values = {"model": model, "since": since or "", "purpose": purpose, "broken": BROKEN_STREAM}
        with self._database.reading() as session:  # percentiles of the same calls that were counted
            found = {}
            for release, *counts, good, streamed in session.ask(_COUNTS, values):
                of = {**values, "release": release}
                latency = _percentiles(session, "latency_ms", of, good)
                ttft = _percentiles(session, "ttft_ms", of, streamed)
                found[release] = ReleaseCounts(*(*counts, latency, ttft))
            return found

    def tallies(
        self, *, model: str, since: str, until: str | None = None, purpose: str = "user"
    ) -> dict[str, Tally]:
        """What each release of a model did in [since, until)."""
        values = {
            "model": model,
            "since": since,
            "until": until or _END_OF_TIME,
            "purpose": purpose,
            "broken": BROKEN_STREAM,
        }
        with self._database.reading() as session:
            return tallies_of(*(session.ask(query, values) for query in QUERIES))


def make_identity(session: Session) -> None:
    """Give a ledger its id, unless it has one."""
    made = (1, new_id(), rfc3339(WallClock().now()))
    session.add("identity", ("one", "id", "created"), [made])


def _percentiles(
    session: Session, column: str, values: dict[str, Any], size: int
) -> Percentiles | None:
    if not size:
        return None
    query = _RANKED.format(column=column)
    p50, p95, p99 = (
        session.ask(query, {**values, "rank": math.ceil(q * size / 100) - 1})[0][0]
        for q in (50, 95, 99)
    )
    return Percentiles(p50, p95, p99)


def _to_call(row: Row) -> Call:
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
_NAMES: Final = ", ".join(f'"{name}"' for name in CALL_FIELDS)
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
  COUNT(*) FILTER (WHERE c.door = 'user'), COUNT(*) FILTER (WHERE c.door = 'engine'),
  CAST(COALESCE(SUM(c.tokens_in) FILTER (WHERE c.door = 'engine'), 0) AS BIGINT),
  CAST(COALESCE(SUM(c.tokens_out) FILTER (WHERE c.door = 'engine'), 0) AS BIGINT),
  CAST(SUM(c.cost_micro) AS BIGINT)
FROM calls AS c LEFT JOIN calls AS p ON p.request = c.parent AND p.door = 'user'
WHERE c.started >= :since AND c.started < :until {billed}
GROUP BY dimension ORDER BY SUM(c.cost_micro) DESC, dimension NULLS FIRST
"""
_WHERE: Final = """
FROM calls WHERE model = :model AND started >= :since AND purpose = :purpose AND door = 'user'
"""
_COUNTS: Final = f"""
SELECT release, COUNT(*), COUNT(*) FILTER (WHERE status >= 500 OR error = :broken),
  COUNT(*) FILTER (WHERE error = 'client_gone'), COUNT(DISTINCT unit),
  CAST(COALESCE(SUM(rows), 0) AS BIGINT), CAST(COALESCE(SUM(tokens_in), 0) AS BIGINT),
  CAST(COALESCE(SUM(tokens_out), 0) AS BIGINT),
  COUNT(*) FILTER (WHERE complete AND status < 400), COUNT(ttft_ms)
{_WHERE} AND release IS NOT NULL GROUP BY release ORDER BY release
"""
_RANKED: Final = (
    "SELECT {column} "
    + _WHERE
    + " AND release = :release AND {column} IS NOT NULL"
    + " AND (complete AND status < 400 OR '{column}' = 'ttft_ms')"
    + " ORDER BY {column} LIMIT 1 OFFSET :rank"
)
