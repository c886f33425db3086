"""An append-only spool: a record is safe from the end of this process once `append` returns.

A folder of segments, `<ULID>.jsonl`, one JSON record a line. Each writer has its own segment and
holds a file lock on it while it lives, so that several processes may share a folder and a segment
whose lock is free belongs to nobody any more. A reader records how far it came in
`<ULID>.offset` after the records are stored elsewhere; whoever stores them must accept a record
twice. `write(2)` survives `kill -9`; what a power cut takes is what was not yet moved.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proa.errors import Unavailable
from proa.http.ids import new_id

__all__ = ["Moved", "Spool"]

SEGMENT_BYTES: Final = 16 << 20
_READ_BYTES: Final = 256 << 10
_SUFFIX: Final = ".jsonl"

Sink = Callable[[list[bytes]], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What one `move` did: records given to the sink, and torn ones nobody was told are safe."""

    records: int = 0
    torn: int = 0


class Spool:
    """One writer of a spool folder, and the mover of what it and dead writers left there.

    Args:
        folder: is created, for its owner only.
        segment_bytes: a new segment is begun after this many.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._limit = segment_bytes
        self._moving = threading.Lock()
        self._torn = False
        self._fd, self._segment = _new_segment(folder)
        self._size = 0

    def append(self, record: bytes) -> None:
        """Write one record with one `write(2)`. Call it from one thread.

        Args:
            record: without a line end in it.

        Raises:
            Unavailable: the disk took none of it or not all; then the record is not in the spool.
        """
        line = b"\n%b\n" % record if self._torn else record + b"\n"
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise _unwritable(self._folder, str(error)) from error
        self._size += written
        self._torn = written != len(line)
        if self._torn:
            raise _unwritable(self._folder, f"{written} of {len(line)} bytes were taken")
        if self._size >= self._limit:
            self._rotate()

    def move(self, sink: Sink) -> Moved:
        """Give the sink every record appended so far by this writer and by dead ones.

        A segment nobody writes to any more is deleted once all of it was taken. An exception of
        the sink passes through; its records come again with the next `move`. Any thread may call.
        """
        with self._moving:
            records = torn = 0
            for segment in sorted(self._folder.glob(f"*{_SUFFIX}")):
                moved = self._move_segment(segment, sink)
                records += moved.records
                torn += moved.torn
            return Moved(records, torn)

    def set_aside(self, record: bytes) -> None:
        """Keep a record that its reader cannot understand, in `rejected`, for a person."""
        with (self._folder / "rejected").open("ab") as file:
            file.write(record + b"\n")

    def backlog_bytes(self) -> int:
        """Bytes that are in the folder and not yet moved."""
        total = 0
        for segment in self._folder.glob(f"*{_SUFFIX}"):
            try:
                total += segment.stat().st_size - _read_offset(segment)
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        """Stop writing. What was not moved waits for the next process."""
        os.close(self._fd)

    def _rotate(self) -> None:
        old = self._fd
        self._fd, self._segment = _new_segment(self._folder)
        self._size, self._torn = 0, False
        os.close(old)

    def _move_segment(self, segment: Path, sink: Sink) -> Moved:
        try:
            fd = os.open(segment, os.O_RDWR)
        except FileNotFoundError:
            return Moved()
        try:
            # Asked before the lock: a segment of ours that is rotated right now is still read.
            ours = segment == self._segment
            abandoned = _try_lock(fd)
            if not abandoned and not ours:
                return Moved()
            moved, end = _take(fd, segment, sink)
            if abandoned:
                torn = int(os.fstat(fd).st_size > end)
                segment.unlink(missing_ok=True)
                _offset_file(segment).unlink(missing_ok=True)
                return Moved(moved, torn)
            return Moved(moved)
        finally:
            os.close(fd)


def _take(fd: int, segment: Path, sink: Sink) -> tuple[int, int]:
    """Hand over whole lines from the recorded offset on; returns their number and the new end."""
    offset, moved = _read_offset(segment), 0
    while chunk := _whole_lines(fd, offset):
        lines = [line for line in chunk.split(b"\n") if line]
        if lines:
            sink(lines)
        moved += len(lines)
        offset += len(chunk)
        _write_offset(segment, offset)
    return moved, offset


def _whole_lines(fd: int, offset: int) -> bytes:
    size = _READ_BYTES
    while True:
        chunk = os.pread(fd, size, offset)
        end = chunk.rfind(b"\n") + 1
        if end or len(chunk) < size:
            return chunk[:end]
        size *= 2


def _offset_file(segment: Path) -> Path:
    return segment.with_suffix(".offset")


def _read_offset(segment: Path) -> int:
    try:
        return int(_offset_file(segment).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _write_offset(segment: Path, offset: int) -> None:
    target = _offset_file(segment)
    fresh = target.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(str(offset))
    fresh.replace(target)


def _new_segment(folder: Path) -> tuple[int, Path]:
    """Create and lock a segment before it can be seen: nobody may take it for an abandoned one."""
    name = new_id()
    hidden, visible = folder / f".{name}.new", folder / f"{name}{_SUFFIX}"
    try:
        fd = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        hidden.rename(visible)
    except OSError as error:
        raise _unwritable(folder, str(error)) from error
    return fd, visible


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unwritable(folder: Path, reason: str) -> Unavailable:
    return Unavailable(
        f"the spool {folder} cannot be written: {reason}",
        code="spool_unwritable",
        hint="free space on its disk",
    )
