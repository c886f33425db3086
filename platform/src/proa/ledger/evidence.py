"""What verdicts were judged from, under its digest: kept once, never changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Protocol

from proa.errors import InvalidInput
from proa.ledger.database import Database

__all__ = ["EvidenceStore", "FileEvidence", "TableEvidence"]

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")


class EvidenceStore(Protocol):
    """Texts (JSON) by digest; the digest is their own, made by whoever judged."""

    def put(self, digest: str, text: str) -> None:
        """Store the text; one that is there stays as it is.

        Raises:
            InvalidInput: `digest` is not of the form sha256:HEX.
        """

    def get(self, digest: str) -> str | None:
        """The text under a digest, character by character; None when there is none."""


class FileEvidence:
    """`EvidenceStore` as files `HEX.json` in a folder, which is made with the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, digest: str, text: str) -> None:
        path = self._folder / f"{_hex(digest)}.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(text.encode())
            temporary.replace(path)

    def get(self, digest: str) -> str | None:
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            return (self._folder / f"{_hex(digest)}.json").read_bytes().decode()
        except FileNotFoundError:
            return None


class TableEvidence:
    """`EvidenceStore` in the ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, digest: str, text: str) -> None:
        _hex(digest)
        with self._database.writing("evidence") as session:
            session.add("evidence", ("digest", "text"), [(digest, text)])

    def get(self, digest: str) -> str | None:
        with self._database.reading() as session:
            rows = session.ask("SELECT text FROM evidence WHERE digest = :d", {"d": digest})
        return str(rows[0][0]) if rows else None


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidInput(f"digest {digest!r}: expected sha256:<64 hex digits>", param="digest")
    return match[1]
