"""What the journal promises over each database; what a file alone can suffer is in tests/unit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proa.errors import Conflict
from proa.http.ids import new_id
from proa.ledger.journal import LOST, Head, Journal
from proa.ledger.open import Ledger, open_ledger
from tests.contract.ledger.conftest import served
from tests.journal_line import write
from tests.postgres import Server

Change = Callable[..., None]


def test_lines_come_back_in_order_and_the_chain_holds(
    new_url: Callable[[], str], open_url: Callable[[str], Ledger]
) -> None:
    url = new_url()
    journal = open_url(url).journal
    assert (journal.verify(), journal.head()) == (0, Head())
    written = [write(journal, f"k{number}", release=f"m/{number}@x") for number in range(5)]
    assert open_url(url).journal.lines("m") == written
    assert journal.lines("other") == []
    assert journal.lines(after=3) == written[3:]
    assert journal.lines(limit=2) == written[:2]
    assert journal.lines(limit=-1) == written
    write(journal, "k9", action="judged", model="other")
    assert [line.key for line in journal.lines(actions=["judged", "revoked"])] == ["k9"]
    assert journal.verify(Head.parse(str(journal.head()))) == 6


def test_the_same_key_is_written_once(ledger: Ledger) -> None:
    first = write(ledger.journal, "k")
    assert write(ledger.journal, "k", reason="again") == first
    assert len(ledger.journal.lines()) == 1


def test_two_writers_never_fork_the_chain(
    new_url: Callable[[], str], open_url: Callable[[str], Ledger]
) -> None:
    """Two processes' views, many threads each: as if both controllers thought they lead."""
    url = new_url()
    sides = [open_url(url).journal, open_url(url).journal]
    with ThreadPoolExecutor(8) as pool:
        lines = list(pool.map(lambda n: write(sides[n % 2], f"k{n}"), range(60)))
        again = list(pool.map(lambda n: write(sides[1 - n % 2], f"k{n}"), range(60)))
    assert again == lines
    assert sorted(line.seq for line in lines) == list(range(1, 61))
    assert len({line.prev for line in lines}) == 60
    assert sides[0].verify(sides[1].head()) == 60


texts = st.text(max_size=40).map(lambda text: text.encode(errors="ignore").decode())
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-1e15, 1e15)
    | texts
)
details = st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=4)


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines=st.lists(st.tuples(texts, texts, details), min_size=1, max_size=6))
def test_any_text_keeps_the_chain_whole(
    ledger: Ledger, lines: list[tuple[str, str, dict[str, Any]]]
) -> None:
    journal, model = ledger.journal, new_id()
    written = [
        write(journal, f"{model}:{n}", model=model, who=who, reason=reason, details=more)
        for n, (who, reason, more) in enumerate(lines)
    ]
    assert journal.lines(model) == written
    assert journal.verify(journal.head()) >= len(lines)


@pytest.fixture
def url(postgres: Server) -> str:
    return served(postgres)


@pytest.fixture
def tampered(url: str) -> Change:
    """What the database's owner can do: triggers first."""

    def change(*statements: str, disabled: bool = True) -> None:
        with psycopg.connect(url, options="-c search_path=proa") as connection:
            if disabled:
                connection.execute("ALTER TABLE journal DISABLE TRIGGER ALL")
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("ALTER TABLE journal ENABLE TRIGGER ALL")

    return change


@pytest.fixture
def journal(url: str, open_url: Callable[[str], Ledger]) -> Journal:
    journal = open_url(url).journal
    for number in range(5):
        write(journal, f"k{number}")
    return journal


@pytest.mark.parametrize(
    "statement", ["UPDATE journal SET who = 'eve'", "DELETE FROM journal", "TRUNCATE journal"]
)
def test_sql_cannot_change_it(journal: Journal, tampered: Change, statement: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        tampered(statement, disabled=False)
    assert journal.verify() == 5


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET who = 'eve' WHERE seq = 2",
        "UPDATE journal SET details = '{}' WHERE seq = 3",
        "UPDATE journal SET time = '2026-11-21T10:00:01Z' WHERE seq = 5",
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE journal SET seq = 9 WHERE seq = 3",
    ],
)
def test_a_change_behind_its_back_is_found(
    journal: Journal, tampered: Change, statement: str
) -> None:
    tampered(statement)
    with pytest.raises(Conflict, match="does not follow"):
        journal.verify()


@pytest.mark.parametrize("lost", [1, 3, 5])
def test_a_journal_cut_at_its_end_is_found_and_stays_found(
    journal: Journal, tampered: Change, lost: int
) -> None:
    noted = journal.head()
    tampered(f"DELETE FROM journal WHERE seq > {5 - lost}")  # noqa: S608
    with pytest.raises(Conflict, match="the table journal_head names: lines were cut off"):
        journal.verify()
    write(journal, "later")
    write(journal, "latest")
    assert [line.action for line in journal.lines()][5 - lost :] == [LOST, "promoted", "promoted"]
    with pytest.raises(Conflict, match="but line 5 had been written"):
        journal.verify()
    with pytest.raises(Conflict):
        journal.verify(noted)


def test_a_head_that_is_gone_is_named_and_stops_no_decision(
    journal: Journal, tampered: Change
) -> None:
    tampered("DELETE FROM journal_head")
    with pytest.raises(Conflict, match="journal_head is missing or damaged"):
        journal.verify()
    assert write(journal, "next").seq == 6


def test_a_writer_that_takes_no_turn_cannot_fork_it_either(journal: Journal, url: str) -> None:
    """Past the lock: number and `prev` are unique, so a second line 6 is refused."""
    line = write(journal, "k5")
    with psycopg.connect(url, options="-c search_path=proa") as connection:
        columns = "key, time, model, action, who, reason, details, hash"
        for seq, prev in ((line.seq, "sha256:x"), (line.seq + 1, line.prev)):
            with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute(
                    f"INSERT INTO journal (seq, prev, {columns}) "  # noqa: S608
                    "VALUES (%s, %s, 'k9', 't', 'm', 'a', 'w', 'r', '{}', 'h')".encode(),
                    [seq, prev],
                )
    assert journal.verify() == 6


def test_it_stays_whole_when_the_server_dies_at_any_moment(postgres: Server, url: str) -> None:
    ledger = open_ledger(url)
    try:
        done: list[int] = []
        for number in range(12):
            write(ledger.journal, f"k{number}")
            done.append(number)
            if number % 4 == 3:
                postgres.kill()
                postgres.start()
        assert ledger.journal.verify() == len(done)
    finally:
        ledger.close()
