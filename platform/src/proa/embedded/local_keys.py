"""Keys of the platform's own processes and of the local user, each with the least rights."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from proa.embedded.home import Home
from proa.embedded.parts import ENGINE_KEY
from proa.errors import Unauthenticated
from proa.http import rights
from proa.ledger.keys import KeyStore

__all__ = ["make_keys"]


def make_keys(home: Home) -> tuple[str, ...]:
    """Make the keys that are missing or not valid any more; returns their names."""
    made = []
    store = KeyStore(home.ledger)
    try:
        for name, granted in rights.PARTS.items():
            path = home.key(name)
            if not _works(store, path, granted):
                issued = store.create(team=rights.PARTS_TEAM, feature=name, rights=granted)
                _write_secret(path, issued.text)
                made.append(name)
    finally:
        store.close()
    engine = home.key(ENGINE_KEY)
    if not _read(engine):
        _write_secret(engine, secrets.token_urlsafe(32))
        made.append(ENGINE_KEY)
    return tuple(made)


def _works(store: KeyStore, path: Path, granted: tuple[str, ...]) -> bool:
    text = _read(path)
    if not text:
        return False
    try:
        key = store.authenticate(f"Bearer {text}")
    except Unauthenticated:
        return False
    return key.rights == frozenset(granted)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _write_secret(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
