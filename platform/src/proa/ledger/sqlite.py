"""How every part of the ledger opens its SQLite file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput, Unavailable

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


def connect(path: Path, *, durable: bool = False) -> sqlite3.Connection:
    """A connection in WAL mode, usable from any one thread at a time; transactions are explicit.

    Args:
        path: the file; it is created, its folder is not.
        durable: every commit survives a power cut (one fsync each), not only the end of processes.

    Raises:
        Unavailable: the file cannot be opened or is no database.
    """
    try:
        connection = sqlite3.connect(
            path, timeout=10.0, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    except sqlite3.Error as error:
        raise Unavailable(f"the ledger {path} cannot be opened: {error}") from error
    return connection
