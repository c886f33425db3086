"""Keys: who calls, for which team and feature, and what that key may do.

A key is `proa_<id>_<secret>` with 256 random bits of secret; the store holds its SHA-256 only.
A fast hash is right here: there is nothing to guess in 256 random bits.

Processes keep all keys in memory. What one process changes the others follow within
`REFRESH_SECONDS`. A database on a network is only ever asked by a thread beside the requests; while
it is away known keys keep working for `STALE_SECONDS`, whether a key not known exists cannot be
said (503), and a revocation counts as soon as the database is back.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from proa.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ProaError,
    Unauthenticated,
    Unavailable,
)
from proa.http import rights as known_rights
from proa.http.clock import Clock, WallClock, parse_time, rfc3339
from proa.ledger.database import Database, Row
from proa.ledger.sqlite import SqliteFile

__all__ = ["IssuedKey", "Key", "KeyStore", "new_key_text"]

REFRESH_SECONDS: Final = 0.25
"""How old the keys in memory may be: a revoked key works for at most this long."""
STALE_SECONDS: Final = 4 * 3600.0
"""How long known keys work while their database is away: long enough to restore one from a backup.
A key revoked meanwhile works for at most as long; then every key is answered with 503."""
_SURE_SECONDS: Final = 2.0
"""With a look at the database this recent, a key that is not known does not exist."""

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FORM: Final = re.compile(r"proa_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")
_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_NO_HASH: Final = bytes(32)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
  id TEXT PRIMARY KEY, hash BLOB NOT NULL, team TEXT NOT NULL, feature TEXT NOT NULL,
  rights TEXT NOT NULL, models TEXT, created TEXT NOT NULL, expires TEXT, revoked TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS keys_generation (n INTEGER NOT NULL) STRICT;
INSERT INTO keys_generation SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM keys_generation);
"""
_COLUMNS: Final = "id, hash, team, feature, rights, models, created, expires, revoked"


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """One key, without its secret.

    Attributes:
        models: the model names it may call; None allows every one.
        expires: the moment it stops working; None means never.
        revoked: when it was revoked, if it was.
    """

    id: str
    team: str
    feature: str
    rights: frozenset[str]
    models: frozenset[str] | None
    created: datetime
    expires: datetime | None
    revoked: datetime | None = None

    def may(self, right: str) -> bool:
        """Whether the key has `right`; `admin` has every right."""
        return right in self.rights or known_rights.ADMIN in self.rights

    def require(self, right: str) -> None:
        """Raise Forbidden unless the key has `right`."""
        if not self.may(right):
            raise Forbidden(
                f"key {self.id} (team {self.team}, feature {self.feature}) lacks the right "
                f"{right!r}; it has {_listed(self.rights)}",
                code="right_missing",
            )

    def require_model(self, model: str) -> None:
        """Raise Forbidden unless the key may call `model`."""
        if self.models is not None and model not in self.models:
            raise Forbidden(
                f"key {self.id} (team {self.team}, feature {self.feature}) may not call the model "
                f"{model!r}; it may call {_listed(self.models)}",
                code="model_not_allowed",
                param="model",
            )

    def to_wire(self) -> dict[str, object]:
        """The key as JSON, without secret or hash."""
        return {
            "id": self.id,
            "team": self.team,
            "feature": self.feature,
            "rights": sorted(self.rights),
            "models": None if self.models is None else sorted(self.models),
            "created": rfc3339(self.created),
            "expires": None if self.expires is None else rfc3339(self.expires),
            "revoked": None if self.revoked is None else rfc3339(self.revoked),
        }


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key and its text, which is shown this once."""

    key: Key
    text: str

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key!r}, text='proa_{self.key.id}_…')"


class KeyStore:
    """Keys in the ledger, all of them in memory for `authenticate`.

    Args:
        database: holds the tables `keys` and `keys_generation`; or the path of a SQLite file, which
            is made. One over a network is followed by a thread, from now on until `close`.
    """

    def __init__(self, database: Database | Path, *, clock: Clock | None = None) -> None:
        if isinstance(database, Path):
            database = SqliteFile(database, _SCHEMA)
        self._database = database
        self._clock = clock or WallClock()
        self._lock = threading.Lock()
        self._generation = -1
        self._checked = self._good = float("-inf")
        self._keys: dict[str, tuple[bytes, Key]] = {}
        self._closing = threading.Event()
        self._follower: threading.Thread | None = None
        if database.remote:
            self._follower = threading.Thread(target=self._follow, name="keys", daemon=True)
            self._follower.start()

    def close(self) -> None:
        self._closing.set()
        self._database.close()
        if self._follower is not None:
            self._follower.join()

    def create(
        self,
        *,
        team: str,
        feature: str,
        rights: Iterable[str],
        models: Iterable[str] | None = None,
        expires: datetime | None = None,
    ) -> IssuedKey:
        """Make a key; only its hash is stored.

        Raises:
            InvalidInput: an unknown right, a bad team or feature, an expiry in the past.
        """
        now = self._clock.now()
        text = new_key_text()
        key = Key(
            id=text.split("_")[1],
            team=_label(team, "team"),
            feature=_label(feature, "feature"),
            rights=_known(rights),
            models=None if models is None else frozenset(models),
            created=now,
            expires=expires,
        )
        if expires is not None and expires <= now:
            raise InvalidInput(
                f"expires = {rfc3339(expires)} is not in the future: it is {rfc3339(now)}",
                param="expires",
            )
        self._write("INSERT INTO keys " + _VALUES, _to_row(key, text))
        return IssuedKey(key, text)

    def register(self, text: str, *, team: str, feature: str, rights: Iterable[str]) -> bool:
        """Make a key that somebody else has made the text of (`new_key_text`), or give the one that
        is there these rights. One that was revoked stays revoked.

        Returns:
            whether anything changed.

        Raises:
            InvalidInput: the text is no key's.  Conflict: another key has its id.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise InvalidInput("the key is not of the form proa_<id>_<secret>")
        with self._lock:
            self._load()
            stored, known = self._keys.get(match[1], (_NO_HASH, None))
        if known is None:
            key = Key(
                id=match[1],
                team=_label(team, "team"),
                feature=_label(feature, "feature"),
                rights=_known(rights),
                models=None,
                created=self._clock.now(),
                expires=None,
            )
            self._write(
                "INSERT INTO keys " + _VALUES + " ON CONFLICT DO NOTHING", _to_row(key, text)
            )
            return True
        if not hmac.compare_digest(stored, _hash(text)):
            raise Conflict(f"another key has the id {match[1]}", code="key_id_taken")
        changed = replace(known, team=team, feature=feature, rights=_known(rights))
        if changed == known:
            return False
        self._write(
            "UPDATE keys SET team = :team, feature = :feature, rights = :rights WHERE id = :id",
            _to_row(changed, text),
        )
        return True

    def list(self) -> list[Key]:
        """Every key, revoked ones too, oldest first."""
        with self._lock:
            self._load()
            return sorted((key for _, key in self._keys.values()), key=lambda key: key.created)

    def revoke(self, identity: str) -> Key:
        """Revoke a key; revoking it again changes nothing.

        Raises:
            NotFound: no key has this id.
        """
        self._write(
            "UPDATE keys SET revoked = :now WHERE id = :id AND revoked IS NULL",
            {"now": rfc3339(self._clock.now()), "id": identity},
        )
        with self._lock:
            self._load()
            if identity not in self._keys:
                raise NotFound(f"no key has the id {identity!r}", code="unknown_key")
            return self._keys[identity][1]

    def authenticate(self, header: str | bytes | None) -> Key:
        """The key of an `Authorization` header.

        Raises:
            Unauthenticated: no key, or one that is malformed, unknown, revoked or expired.
            Unavailable: the database is away, and the key is not known or known for too long.
        """
        text = _bearer(header)
        if self._follower is None and time.monotonic() - self._checked > REFRESH_SECONDS:
            self._refresh()
        match = _FORM.fullmatch(text)
        if match is None:
            raise Unauthenticated("the key is not of the form proa_<id>_<secret>")
        identity = match[1]
        if self._follower is not None:
            self._require_recent(identity)
        elif identity not in self._keys:  # made a moment ago, by another process perhaps
            self._refresh()
        stored, key = self._keys.get(identity, (_NO_HASH, None))
        if not hmac.compare_digest(stored, _hash(text)) or key is None:
            raise Unauthenticated(
                f"key {identity} is unknown: either its id or its secret is wrong"
            )
        if key.revoked is not None:
            raise Unauthenticated(f"key {identity} was revoked at {rfc3339(key.revoked)}")
        if key.expires is not None and key.expires <= self._clock.now():
            raise Unauthenticated(f"key {identity} expired at {rfc3339(key.expires)}")
        return key

    @property
    def known(self) -> bool:
        """Whether the keys were read at least once."""
        return self._generation >= 0

    def _require_recent(self, identity: str) -> None:
        age = time.monotonic() - self._good
        if age > (STALE_SECONDS if identity in self._keys else _SURE_SECONDS):
            since = f"for {age:.0f} s" if self.known else "yet"
            raise Unavailable(
                f"whether key {identity} may pass cannot be said: the ledger's keys could not be "
                f"read {since}",
                code="keys_unreachable",
            )

    def _follow(self) -> None:
        away = False
        while not self._closing.wait(REFRESH_SECONDS if self.known or away else 0.0):
            try:
                self._refresh()
                if away:
                    _log.warning("the ledger's keys can be read again")
                away = False
            except Exception as error:
                if not away and not self._closing.is_set():
                    expected = isinstance(error, ProaError)
                    _log.error("known keys work on: %s", error, exc_info=not expected)
                away = True

    def _refresh(self) -> None:
        """Look for changes; while a file cannot be read the keys known so far keep working.

        Raises:
            Unavailable: it cannot be read, and is remote or never was read.
        """
        with self._lock:
            self._checked = begun = time.monotonic()
            try:
                self._load(unless=self._generation)
                self._good = begun
            except Unavailable:
                if self._follower is not None or not self.known:
                    raise

    def _load(self, unless: int = -1) -> None:
        with self._database.reading() as session:
            ((generation,),) = session.ask("SELECT n FROM keys_generation")
            if generation == unless:
                return
            rows = session.ask(f"SELECT {_COLUMNS} FROM keys")  # noqa: S608
        self._keys = {row[0]: (bytes(row[1]), _from_row(row)) for row in rows}
        self._generation = generation

    def _write(self, sql: str, values: dict[str, Any]) -> None:
        with self._database.writing("keys") as session:
            session.ask(sql, values)
            session.ask("UPDATE keys_generation SET n = n + 1")
        self._checked = float("-inf")
        if self._follower is not None:
            # Told once every process follows it: nobody is refused with a key just made, and a key
            # just revoked is. Two rounds, since one may have begun before.
            self._closing.wait(2 * REFRESH_SECONDS)


_VALUES: Final = (
    f"({_COLUMNS}) VALUES (:id, :hash, :team, :feature, :rights, :models, :created, :expires,"
    " :revoked)"
)


def new_key_text() -> str:
    """The text of a new key, which nobody knows yet."""
    identity = "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
    return f"proa_{identity}_{secrets.token_urlsafe(32)}"


def _to_row(key: Key, text: str) -> dict[str, Any]:
    wire = key.to_wire()
    for name in ("rights", "models"):
        wire[name] = None if wire[name] is None else orjson.dumps(wire[name]).decode()
    return {**wire, "hash": _hash(text)}


def _from_row(row: Row) -> Key:
    identity, _, team, feature, rights, models, created, expires, revoked = row
    return Key(
        id=identity,
        team=team,
        feature=feature,
        rights=frozenset(orjson.loads(rights)),
        models=None if models is None else frozenset(orjson.loads(models)),
        created=parse_time(created),
        expires=None if expires is None else parse_time(expires),
        revoked=None if revoked is None else parse_time(revoked),
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _bearer(header: str | bytes | None) -> str:
    if not header:
        raise Unauthenticated("no key was sent: expected the header Authorization: Bearer proa_…")
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("the Authorization header is not of the form: Bearer proa_…")
    return token.strip()


def _label(value: str, what: str) -> str:
    if not _LABEL.fullmatch(value):
        raise InvalidInput(
            f"{what} = {value!r}: expected 1 to 63 letters, digits and ._- that begin with a "
            "letter or digit",
            param=what,
        )
    return value


def _known(rights: Iterable[str]) -> frozenset[str]:
    asked = frozenset(rights)
    unknown = asked - known_rights.ALL
    if unknown or not asked:
        raise InvalidInput(
            f"rights = {_listed(asked)}: expected at least one of {_listed(known_rights.ALL)}",
            param="rights",
        )
    return asked


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "none"
