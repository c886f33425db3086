"""The journal: append-only, once per key, and any change of it shows."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proa.errors import Conflict
from proa.ledger.journal import Journal, Line


def write(journal: Journal, key: str, **changes: Any) -> Line:
    values: dict[str, Any] = {
        "key": key,
        "time": "2026-11-21T10:00:00Z",
        "model": "m",
        "action": "promoted",
        "release": None,
        "who": "ann",
        "reason": "why",
        "details": {"value": 0.25},
    }
    return journal.append(**{**values, **changes})


def test_lines_come_back_in_order_and_the_chain_holds(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    written = [write(journal, f"k{number}") for number in range(5)]
    assert Journal(tmp_path / "journal.db").lines("m") == written
    assert journal.lines("other") == []
    assert journal.lines(after=3) == written[3:]
    assert journal.verify() == 5


def test_the_same_key_is_written_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    first = write(journal, "k")
    assert write(journal, "k", reason="again") == first
    assert len(journal.lines()) == 1


def test_writers_at_once_share_no_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    with ThreadPoolExecutor(8) as pool:
        lines = list(pool.map(lambda number: write(journal, f"k{number}"), range(40)))
    assert sorted(line.seq for line in lines) == list(range(1, 41))
    assert journal.verify() == 40


@pytest.mark.parametrize("statement", ["UPDATE journal SET who = 'eve'", "DELETE FROM journal"])
def test_sql_cannot_change_it(tmp_path: Path, statement: str) -> None:
    journal = Journal(tmp_path / "journal.db")
    write(journal, "k")
    db = sqlite3.connect(tmp_path / "journal.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET who = 'eve' WHERE seq = 2",
        "UPDATE journal SET details = '{}' WHERE seq = 3",
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE journal SET seq = 9 WHERE seq = 3",
    ],
)
def test_a_change_behind_its_back_is_found(tmp_path: Path, statement: str) -> None:
    journal = Journal(tmp_path / "journal.db")
    for number in range(4):
        write(journal, f"k{number}")
    db = sqlite3.connect(tmp_path / "journal.db")
    db.execute("DROP TRIGGER journal_no_update")
    db.execute("DROP TRIGGER journal_no_delete")
    db.execute(statement)
    db.commit()
    db.close()
    with pytest.raises(Conflict, match="does not follow"):
        journal.verify()
