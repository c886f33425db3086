"""The spool: files of JSON lines, written in order, one at a time.

A batch is one `write(2)`: once it returned the events survive the end of this process. Files are
numbered; a file is closed when it is large or old enough and is then compacted as a whole into
the segment of the same number. Only the last line of a file can be torn, because every process
begins a file of its own.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proa.errors import Conflict, Unavailable

__all__ = ["EventSpool", "lock_folder", "spool_file", "spool_files", "whole_lines"]

_SUFFIX: Final = ".jsonl"
_READ_BYTES: Final = 1 << 20


class EventSpool:
    """The one file that is written to.

    Args:
        folder: is created, for its owner only.
        number: of the first file; above every number in use.
    """

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._fd = -1
        self.number = number
        self.size = 0
        self._opened = time.monotonic()
        self._torn = False
        self._open()

    @property
    def age(self) -> float:
        """Seconds since the file was begun."""
        return time.monotonic() - self._opened

    def append(self, data: bytes) -> None:
        """Write whole lines at the end, or nothing.

        Raises:
            Unavailable: the disk did not take all of it.
        """
        if self._torn:
            raise _unwritable(self._folder, "an earlier write was torn; restart the monitor")
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._cut()
            raise _unwritable(self._folder, str(error)) from error
        if written != len(data):
            self._cut()
            raise _unwritable(self._folder, f"{written:,} of {len(data):,} bytes were taken")
        self.size += written

    def next(self) -> int | None:
        """Close the file and begin another; returns the closed number, None when it was empty."""
        if not self.size or self._torn:
            return None
        closed = self.number
        self.close()
        self.number, self.size = closed + 1, 0
        self._open()
        return closed

    def close(self) -> None:
        """Stop writing; an empty file is removed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not self.size:
                spool_file(self._folder, self.number).unlink(missing_ok=True)

    def _open(self) -> None:
        path = spool_file(self._folder, self.number)
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            self.size = os.fstat(self._fd).st_size
        except OSError as error:
            raise _unwritable(self._folder, str(error)) from error
        self._opened = time.monotonic()

    def _cut(self) -> None:
        """Take back a partial write: nobody was told that it is safe."""
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            # The torn line stays, and what follows must not be glued to it: this file is over.
            # The next process begins another.
            self._torn = True


def lock_folder(folder: Path, *, seconds: float) -> int:
    """Be the only monitor of `folder` until the process ends; returns the lock's descriptor.

    Raises:
        Conflict: another process held it for `seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError as error:
            if time.monotonic() > end:
                os.close(fd)
                raise Conflict(
                    f"another monitor writes to {folder}",
                    code="folder_taken",
                    hint="stop it first: two would count every event twice",
                ) from error
            time.sleep(0.05)


def spool_file(folder: Path, number: int) -> Path:
    """The file of that number."""
    return folder / f"{number:08d}{_SUFFIX}"


def spool_files(folder: Path) -> dict[int, Path]:
    """Every file by its number, in order."""
    found = {int(path.stem): path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit()}
    return dict(sorted(found.items()))


def whole_lines(path: Path) -> Iterator[list[bytes]]:
    """The file's lines in lists of about a mebibyte; a torn last line is left out."""
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if lines:
                yield lines


def _unwritable(folder: Path, reason: str) -> Unavailable:
    return Unavailable(
        f"the events cannot be stored in {folder}: {reason}",
        code="spool_unwritable",
        hint="free space on its disk; nothing of this request was accepted after what was counted",
    )
