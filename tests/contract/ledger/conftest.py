"""Both databases of the ledger: SQLite files, and a real Postgres with people's collation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from proa.ledger.migrations import migrate
from proa.ledger.open import Ledger, open_ledger
from proa.ledger.postgres import Postgres
from tests.postgres import Server


def served(server: Server) -> str:
    """The URL of a new ledger on a server, migrated."""
    url = server.create()
    database = Postgres(url, connections=1)
    try:
        assert migrate(database) > 0
    finally:
        database.close()
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """`new_url()`: a ledger of its own each time."""
    numbers = count()
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{next(numbers)}/ledger.db"
    server: Server = request.getfixturevalue("postgres")
    return lambda: served(server)


@pytest.fixture
def open_url() -> Iterator[Callable[[str], Ledger]]:
    """`open_url(url)`: one process's view of a ledger; closed after the test."""
    opened: list[Ledger] = []

    def make(url: str) -> Ledger:
        opened.append(open_ledger(url))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(new_url: Callable[[], str], open_url: Callable[[str], Ledger]) -> Ledger:
    """A new ledger, opened."""
    return open_url(new_url())
