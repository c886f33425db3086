"""`python -m proa_controller.migrate` on a real Postgres: first, again, two at once, late."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from proa.errors import Unauthenticated
from proa.http import rights
from proa.http.ids import new_id
from proa.ledger.call import Call
from proa.ledger.keys import new_key_text
from proa.ledger.migrations import LATEST, migrate
from proa.ledger.open import Ledger, open_ledger
from proa.ledger.postgres import Postgres
from tests.postgres import USER, Server
from tests.processes import wait_until


class Installation:
    """The files that the chart's Job gets: URLs and keys."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self.url = server.create()
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.texts = {name: new_key_text() for name in rights.PARTS}
        for name, text in self.texts.items():
            (self.keys / f"{name}.key").write_text(f"{text}\n")

    def file(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content + "\n")
        return path

    def argv(self, *more: str | Path, url: str = "") -> Sequence[str]:
        file = self.file("ledger-url", url or self.url)
        argv = [sys.executable, "-m", "proa_controller.migrate", "--ledger-file", file, *more]
        return [str(part) for part in argv]

    def run(self, *more: str | Path, url: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*more, url=url), capture_output=True, text=True, check=False, timeout=120
        )

    def migrate(self, *more: str | Path, url: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("--keys", self.keys, *more, url=url)


@pytest.fixture
def there(tmp_path: Path, postgres: Server) -> Installation:
    return Installation(tmp_path, postgres)


@pytest.fixture
def opened() -> Iterator[Callable[[str], Ledger]]:
    ledgers: list[Ledger] = []

    def make(url: str) -> Ledger:
        ledgers.append(open_ledger(url))
        wait_until(lambda: ledgers[-1].unready() is None, 20)
        return ledgers[-1]

    yield make
    for ledger in ledgers:
        ledger.close()


def tables(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'proa' ORDER BY 1, 2"
        ).fetchall()


def test_keys_get_the_rights_of_their_parts_and_a_second_run_changes_nothing(
    there: Installation, opened: Callable[[str], Ledger]
) -> None:
    first = there.migrate()
    assert first.returncode == 0, first.stderr
    assert f"{LATEST} steps taken" in first.stdout
    ledger = opened(there.url)
    identity = ledger.calls.identity
    for name, text in there.texts.items():
        key = ledger.keys.authenticate(f"Bearer {text}")
        assert (key.team, key.feature, key.rights) == ("platform", name, set(rights.PARTS[name]))
        assert text not in first.stdout + first.stderr
    before = tables(there.url)
    second = there.migrate()
    assert second.returncode == 0, second.stderr
    assert "0 steps taken" in second.stdout
    assert "registered" not in second.stdout
    assert (tables(there.url), ledger.calls.identity) == (before, identity)
    assert len(ledger.keys.list()) == len(rights.PARTS)


def test_a_part_s_rights_follow_the_code_and_a_revoked_key_stays_revoked(
    there: Installation, opened: Callable[[str], Ledger]
) -> None:
    assert there.migrate().returncode == 0
    with psycopg.connect(there.url) as connection:
        connection.execute("""UPDATE proa.keys SET rights = '["read"]' WHERE feature = 'admin'""")
    ledger = opened(there.url)
    gone = ledger.keys.authenticate(f"Bearer {there.texts['predictor']}")
    ledger.keys.revoke(gone.id)
    again = there.migrate()
    assert "key of admin: registered" in again.stdout
    assert "key of predictor: there" in again.stdout
    wait_until(lambda: ledger.keys.authenticate(f"Bearer {there.texts['admin']}").may("admin"), 10)
    with pytest.raises(Unauthenticated, match="was revoked"):
        ledger.keys.authenticate(f"Bearer {there.texts['predictor']}")


def test_two_jobs_at_once_take_each_step_once(there: Installation) -> None:
    argv = there.argv("--keys", there.keys)
    jobs = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    told = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], told
    assert sorted(f"{LATEST} steps taken" in text for text in told) == [False, False, True]
    with psycopg.connect(there.url) as connection:
        taken = connection.execute("SELECT number FROM proa.migrations ORDER BY number").fetchall()
        assert taken == [(number,) for number in range(1, LATEST + 1)]
        assert connection.execute("SELECT COUNT(*) FROM proa.keys").fetchall() == [
            (len(there.texts),)
        ]
        assert connection.execute("SELECT COUNT(*) FROM proa.identity").fetchall() == [(1,)]


def test_migrations_that_begin_in_one_moment_take_turns(postgres: Server) -> None:
    for _ in range(3):
        url = postgres.create()
        sides = [Postgres(url, connections=1) for _ in range(6)]
        together = threading.Barrier(len(sides))

        def go(side: Postgres, together: threading.Barrier = together) -> int:
            with side.reading() as session:
                session.ask("SELECT 1")  # connected: what follows is the race alone
            together.wait(20)
            return migrate(side)

        try:
            with ThreadPoolExecutor(len(sides)) as pool:
                assert sorted(pool.map(go, sides)) == [0, 0, 0, 0, 0, LATEST]
        finally:
            for side in sides:
                side.close()


def test_a_database_newer_than_the_code_is_refused(there: Installation) -> None:
    assert there.migrate().returncode == 0
    with psycopg.connect(there.url) as connection:
        connection.execute("INSERT INTO proa.migrations VALUES (99, 'of the future', 'then')")
    before = tables(there.url)
    done = there.migrate()
    assert done.returncode == 5
    assert f"is at step 99, this proa knows steps up to {LATEST}" in done.stderr
    assert "run that version, or restore the backup made before it" in done.stderr
    assert tables(there.url) == before


def test_a_step_that_fails_leaves_nothing_behind(there: Installation) -> None:
    with psycopg.connect(there.url) as connection:
        connection.execute("CREATE SCHEMA proa")
        connection.execute("CREATE TABLE proa.evidence (somebody text)")
    before = tables(there.url)
    done = there.migrate("--wait-seconds", "1")
    assert done.returncode == 8
    assert 'relation "evidence" already exists' in done.stderr
    assert tables(there.url) == before


def test_it_waits_for_a_database_that_comes_late_up_to_its_deadline(there: Installation) -> None:
    there.server.stop()
    try:
        over = there.migrate("--wait-seconds", "1")
        assert over.returncode == 8
        assert "connection refused" in over.stderr.lower()
        job = subprocess.Popen(
            there.argv("--keys", there.keys, "--wait-seconds", "100"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert job.stderr is not None
            assert job.stderr.readline().startswith("waiting: the database")
        finally:
            there.server.start()
        told, _ = job.communicate(timeout=100)
        assert (job.returncode, f"{LATEST} steps taken" in told) == (0, True)
    finally:
        there.server.stop()
        there.server.start()


def test_missing_databases_are_made_by_whoever_may(there: Installation) -> None:
    name = f"made_{new_id().lower()}"
    urls = {part: there.server.url(f"{name}_{part}") for part in ("proa", "mlflow", "auth")}
    files = [
        *("--mlflow-file", there.file("mlflow-url", urls["mlflow"])),
        *("--mlflow-auth-file", there.file("mlflow-auth-url", urls["auth"])),
    ]
    first = there.migrate(*files, url=urls["proa"])
    assert first.returncode == 0, first.stderr
    assert "database of MLflow: made" in first.stdout
    assert "database of MLflow's users: made" in first.stdout
    again = there.migrate(*files, url=urls["proa"])
    assert "database of MLflow: there" in again.stdout
    for url in urls.values():
        psycopg.connect(url).close()


def test_who_may_not_make_a_database_is_told_the_command(there: Installation) -> None:
    with psycopg.connect(there.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS small")
        connection.execute("CREATE ROLE small LOGIN PASSWORD 'secret-of-small'")
    url = there.server.url("nowhere").replace(USER + ":not-a-secret", "small:secret-of-small")
    done = there.migrate(url=url)
    assert done.returncode == 6
    assert "CREATE DATABASE nowhere OWNER small" in done.stderr
    assert "secret-of-small" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hunter2@[broken/db", "cannot be read"),
        ("mysql://u:hunter2@h/db", "expected postgresql://"),
        ("", "expected postgresql://"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_and_never_shown(
    there: Installation, url: str, said: str
) -> None:
    done = there.migrate(url=url or " ")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("broken", ["none", "no key"])
def test_keys_that_are_missing_or_none_are_refused(there: Installation, broken: str) -> None:
    for name in there.texts:
        (there.keys / f"{name}.key").unlink()
    if broken == "no key":
        (there.keys / "admin.key").write_text("hello")
    done = there.migrate()
    assert done.returncode == 2
    assert "hello" not in done.stderr


def a_call(number: int) -> Call:
    return Call(
        request=new_id(), door="user", started=f"2026-11-21T12:00:{number:02d}.000000Z",
        latency_ms=1.5, key="k", team="t", feature="f", purpose="user", kind="classic",
        status=200, model="m", release="m/1@x", cost_micro=7,
    )  # fmt: skip


def test_dump_drop_restore_verify(
    there: Installation, opened: Callable[[str], Ledger], tmp_path: Path
) -> None:
    """What the runbook says: everything is there again, and the journal proves it."""
    assert there.migrate().returncode == 0
    ledger = opened(there.url)
    ledger.calls.insert([a_call(number) for number in range(50)])
    evidence = '{"α": [1, 2.5, null]}'
    ledger.evidence.put("sha256:" + "e" * 64, evidence)
    for number in range(20):
        ledger.journal.append(
            key=f"k{number}", time="2026-11-21T10:00:00Z", model="m", action="promoted",
            release=None, who="ann", reason="w\u00eby \\ \u0001", details={"value": 0.1 * number},
        )  # fmt: skip
    head, bill = str(ledger.journal.head()), ledger.calls.costs(by="team")
    before = there.run("--verify", "--head", head)
    assert before.returncode == 0, before.stderr
    assert f"journal: 20 lines, whole; head {head}" in before.stdout
    ledger.close()
    server, name = there.server, there.url.rpartition("/")[2]
    dump = server.folder / f"{name}.dump"
    server.run("pg_dump", "-Fc", "-f", dump, "-d", there.url)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    empty = there.run("--verify")
    assert empty.returncode == 8
    assert "lacks a table" in empty.stderr
    server.run("pg_restore", "--exit-on-error", "--no-owner", "-d", there.url, dump)
    after = there.run("--verify", "--head", head)
    assert (after.returncode, after.stdout) == (0, before.stdout), after.stderr
    # The Job of the next upgrade finds nothing to do, and decisions go on where they ended.
    assert "0 steps taken" in there.migrate().stdout
    restored = opened(there.url)
    assert restored.evidence.get("sha256:" + "e" * 64) == evidence
    assert restored.calls.costs(by="team") == bill
    line = restored.journal.append(
        key="k20", time="2026-11-21T10:00:00Z", model="m", action="promoted", release=None,
        who="ann", reason="on", details={},
    )  # fmt: skip
    assert (line.seq, restored.journal.verify()) == (21, 21)
    with (
        psycopg.connect(there.url, options="-c search_path=proa") as connection,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        connection.execute("DELETE FROM journal")


def test_an_older_dump_is_known_by_the_head_noted_since(
    there: Installation, opened: Callable[[str], Ledger]
) -> None:
    assert there.migrate().returncode == 0
    noted = "7:sha256:" + "0" * 64
    done = there.run("--verify", "--head", noted)
    assert done.returncode == 5
    assert "the journal of 0 lines does not have line 7, which the head given names" in done.stderr
