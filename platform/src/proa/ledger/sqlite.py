"""The ledger's database as SQLite files (WAL): one writer at a time, readers never wait."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from proa.errors import InvalidInput, Unavailable
from proa.ledger.database import Row

__all__ = ["SqliteFile", "path_of"]

_SCHEME: Final = "sqlite:///"


def path_of(url: str) -> Path:
    """The file of `sqlite:////absolute/path` or `sqlite:///relative/path`.

    Raises:
        InvalidInput: another scheme.
    """
    if not url.startswith(_SCHEME) or len(url) == len(_SCHEME):
        raise InvalidInput(
            f"ledger URL {url!r}: expected sqlite:////absolute/path/ledger.db", param="ledger"
        )
    return Path(url.removeprefix(_SCHEME))


class SqliteFile:
    """`proa.ledger.database.Database` in one file.

    Args:
        path: the file; it is created, its folder is not.
        schema: statements that make what is missing.
        later: by table, columns with their types that a file made before them lacks.

    Raises:
        Unavailable: the file cannot be opened or is no database.
    """

    remote = False

    def __init__(
        self, path: Path, schema: str, *, later: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        try:
            # What is written is only answered when a power cut cannot take it.
            self._writer = _connect(path, durable=True)
            self._writer.executescript(schema)
            for table, columns in (later or {}).items():
                _add_columns(self._writer, table, columns)
            self._reader = _connect(path, durable=False)
        except sqlite3.Error as error:
            raise Unavailable(f"the ledger {path} cannot be opened: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[_Session]:
        with self._reading, self._transaction(self._reader, "BEGIN", "read") as session:
            yield session

    @contextmanager
    def writing(self, lock: str) -> Iterator[_Session]:
        # Of all processes one writes at a time, whatever the lock's name.
        with (
            self._writing,
            self._transaction(self._writer, "BEGIN IMMEDIATE", "written") as session,
        ):
            yield session

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    @contextmanager
    def _transaction(
        self, connection: sqlite3.Connection, begin: str, what: str
    ) -> Iterator[_Session]:
        try:
            connection.execute(begin)
            try:
                yield _Session(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            raise InvalidInput(f"the ledger {self._path} cannot hold it: {error}") from error
        except sqlite3.Error as error:
            raise Unavailable(f"the ledger {self._path} cannot be {what}: {error}") from error


class _Session:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ask(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        return self._connection.execute(sql, values or {}).fetchall()

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        before = self._connection.total_changes
        names = ", ".join(f'"{name}"' for name in columns)
        marks = ", ".join("?" * len(columns))
        self._connection.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING",  # noqa: S608
            rows,
        )
        return self._connection.total_changes - before


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Usable from any one thread at a time; transactions are explicit.

    Args:
        durable: every commit survives a power cut (one fsync each), not only the end of processes.
    """
    connection = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    return connection


def _add_columns(sql: sqlite3.Connection, table: str, columns: Mapping[str, str]) -> None:
    there = {row[1] for row in sql.execute(f"PRAGMA table_info({table})")}
    for name, kind in columns.items():
        if name not in there:
            sql.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
