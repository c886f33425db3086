"""`python -m proa_controller.migrate`: the ledger's database to this version, and the keys into it.

The chart's Job at each installation and upgrade; gateways and controller wait, not ready, until it
is done. It may run at any time and as often as wanted, two at once included. With `--verify` it
changes nothing and proves the journal instead, after a restore for example.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from proa.errors import InvalidInput, ProaError, Unavailable
from proa.http import rights
from proa.ledger.journal import Head, Journal
from proa.ledger.keys import KeyStore
from proa.ledger.migrations import migrate, sizes
from proa.ledger.open import ledger_url
from proa.ledger.postgres import Postgres
from proa.ledger.server import ensure_database

_LONG_SECONDS: Final = 900.0
"""Of one statement: a step may rewrite a table, and a second Job waits for the first."""

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is missing; exit 0 when everything is there."""
    parser = argparse.ArgumentParser(prog="proa_controller.migrate", description=__doc__)
    file = {"type": Path, "metavar": "FILE"}
    parser.add_argument("--ledger-file", **file, required=True, help="holds postgresql://…")  # type: ignore[arg-type]
    parser.add_argument("--keys", type=Path, metavar="DIR", help="files NAME.key of the platform")
    parser.add_argument("--mlflow-file", **file, help="MLflow's database: made if missing")  # type: ignore[arg-type]
    parser.add_argument("--mlflow-auth-file", **file, help="the same of MLflow's users")  # type: ignore[arg-type]
    parser.add_argument("--wait-seconds", type=float, default=300.0, help="for the database")
    parser.add_argument("--verify", action="store_true", help="prove the journal, change nothing")
    parser.add_argument("--head", type=Head.parse, help="SEQ:sha256:… noted earlier, for --verify")
    asked = parser.parse_args(argv)
    try:
        until = time.monotonic() + asked.wait_seconds
        _verify(asked, until) if asked.verify else _migrate(asked, until)
    except ProaError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"proa_controller.migrate: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    return 0


def _migrate(asked: argparse.Namespace, until: float) -> None:
    if asked.keys is None:
        raise InvalidInput("expected --keys DIR, the folder of the platform's keys", param="keys")
    url = _postgres_url(asked.ledger_file)
    for name, file in (("MLflow", asked.mlflow_file), ("MLflow's users", asked.mlflow_auth_file)):
        if file is not None:
            made = _when_there(partial(ensure_database, _postgres_url(file)), until)
            _say(f"database of {name}: {'made' if made else 'there'}")
    _when_there(partial(ensure_database, url), until)
    database = Postgres(url, connections=1, seconds=_LONG_SECONDS)
    try:
        steps = _when_there(partial(migrate, database), until)
    finally:
        database.close()
    _say(f"ledger {database.name}: {steps} steps taken")
    register(url, asked.keys)


def register(url: str, folder: Path) -> None:
    """Put the hashes of the platform's keys into the ledger, with the rights of their parts.

    Raises:
        InvalidInput: none is there, or one is no key.
    """
    files = {name: folder / f"{name}.key" for name in rights.PARTS}
    found = {name: file.read_text().strip() for name, file in files.items() if file.is_file()}
    if not found:
        raise InvalidInput(f"no key in {folder}: expected {', '.join(f'{n}.key' for n in files)}")
    keys = KeyStore(Postgres(url, connections=1))
    try:
        for name, text in found.items():
            changed = keys.register(
                text, team=rights.PARTS_TEAM, feature=name, rights=rights.PARTS[name]
            )
            _say(f"key of {name}: {'registered' if changed else 'there'}")
    finally:
        keys.close()


def _verify(asked: argparse.Namespace, until: float) -> None:
    database = Postgres(_postgres_url(asked.ledger_file), seconds=_LONG_SECONDS)
    journal = Journal(database)
    try:
        lines = _when_there(partial(journal.verify, asked.head), until)
        _say(f"journal: {lines} lines, whole; head {journal.head()}")
        for table, rows in sizes(database).items():
            _say(f"{table}: {rows} rows")
    finally:
        database.close()


def _postgres_url(file: Path) -> str:
    url = ledger_url(None, file)
    if not url.startswith(("postgresql://", "postgres://")):
        # Not shown: it may hold a password all the same.
        raise InvalidInput(f"{file}: expected postgresql://user:password@host:5432/database")
    return url


def _when_there(work: Callable[[], T], until: float) -> T:
    """Again while the database is not there, up to a moment; its first start takes a while."""
    wait, told = 0.25, ""
    while True:
        try:
            return work()
        except Unavailable as error:
            if error.code == "ledger_schema" or time.monotonic() + wait > until:
                raise
            if error.message != told:
                print(f"waiting: {error.message}", file=sys.stderr, flush=True)
            told = error.message
        time.sleep(wait)
        wait = min(wait * 2, 5.0)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
