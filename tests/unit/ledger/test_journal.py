"""The journal: append-only, once per key, and any change of it shows."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proa.errors import Conflict, InvalidInput
from proa.ledger.journal import LOST, Head, Journal
from tests.journal_line import write


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


def tampered(path: Path, *statements: str) -> None:
    """What somebody with the file in hand can do: triggers first."""
    db = sqlite3.connect(path)
    for statement in (
        "DROP TRIGGER IF EXISTS journal_no_update",
        "DROP TRIGGER IF EXISTS journal_no_delete",
        *statements,
    ):
        db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize("lost", [1, 3, 5])
def test_a_journal_cut_at_its_end_is_found_and_stays_found(tmp_path: Path, lost: int) -> None:
    journal = Journal(tmp_path / "journal.db")
    for number in range(5):
        write(journal, f"k{number}")
    noted = journal.head()
    assert noted.seq == journal.verify() == 5
    tampered(tmp_path / "journal.db", f"DELETE FROM journal WHERE seq > {5 - lost}")  # noqa: S608
    with pytest.raises(Conflict, match="cut off or written anew") as caught:
        journal.verify()
    assert caught.value.code == "journal_cut"
    # Later decisions grow over the gap, so the next line says that there was one.
    write(journal, "later")
    write(journal, "latest")
    assert [line.action for line in journal.lines()][5 - lost :] == [LOST, "promoted", "promoted"]
    with pytest.raises(Conflict, match="but line 5 had been written"):
        journal.verify()
    with pytest.raises(Conflict):
        journal.verify(noted)


def test_a_chain_written_anew_differs_from_a_head_noted_elsewhere(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for number in range(4):
        write(journal, f"k{number}")
    noted = Head.parse(str(journal.head()))
    forged = Journal(tmp_path / "forged" / "journal.db")
    for number in range(5):
        write(forged, f"k{number}", who="eve")
    assert forged.verify() == 5  # whole in itself: who has both files can forge both
    with pytest.raises(Conflict, match="has another line 4"):
        forged.verify(noted)
    assert journal.verify(noted) == 4


@pytest.mark.parametrize("content", ["", "{", '{"seq": "x", "hash": 1}', None])
def test_a_head_file_that_is_gone_or_damaged_is_named_and_stops_no_decision(
    tmp_path: Path, content: str | None
) -> None:
    journal = Journal(tmp_path / "journal.db")
    write(journal, "k")
    head = tmp_path / "journal.head"
    head.unlink() if content is None else head.write_text(content)
    with pytest.raises(Conflict, match="missing or damaged"):
        journal.verify()
    assert write(journal, "next").seq in (2, 3)


def test_a_crash_between_line_and_head_is_no_loss(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    write(journal, "k0")
    head = (tmp_path / "journal.head").read_bytes()
    write(journal, "k1")
    (tmp_path / "journal.head").write_bytes(head)  # as if it had died before the note
    assert journal.verify() == 2
    assert write(journal, "k2").seq == 3


def test_lines_of_some_actions(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for number, action in enumerate(["judged", "revoked", "judged", "unrevoked"]):
        write(journal, f"k{number}", action=action)
    assert [line.seq for line in journal.lines(actions=["revoked", "unrevoked"])] == [2, 4]


@pytest.mark.parametrize(
    "text", ["", "5", "x:sha256:" + "0" * 64, "5:sha256:0", "5:md5:" + "0" * 64]
)
def test_a_head_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected NUMBER:sha256"):
        Head.parse(text)
