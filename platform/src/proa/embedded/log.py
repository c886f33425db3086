"""The log of a workload: appended to by its processes, kept from growing for ever."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

__all__ = ["last_words", "rotate", "size_of"]

_LARGEST: Final = 32 << 20
_TAIL: Final = 8192


def size_of(log: Path) -> int:
    """Bytes written so far; 0 when there is no log yet."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def rotate(log: Path, *, largest: int = _LARGEST) -> bool:
    """Move a log above `largest` bytes to `NAME.log.1` and begin it anew; True when it was done.

    The processes keep their file open for appending, so it is copied and cut to nothing; lines
    written between the two are lost.
    """
    if size_of(log) <= largest:
        return False
    shutil.copyfile(log, log.with_name(log.name + ".1"))
    os.truncate(log, 0)
    return True


def last_words(log: Path, *, since: int = 0) -> str:
    """The last line that says something, at most 300 characters of it.

    Args:
        since: bytes of the log that were written before, by others.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else ""
