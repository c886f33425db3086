from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proa.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from proa.http.clock import ReplayClock
from proa.ledger import keys as module
from proa.ledger.keys import KeyStore
from tests.processes import wait_until

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock(NOON)


@pytest.fixture
def store(tmp_path: Path, clock: ReplayClock) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path / "ledger.db", clock=clock)
    yield store
    store.close()


def test_a_key_is_known_by_its_text_and_stored_as_a_hash(store: KeyStore, tmp_path: Path) -> None:
    issued = store.create(team="search", feature="chat", rights=["call"], models=["m"])
    assert store.authenticate(f"Bearer {issued.text}") == issued.key
    assert store.authenticate(f"bearer {issued.text}".encode()) == issued.key
    secret = issued.text[-20:]  # a secret may hold "_" itself
    assert secret not in repr(issued)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert secret.encode() not in (tmp_path / "ledger.db").read_bytes()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no key was sent"),
        (b"", "no key was sent"),
        ("Basic abc", "not of the form: Bearer"),
        ("Bearer", "not of the form: Bearer"),
        ("Bearer sk-123", "not of the form proa_"),
        (f"Bearer proa_{'a' * 12}_{'b' * 43}", "key aaaaaaaaaaaa is unknown"),
        (b"Bearer proa_\xff\xfe", "not of the form proa_"),
    ],
)
def test_bad_headers(store: KeyStore, header: str | bytes | None, message: str) -> None:
    with pytest.raises(Unauthenticated, match=message):
        store.authenticate(header)


def test_a_wrong_secret_says_no_more_than_a_wrong_id(store: KeyStore) -> None:
    issued = store.create(team="t", feature="f", rights=["call"])
    wrong = issued.text[:-1] + ("a" if issued.text[-1] != "a" else "b")
    with pytest.raises(Unauthenticated, match=f"key {issued.key.id} is unknown"):
        store.authenticate(f"Bearer {wrong}")


def test_keys_expire(store: KeyStore, clock: ReplayClock) -> None:
    issued = store.create(team="t", feature="f", rights=["call"], expires=NOON + timedelta(hours=1))
    store.authenticate(f"Bearer {issued.text}")
    clock.advance(timedelta(hours=1))
    with pytest.raises(Unauthenticated, match="expired at 2026-11-21T13:00:00"):
        store.authenticate(f"Bearer {issued.text}")


def test_another_process_s_revocation_is_noticed_within_a_second(
    store: KeyStore, tmp_path: Path
) -> None:
    other = KeyStore(tmp_path / "ledger.db")
    issued = other.create(team="t", feature="f", rights=["call"])
    header = f"Bearer {issued.text}"
    store.authenticate(header)  # made elsewhere a moment ago, known at once
    begun = time.monotonic()
    other.revoke(issued.key.id)
    other.close()

    def refused() -> bool:
        try:
            store.authenticate(header)
        except Unauthenticated as error:
            return "was revoked at" in error.message
        return False

    wait_until(refused, 1.0)
    assert time.monotonic() - begun < 1.0


def test_known_keys_work_on_while_the_file_cannot_be_read(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = store.create(team="t", feature="f", rights=["call"])
    store.authenticate(f"Bearer {issued.text}")
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.0)
    store.close()  # the worst that can happen to a reader
    assert store.authenticate(f"Bearer {issued.text}") == issued.key


def test_list_and_revoke(store: KeyStore) -> None:
    first = store.create(team="a", feature="f", rights=["call"]).key
    second = store.create(team="b", feature="f", rights=["read", "judge"], models=[]).key
    assert {key.id for key in store.list()} == {first.id, second.id}
    assert store.revoke(first.id).revoked == NOON
    assert store.revoke(first.id).revoked == NOON
    with pytest.raises(NotFound, match="no key has the id 'nobody'"):
        store.revoke("nobody")


def test_rights_and_models(store: KeyStore) -> None:
    key = store.create(team="t", feature="f", rights=["call"], models=["m"]).key
    key.require("call")
    key.require_model("m")
    with pytest.raises(Forbidden, match="lacks the right 'admin'; it has call"):
        key.require("admin")
    with pytest.raises(Forbidden, match="may not call the model 'other'; it may call m"):
        key.require_model("other")
    admin = store.create(team="t", feature="f", rights=["admin"]).key
    admin.require("judge")
    admin.require_model("anything")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rights": []}, "rights = none: expected at least one of"),
        ({"rights": ["call", "fly"]}, "rights = call, fly"),
        ({"team": ""}, "team = ''"),
        ({"feature": "two\nlines"}, "feature = "),
        ({"team": "x" * 64}, "1 to 63 letters"),
        ({"expires": NOON}, "not in the future"),
    ],
)
def test_bad_keys_are_not_made(store: KeyStore, change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        store.create(**{"team": "t", "feature": "f", "rights": ["call"], **change})  # type: ignore[arg-type]
    assert store.list() == []
