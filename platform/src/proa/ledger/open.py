"""Which ledger a URL means, and everything in it."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proa.errors import InvalidInput, ProaError
from proa.ledger.evidence import EvidenceStore, FileEvidence, TableEvidence
from proa.ledger.journal import Journal
from proa.ledger.keys import KeyStore
from proa.ledger.sqlite import path_of
from proa.ledger.store import CallStore
from proa.ledger.worklist import Worklist

if TYPE_CHECKING:
    from proa.http.serving import Health
    from proa.ledger.postgres import Postgres

__all__ = ["Ledger", "add_arguments", "get_ready", "journal_file", "ledger_url", "open_ledger"]

_POSTGRES: Final = ("postgresql://", "postgres://")
_JOURNAL: Final = "journal.db"
_log = logging.getLogger(__name__)


class Ledger:
    """Keys, calls, journal and evidence of one platform in SQLite files; each part is opened when
    it is first wanted.

    Args:
        path: the file of keys and calls.
        journal: the journal's file.
        evidence: the folder of evidence.
    """

    def __init__(self, path: Path, journal: Path, evidence: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._journal, self._evidence = path, journal, evidence

    @cached_property
    def keys(self) -> KeyStore:
        return KeyStore(self._path)

    @cached_property
    def calls(self) -> CallStore:
        return CallStore(self._path)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self._journal)

    @cached_property
    def evidence(self) -> EvidenceStore:
        return FileEvidence(self._evidence)

    @cached_property
    def worklist(self) -> Worklist:
        return Worklist(self._journal.with_name("worklist.db"))

    def unready(self) -> str | None:
        """Why it cannot be used yet, as one sentence; None when it can.

        Asks the database: not for the event loop.
        """
        return None

    def close(self) -> None:
        """Give back every connection; the last call."""
        for part in ("keys", "calls", "journal", "worklist"):
            if part in self.__dict__:
                self.__dict__[part].close()


class ServedLedger(Ledger):
    """A ledger on a Postgres server. It is not waited for: until it is there and migrated `unready`
    says so, and everything else raises `Unavailable`.
    """

    def __init__(self, connect: Callable[[int], Postgres]) -> None:
        # Keys have a connection of their own: long answers about calls delay no revocation.
        self._own, self._shared = connect(1), connect(3)

    @cached_property
    def keys(self) -> KeyStore:
        return KeyStore(self._own)

    @cached_property
    def calls(self) -> CallStore:
        return CallStore(self._shared)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self._shared)

    @cached_property
    def evidence(self) -> EvidenceStore:
        return TableEvidence(self._shared)

    @cached_property
    def worklist(self) -> Worklist:
        return Worklist(self._shared)

    def unready(self) -> str | None:
        from proa.ledger.migrations import LATEST, version

        try:
            with self._shared.reading() as session:
                there = version(session)
        except ProaError as error:
            return error.message
        if there < LATEST:
            return (
                f"the ledger {self._shared.name} is at step {there} and {LATEST} is needed: "
                "python -m proa_controller.migrate has not run, or is under way"
            )
        return None if self.keys.known else "the ledger's keys have not been read yet"

    def close(self) -> None:
        super().close()
        self._own.close()
        self._shared.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--ledger URL` and `--ledger-file FILE`, one of which every process of a ledger takes."""
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--ledger", metavar="URL", help="sqlite:////path/ledger.db")
    one.add_argument(
        "--ledger-file", type=Path, metavar="FILE", help="holds the URL, postgresql://… for example"
    )


def ledger_url(url: str | None, file: Path | None) -> str:
    """The URL that `--ledger` or `--ledger-file` gives.

    Raises:
        InvalidInput: none or both were given, or the file cannot be read.
    """
    if (url is None) == (file is None):
        raise InvalidInput(
            "expected either --ledger URL or --ledger-file FILE, whose content is the URL",
            param="ledger",
        )
    if file is None:
        return str(url)
    try:
        return file.read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"--ledger-file {file}: {error.strerror}", param="ledger-file"
        ) from error


def open_ledger(url: str, *, journal: Path | None = None, evidence: Path | None = None) -> Ledger:
    """The ledger of a URL: `sqlite:////path/ledger.db`, or `postgresql://…`.

    Args:
        journal, evidence: the journal's file and the folder of evidence, beside a SQLite file;
            by default `journal.db` and `evidence` in its folder.

    Raises:
        InvalidInput: another scheme, or a URL that cannot be read; it is not shown, it may hold
            a password.
    """
    if url.startswith(_POSTGRES):
        from proa.ledger.postgres import Postgres

        return ServedLedger(lambda connections: Postgres(url, connections=connections))
    if not url.startswith("sqlite:"):
        scheme = url.partition(":")[0] if "://" in url else ""
        raise InvalidInput(
            f"the ledger's URL has the scheme {scheme[:16]!r}: expected sqlite or postgresql",
            param="ledger",
        )
    path = path_of(url)
    return Ledger(
        path,
        journal or path.with_name(_JOURNAL),
        evidence or path.with_name("evidence"),
    )


def journal_file(url: str) -> Path | None:
    """Where `open_ledger` has the journal by default; None when it is in the ledger's server."""
    return None if url.startswith(_POSTGRES) else path_of(url).with_name(_JOURNAL)


async def get_ready(ledger: Ledger, health: Health, *, seconds: float = 0.5) -> None:
    """Keep `health` not ready, and tell why, until the ledger is there, migrated and its keys are
    read; then it is over. A ledger that goes away later makes nobody unready: what is known is
    served on.

    Args:
        seconds: between two looks.
    """
    told = "the ledger was not read yet"
    health.set_unready(told, "ledger")
    while (reason := await asyncio.to_thread(ledger.unready)) is not None:
        if reason != told:
            _log.warning("not ready: %s", reason)
            health.set_unready(reason, "ledger")
        told = reason
        await asyncio.sleep(seconds)
    health.set_ready("ledger")
