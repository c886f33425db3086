"""The ledger's database on a Postgres server, over psycopg 3.

Every wait ends: for a connection, for a free one, for an answer. While the server is away a
transaction is refused at once but for one try per backoff, so that nobody queues before it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from proa.errors import InvalidInput, Unavailable
from proa.ledger.database import Row

if TYPE_CHECKING:
    import psycopg

__all__ = ["SCHEMA", "Postgres", "settings_of"]

SCHEMA: Final = "proa"
"""The schema (namespace) of the ledger's tables, in a database it may share."""
_CONNECT_SECONDS: Final = 3
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_NAMED: Final = re.compile(r":([a-z_]+)")


class Postgres:
    """`proa.ledger.database.Database` on a server, with few connections, made when wanted.

    Args:
        url: `postgresql://user:password@host:5432/database`, or anything else libpq takes.
        connections: at most this many at once.
        seconds: how long one statement may take; its connection is given up then, so that a
            server that accepts and never answers holds no thread.

    Raises:
        InvalidInput: the URL cannot be read; it is never shown, it may hold a password.
    """

    remote = True

    def __init__(self, url: str, *, connections: int = 3, seconds: float = 10.0) -> None:
        self._settings = settings_of(url, seconds)
        self._seconds = seconds
        self._room = threading.Semaphore(connections)
        self._lock = threading.Lock()
        self._idle: list[psycopg.Connection[Row]] = []
        self._wait, self._again, self._fault = 0.0, 0.0, ""
        self._closed = False
        host, name = self._settings.get("host", ""), self._settings.get("dbname", "")
        self.name = f"{name or 'its database'} at {host or 'its host'}"

    @contextmanager
    def reading(self) -> Iterator[_Session]:
        with self._transaction(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "read"
        ) as session:
            yield session

    @contextmanager
    def writing(self, lock: str) -> Iterator[_Session]:
        with self._transaction("BEGIN", "written") as session:
            session.ask(
                "SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))",
                {"lock": f"{SCHEMA}.{lock}"},
            )
            yield session

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _transaction(self, begin: str, what: str) -> Iterator[_Session]:
        import psycopg

        if not self._room.acquire(timeout=self._seconds):
            raise self._away(what, f"every connection was taken for {self._seconds:g} s")
        connection: psycopg.Connection[Row] | None = None
        try:
            connection = self._begun(begin)
            yield _Session(connection)
            connection.execute("COMMIT")
            self._give_back(connection)
            connection = None
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            raise InvalidInput(f"the ledger {self.name} cannot hold it: {_said(error)}") from error
        except psycopg.errors.UndefinedTable as error:
            raise Unavailable(
                f"the ledger {self.name} lacks a table: {_said(error)}",
                code="ledger_schema",
                hint="python -m proa_controller.migrate",
            ) from error
        except psycopg.Error as error:
            raise self._away(what, _said(error)) from error
        finally:
            try:
                if connection is not None:
                    self._roll_back(connection)
            finally:
                self._room.release()

    def _begun(self, begin: str) -> psycopg.Connection[Row]:
        """A connection in a transaction: an idle one that still answers, else a new one."""
        import psycopg

        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            if idle is None:
                break
            try:
                idle.execute(begin)
                return idle
            except psycopg.Error:  # the server went away since, and came back perhaps
                idle.close()
        connection = self._connect()
        try:
            connection.execute(begin)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> psycopg.Connection[Row]:
        import psycopg

        with self._lock:
            if time.monotonic() < self._again:
                raise psycopg.OperationalError(self._fault)
            if self._wait:  # known to be away: one tries, the others are told so meanwhile
                self._again = time.monotonic() + 2 * _CONNECT_SECONDS
        try:
            connection = _bounded(self._seconds).connect(**self._settings)
        except psycopg.Error as error:
            with self._lock:
                self._fault = _said(error)  # what is told until the next try
                self._wait = min(max(self._wait * 2, _FIRST_WAIT), _LONGEST_WAIT)
                self._again = time.monotonic() + self._wait
            raise
        with self._lock:
            self._wait = self._again = 0.0
        return connection

    def _give_back(self, connection: psycopg.Connection[Row]) -> None:
        with self._lock:
            if not self._closed and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()

    def _roll_back(self, connection: psycopg.Connection[Row]) -> None:
        import psycopg

        if connection.closed or connection.pgconn.transaction_status == _ACTIVE:
            connection.close()  # its answer may still come: nobody else may read it
            return
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
        else:
            self._give_back(connection)

    def _away(self, what: str, reason: str) -> Unavailable:
        return Unavailable(f"the ledger {self.name} cannot be {what}: {reason}")


class _Session:
    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def ask(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        cursor = (
            self._connection.execute(sql.encode())
            if values is None
            else self._connection.execute(_with_names(sql), values)
        )
        return cursor.fetchall() if cursor.description else []

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        # One value and one round trip however many rows: 256 calls cost this side 1 ms, not 20.
        data = orjson.dumps([dict(zip(columns, row, strict=True)) for row in rows])
        if b"\\u0000" in data:
            data = orjson.dumps(_without_nul(orjson.loads(data)))
        names = ", ".join(f'"{name}"' for name in columns)
        done = self._connection.execute(
            f"INSERT INTO {table} ({names}) "  # noqa: S608 - constants only
            f"SELECT {names} FROM json_populate_recordset(NULL::{table}, %s::json) "
            "ON CONFLICT DO NOTHING".encode(),
            [data.decode()],
        )
        return done.rowcount


_ACTIVE: Final = 1  # psycopg.pq.TransactionStatus.ACTIVE


def settings_of(url: str, seconds: float) -> dict[str, Any]:
    """What a connection to this URL is made with.

    Args:
        seconds: how long one statement may take.

    Raises:
        InvalidInput: the URL cannot be read.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidInput(
            "the ledger's URL cannot be read: expected postgresql://user:password@host:5432/database",
            param="ledger",
        ) from None
    return {
        "application_name": "proa",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(seconds * 1000),
        **given,
        "options": f"{given.get('options') or ''} -c search_path={SCHEMA},public "
        f"-c statement_timeout={int(seconds * 1000)} "
        f"-c idle_in_transaction_session_timeout={int(seconds * 4000)}".strip(),
        "autocommit": True,
        # A pooler between us and the server may give the next transaction another connection.
        "prepare_threshold": None,
    }


@lru_cache(maxsize=1)
def _class() -> Any:
    import psycopg

    class Bounded(psycopg.Connection[Row]):
        seconds = 0.0

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            limit = timeout or self.seconds
            try:
                return super().wait(gen, interval, limit)
            except psycopg.errors._WaitTimeout:
                self.close()
                raise psycopg.OperationalError(f"no answer within {limit:g} s") from None

    return Bounded


@lru_cache(maxsize=8)
def _bounded(seconds: float) -> type[psycopg.Connection[Row]]:
    """psycopg's connection, which waits for ever, with an end to every wait."""
    found: type[psycopg.Connection[Row]] = type(
        "BoundedConnection", (_class(),), {"seconds": seconds + 1.0}
    )
    return found


@lru_cache(maxsize=64)
def _with_names(sql: str) -> bytes:
    return _NAMED.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


def _without_nul(value: Any) -> Any:
    """Postgres has no text with the character 0 in it; what clients send may."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_nul(one) for key, one in value.items()}
    return value


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
