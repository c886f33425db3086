"""Keys: who calls, for which team and feature, and what that key may do.

A key is `proa_<id>_<secret>` with 256 random bits of secret; the store holds its SHA-256 only.
A fast hash is right here: there is nothing to guess in 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from proa.errors import Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from proa.http import rights as known_rights
from proa.http.clock import Clock, WallClock, parse_time, rfc3339
from proa.ledger.sqlite import connect

__all__ = ["IssuedKey", "Key", "KeyStore"]

REFRESH_SECONDS: Final = 0.25
"""How old the keys in memory may be: a revoked key works for at most this long."""

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
    """Keys in SQLite, all of them in memory for `authenticate`.

    Several processes may share the file; what one writes the others see within `REFRESH_SECONDS`.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or WallClock()
        self._lock = threading.Lock()
        self._reader = connect(path)
        self._reader.executescript(_SCHEMA)
        self._generation = -1
        self._checked = float("-inf")
        self._keys: dict[str, tuple[bytes, Key]] = {}

    def close(self) -> None:
        self._reader.close()

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
        identity = "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
        key = Key(
            id=identity,
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
        text = f"proa_{identity}_{secrets.token_urlsafe(32)}"
        with self._writing() as connection:
            connection.execute(
                f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",  # noqa: S608
                (
                    key.id,
                    _hash(text),
                    key.team,
                    key.feature,
                    orjson.dumps(sorted(key.rights)).decode(),
                    None if key.models is None else orjson.dumps(sorted(key.models)).decode(),
                    rfc3339(now),
                    None if expires is None else rfc3339(expires),
                ),
            )
        return IssuedKey(key, text)

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
        with self._writing() as connection:
            connection.execute(
                "UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL",
                (rfc3339(self._clock.now()), identity),
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
        """
        text = _bearer(header)
        if time.monotonic() - self._checked > REFRESH_SECONDS:
            self._refresh()
        match = _FORM.fullmatch(text)
        if match is None:
            raise Unauthenticated("the key is not of the form proa_<id>_<secret>")
        identity = match[1]
        if identity not in self._keys:  # made a moment ago, by another process perhaps
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

    def _refresh(self) -> None:
        """Look for changes; while the file cannot be read the keys known so far keep working."""
        with self._lock:
            self._checked = time.monotonic()
            try:
                (generation,) = self._reader.execute("SELECT n FROM keys_generation").fetchone()
                if generation != self._generation:
                    self._load()
            except sqlite3.Error as error:
                if self._generation < 0:
                    raise _unreadable(self._path, error) from error

    def _load(self) -> None:
        (generation,) = self._reader.execute("SELECT n FROM keys_generation").fetchone()
        rows = self._reader.execute(f"SELECT {_COLUMNS} FROM keys").fetchall()  # noqa: S608
        self._keys = {row[0]: (row[1], _from_row(row)) for row in rows}
        self._generation = generation

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(connect(self._path, durable=True)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("UPDATE keys_generation SET n = n + 1")
            connection.execute("COMMIT")
        self._checked = float("-inf")


def _from_row(
    row: tuple[str, bytes, str, str, str, str | None, str, str | None, str | None],
) -> Key:
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


def _unreadable(path: Path, error: Exception) -> Unavailable:
    return Unavailable(f"the keys in {path} cannot be read: {error}")


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
