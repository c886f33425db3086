"""What the store of keys promises over each database, to two processes that share one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from proa.errors import Conflict, InvalidInput, NotFound, Unauthenticated, Unavailable
from proa.ledger import keys as module
from proa.ledger.keys import Key, KeyStore, new_key_text
from proa.ledger.open import Ledger
from tests.contract.ledger.conftest import served
from tests.postgres import Server
from tests.processes import wait_until

Pair = tuple[KeyStore, KeyStore]


@pytest.fixture
def sides(new_url: Callable[[], str], open_url: Callable[[str], Ledger]) -> Pair:
    """Two processes' views of the same keys, both of which have read them."""
    url = new_url()
    one, other = open_url(url).keys, open_url(url).keys
    for side in (one, other):
        wait_until(lambda side=side: known(side), 10)
    return one, other


def known(store: KeyStore) -> bool:
    """Whether the keys were read: a key that is not there is unknown, not unclear."""
    try:
        store.authenticate(f"Bearer {new_key_text()}")
    except (Unauthenticated, Unavailable) as error:
        return isinstance(error, Unauthenticated)
    raise AssertionError("nobody has this key")


def refused(store: KeyStore, text: str) -> str | None:
    try:
        store.authenticate(f"Bearer {text}")
    except Unauthenticated as error:
        return error.message
    return None


def test_a_key_made_here_works_there_once_it_is_told_and_a_revoked_one_no_more(
    sides: Pair,
) -> None:
    one, other = sides
    issued = one.create(team="t", feature="f", rights=["call"], models=["m", "ü"])
    assert issued.text not in repr(issued)
    # Told means usable everywhere: nobody polls before using a key.
    assert other.authenticate(f"Bearer {issued.text}") == issued.key
    assert other.list() == one.list() == [issued.key]
    one.revoke(issued.key.id)
    wait_until(lambda: "was revoked at" in (refused(other, issued.text) or ""), 1.0)
    again = other.revoke(issued.key.id)
    assert again.revoked == one.list()[0].revoked is not None
    with pytest.raises(NotFound, match="no key has the id 'nobody'"):
        one.revoke("nobody")


def test_keys_come_back_as_they_were_made(sides: Pair) -> None:
    one, other = sides
    soon = datetime.now(UTC) + timedelta(hours=1)
    made: list[Key] = [
        one.create(team="b", feature="F-1", rights=["call"], expires=soon).key,
        one.create(team="B", feature="f_2", rights=["read", "judge"], models=[]).key,
        one.create(team="a", feature="f.3", rights=["admin"]).key,
    ]
    assert other.list() == made
    for bad in ({"rights": ["fly"]}, {"team": ""}, {"expires": datetime(2020, 1, 1, tzinfo=UTC)}):
        with pytest.raises(InvalidInput):
            one.create(**{"team": "t", "feature": "f", "rights": ["call"], **bad})
    assert len(other.list()) == 3


def test_a_text_made_elsewhere_is_registered_once(sides: Pair) -> None:
    one, other = sides
    text = new_key_text()
    assert one.register(text, team="platform", feature="admin", rights=["admin"])
    assert not other.register(text, team="platform", feature="admin", rights=["admin"])
    assert other.register(text, team="platform", feature="admin", rights=["read"])
    wait_until(lambda: one.authenticate(f"Bearer {text}").rights == {"read"}, 2)
    identity = text.split("_")[1]
    with pytest.raises(Conflict, match=f"another key has the id {identity}"):
        one.register(text[:-4] + "abcd", team="t", feature="f", rights=["call"])
    with pytest.raises(InvalidInput, match="not of the form"):
        one.register("sk-123", team="t", feature="f", rights=["call"])
    one.revoke(identity)
    one.register(text, team="platform", feature="admin", rights=["admin"])
    wait_until(lambda: "was revoked" in (refused(other, text) or ""), 2)


def test_while_it_is_away_known_keys_work_for_their_time_and_no_longer(
    postgres: Server, open_url: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = open_url(served(postgres)).keys
    issued = keys.create(team="t", feature="f", rights=["call"])
    assert refused(keys, issued.text) is None
    postgres.stop()
    try:
        stranger = new_key_text()

        def unclear() -> bool:
            with pytest.raises((Unavailable, Unauthenticated)) as caught:
                keys.authenticate(f"Bearer {stranger}")
            return caught.value.code == "keys_unreachable"

        wait_until(unclear, 10)
        assert keys.authenticate(f"Bearer {issued.text}") == issued.key
        with pytest.raises(Unavailable):
            keys.create(team="t", feature="f", rights=["call"])
        monkeypatch.setattr(module, "STALE_SECONDS", 0.5)  # instead of hours
        with pytest.raises(Unavailable, match="could not be read for"):
            keys.authenticate(f"Bearer {issued.text}")
    finally:
        postgres.start()
    wait_until(lambda: known(keys), 20)
    assert keys.authenticate(f"Bearer {issued.text}") == issued.key
