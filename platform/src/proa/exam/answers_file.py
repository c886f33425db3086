"""Answers of an exam under way, on disk: a gate that was killed goes on where it was.

One file per gate, JSON lines: first the gate's identity, then one line per batch of answers,
fsynced. The file is locked while its gate lives, so a second gate of the same release on this
machine is refused and a dead one's file is free. What stands after the last whole line was being
written when the gate died, and is cut off.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson

from proa.errors import Conflict
from proa.release.canonical import digest_json

_SUFFIX = ".answers"


class AnswersFile:
    """Answers by key, for one gate's identity; safe to use from several threads.

    Use `open`, which takes the lock; `close` keeps the file, `discard` deletes it.
    """

    def __init__(self, path: Path, handle: int, kept: Mapping[str, Any], slot: str | None) -> None:
        self.path = path
        self.slot = slot
        """The challenger slot that the gate holds, or held when it died."""
        self.resumed = len(kept)
        """How many answers an earlier gate left."""
        self._handle = handle
        self._kept = dict(kept)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, model: str, identity: Mapping[str, Any]) -> Self:
        """The file of a gate, with the answers that an earlier run of the same gate received.

        Files of other gates of the model, which nobody holds, are deleted: their identity (a
        digest of candidate, champion, exam or runtime) will not come back.

        Raises:
            Conflict: a gate of the same identity is running on this machine.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{model}-{digest_json(dict(identity))[7:23]}{_SUFFIX}"
        path = folder / name
        handle = _lock(path)
        if handle is None:
            raise Conflict(
                f"{model}: another gate of the same release runs on this machine", code="busy"
            )
        for other in folder.glob(f"{model}-*{_SUFFIX}"):
            if other.name != name and len(other.name) == len(name):
                _delete_free(other)
        kept, slot = _load(handle, dict(identity))
        return cls(path, handle, kept, slot)

    def get(self, key: str) -> Any:
        """The answer under a key, or None."""
        return self._kept.get(key)

    def keep(self, answers: Mapping[str, Any]) -> None:
        """Add answers; they are on disk when this returns."""
        with self._lock:
            self._kept.update(answers)
            self._write({"answers": dict(answers)})

    def keep_slot(self, slot: str) -> None:
        """Note the slot that this gate holds."""
        with self._lock:
            self.slot = slot
            self._write({"slot": slot})

    def discard(self) -> None:
        """The verdict is in the journal: forget the answers."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave the file for a later run; closing twice is fine."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _write(self, value: Mapping[str, Any]) -> None:
        _append(self._handle, value)


def _lock(path: Path) -> int | None:
    """The locked file, or None when somebody else holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
            return handle
        os.close(handle)  # its last holder discarded it just now


def _append(handle: int, value: Mapping[str, Any]) -> None:
    data = memoryview(orjson.dumps(value) + b"\n")
    while data:
        data = data[os.write(handle, data) :]
    os.fsync(handle)


def _load(handle: int, identity: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Answers and slot of the whole lines; the file then ends after the last of them."""
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        data = file.read()
    kept: dict[str, Any] = {}
    slot: str | None = None
    end = 0
    for number, line in enumerate(data.splitlines(keepends=True)):
        value = _whole(line)
        if value is None or (number == 0 and value != {"identity": identity}):
            break
        end += len(line)
        kept.update(value.get("answers") or {})
        slot = value.get("slot", slot)
    os.ftruncate(handle, end)
    if end == 0:
        _append(handle, {"identity": identity})
    return kept, slot


def _whole(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _delete_free(path: Path) -> None:
    """Delete a file unless a living gate holds it."""
    handle = _lock(path)
    if handle is not None:
        path.unlink(missing_ok=True)
        os.close(handle)
