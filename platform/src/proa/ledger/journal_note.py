"""Where the journal's end is noted, so that lines cut off show: beside it, not in its chain."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from proa.embedded.files import read_json, write_json
from proa.errors import InvalidInput, NotFound
from proa.ledger.database import Session

__all__ = ["FileNote", "HeadNote", "TableNote"]

Noted = tuple[int, str]


class HeadNote(Protocol):
    """Number and hash of the last line.

    Attributes:
        name: for messages.
    """

    name: str

    def read(self, session: Session) -> Noted | None:
        """What was noted; None when there is no note.

        Raises:
            InvalidInput: it cannot be read.
        """

    def within(self, session: Session, noted: Noted) -> None:
        """Note it as part of the line's own transaction, where that can be."""

    def after(self, noted: Noted) -> None:
        """Note it when the line is safe: a note of a line that never was would say it is lost."""


class FileNote:
    """`HeadNote` as a file beside the SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name

    def read(self, session: Session) -> Noted | None:
        try:
            value = read_json(self._path)
            return int(value["seq"]), str(value["hash"])
        except NotFound:
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{self._path} is damaged: {error!r}") from error

    def within(self, session: Session, noted: Noted) -> None:
        """A file cannot be part of it."""

    def after(self, noted: Noted) -> None:
        write_json(self._path, {"seq": noted[0], "hash": noted[1]})


class TableNote:
    """`HeadNote` as the one row of a table of its own, with which a restore brings it back."""

    name: Final = "the table journal_head"

    def read(self, session: Session) -> Noted | None:
        rows = session.ask("SELECT seq, hash FROM journal_head")
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def within(self, session: Session, noted: Noted) -> None:
        session.ask(
            "INSERT INTO journal_head (one, seq, hash) VALUES (1, :seq, :hash) "
            "ON CONFLICT (one) DO UPDATE SET seq = :seq, hash = :hash",
            {"seq": noted[0], "hash": noted[1]},
        )

    def after(self, noted: Noted) -> None:
        """It is noted already."""
