"""The finding store on SQLite and on Postgres: the same answers, over restarts and faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.findings.book import BookKey
from proa.findings.observation import Observation
from proa.ledger.database import Database
from proa_monitor.finding_store import FindingStore
from proa_monitor.state_tables import open_state
from tests.postgres import PASSWORD, Server
from tests.processes import wait_until

ONE = BookKey("a-model", "classic", "a-model/1@sha256:00", "champion")
OTHER = BookKey("Z-model", "llm", "", "")


@pytest.fixture(params=["sqlite", "postgres"])
def new_state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """`new_state()`: the same database each time, opened anew."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").create()
    opened: list[Database] = []

    def make() -> Database:
        opened.append(open_state(url, tmp_path / "events"))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


def day(number: int) -> str:
    return f"2013-04-{number:02}T00:00:00.000000Z"


def burst(subject: str, holds: bool | None) -> Observation:
    return Observation("null_burst", subject, holds, 0.25, 0.02, "share", "a quarter", "critical")


def test_findings_are_kept_as_the_book_has_them(new_state: Callable[[], Database]) -> None:
    store = FindingStore(new_state())
    assert store.see(ONE, "2013-04-01", day(1), day(2), [burst("wind", False)]) == []
    (opened,) = store.see(ONE, "2013-04-02", day(2), day(3), [burst("wind", True)])
    (other,) = store.see(OTHER, "2013-04-03", day(3), day(4), [burst("", True)])
    assert store.get(opened.id) == opened
    assert store.open() == [other, opened]
    assert store.open("a-model") == [opened]
    assert store.find("a-model") == ([opened], False)
    assert store.find(limit=1) == ([other], True)
    assert store.find(since=day(4)) == ([other], False)
    assert store.find(kind="schema") == ([], False)
    (closed,) = store.see(ONE, "2013-04-04", day(4), day(5), [burst("wind", False)])
    assert store.find(only="closed") == ([closed], False)
    assert store.find(only="open") == ([other], False)
    assert store.totals == {("a-model", ONE.release, "champion", "null_burst"): 1} | {
        ("Z-model", "", "", "null_burst"): 1
    }
    with pytest.raises(InvalidInput, match="expected one of"):
        store.find(kind="drizzle")
    with pytest.raises(NotFound):
        store.get("0" * 16)


def test_another_process_goes_on_where_the_last_one_was(new_state: Callable[[], Database]) -> None:
    pick = random.Random(1)
    history = [
        (number, [burst(s, pick.choice([True, False, None])) for s in ("wind", "hour", "%:x é")])
        for number in range(1, 25)
    ]
    numbers = count()

    def run(restart_every: int) -> tuple[object, ...]:
        key = ONE._replace(track=f"t{next(numbers)}")
        store = FindingStore(new_state())
        for number, seen in history:
            if number % restart_every == 0:
                store = FindingStore(new_state())
            store.see(key, f"2013-04-{number:02}", day(number), day(number + 1), seen)
        found = [f for f in store.find(limit=1000)[0] if f.track == key.track]
        assert {f.id for f in store.open()} >= {f.id for f in found if f.open}
        return tuple(sorted((f.since, f.seen, str(f.until), f.windows, f.subject) for f in found))

    assert run(100) == run(3)
    assert len(run(1)) > 5


def test_what_could_not_be_stored_was_not_seen(
    new_state: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = new_state()
    store = FindingStore(database)

    def away(_: str) -> object:
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(database, "writing", away)
        with pytest.raises(Unavailable):
            store.see(ONE, "2013-04-01", day(1), day(2), [burst("wind", True)])
    assert store.open() == []
    assert len(store.see(ONE, "2013-04-01", day(1), day(2), [burst("wind", True)])) == 1
    assert store.see(ONE, "2013-04-01", day(1), day(2), [burst("wind", True)]) == []


def test_tables_are_made_once_and_other_schemes_are_named(
    new_state: Callable[[], Database], tmp_path: Path
) -> None:
    new_state()
    assert FindingStore(new_state()).keys == []
    with pytest.raises(InvalidInput, match="expected sqlite or postgresql"):
        open_state("mysql://user:secret@host/db", tmp_path)


def test_a_server_that_starts_later_is_waited_for(
    postgres: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.create()
    postgres.stop()
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_state, url, tmp_path / "events")
        try:
            wait_until(lambda: "not ready: " in caplog.text, 20)
            assert not opened.done()
        finally:
            postgres.start()
        database = opened.result(30)
    assert FindingStore(database).open() == []
    database.close()
    assert PASSWORD not in caplog.text
