"""The database beneath keys, calls, journal and evidence: one SQL text for SQLite and Postgres.

Statements here keep to what both understand alike, with `:name` for values; what is counted and
billed is then equal by construction. Text is compared byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ["Database", "Row", "Session"]

Row = tuple[Any, ...]


class Session(Protocol):
    """One transaction, used by one thread."""

    def ask(self, sql: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement; its rows, if it has any."""

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """Insert the rows that are not there yet, by the table's unique keys.

        Returns:
            how many were new.
        """


class Database(Protocol):
    """Transactions, from any thread. Their faults are `Unavailable`: nothing of one that failed
    is kept, and asking again is safe; or `InvalidInput`: these very values cannot be stored."""

    @property
    def remote(self) -> bool:
        """Whether it is reached over a network, and may be away."""

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction that sees one moment and changes nothing."""

    def writing(self, lock: str) -> AbstractContextManager[Session]:
        """A transaction that is durable once it ends; one at a time per `lock`, of all processes.

        An exception takes all of it back.
        """

    def close(self) -> None:
        """Give back what is held; the last call."""
