"""The monitor's state database: its tables, on SQLite or Postgres, made when they are missing.

Statements are templates: `{word}` is a text compared byte by byte, `{bytes}` a run of bytes. What a
module needs it brings as `TABLES`, a text of `CREATE … IF NOT EXISTS` statements; tables carry the
prefix `monitor_`, because the database may be the ledger's.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput, Unavailable
from proa.ledger.database import Database
from proa.ledger.sqlite import SqliteFile, path_of

__all__ = ["STATE_FILE", "StateDatabase", "open_state"]

STATE_FILE: Final = "state.db"
"""Name of the default file, in the folder of events."""
_POSTGRES: Final = ("postgresql://", "postgres://")
_SQLITE_TYPES: Final = {"word": "TEXT", "bytes": "BLOB"}
_POSTGRES_TYPES: Final = {"word": 'TEXT COLLATE "C"', "bytes": "BYTEA"}
_AGAIN_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)

StateDatabase = Database


def tables() -> tuple[str, ...]:
    """The statements of every module that keeps something here."""
    from proa_monitor import anchors, finding_store, judged, opinions, truth, window_store

    return tuple(
        module.TABLES for module in (anchors, finding_store, judged, opinions, truth, window_store)
    )


def open_state(url: str | None, events: Path) -> StateDatabase:
    """The database of a URL, with every table. A server that is not there yet is waited for.

    Args:
        url: `sqlite:////path/state.db` or `postgresql://…`; None means a file beside the events.
        events: the folder of events.

    Raises:
        InvalidInput: another scheme; the URL is not shown, it may hold a password.
        Unavailable: the file cannot be opened.
    """
    statements = "".join(tables())
    if url is not None and url.startswith(_POSTGRES):
        from proa.ledger.postgres import SCHEMA, Postgres

        database = Postgres(url)
        schema = f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
        _made(database, (schema, statements.format(**_POSTGRES_TYPES)))
        return database
    if url is not None and not url.startswith("sqlite:"):
        scheme = url.partition(":")[0] if "://" in url else ""
        raise InvalidInput(
            f"--state has the scheme {scheme[:16]!r}: expected sqlite or postgresql", param="state"
        )
    events.mkdir(parents=True, exist_ok=True, mode=0o700)
    if url is not None:
        return SqliteFile(path_of(url), statements.format(**_SQLITE_TYPES))
    return _own_file(events / STATE_FILE, statements.format(**_SQLITE_TYPES))


def _made(database: StateDatabase, statements: Sequence[str]) -> None:
    """Make what is missing, once the server answers: it may be started after this process."""
    told = ""
    while True:
        try:
            with database.writing("monitor-tables") as session:
                for statement in statements:
                    session.ask(statement)
            return
        except Unavailable as error:
            if error.message != told:
                told = error.message
                _log.warning("not ready: %s", told)
            time.sleep(_AGAIN_SECONDS)


def _own_file(path: Path, statements: str) -> StateDatabase:
    """The default file. One that is damaged is put aside: everything in it can be counted again
    from the events."""
    try:
        return SqliteFile(path, statements)
    except Unavailable as error:
        cause = error.__cause__
        if not isinstance(cause, sqlite3.DatabaseError) or isinstance(
            cause, sqlite3.OperationalError
        ):
            raise
        _log.error("%s; it is put aside, and all events are counted again", error.message)
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if file.exists():
            file.replace(file.with_name(f"{file.name}.damaged"))
    return SqliteFile(path, statements)
