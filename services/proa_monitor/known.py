"""Which event ids are stored already: those of the open file in memory, the others on disk.

Beside every closed file lie its ids, sorted, 26 bytes each. ULIDs begin with their time, so a new
id lies beyond nearly every file's range and costs two comparisons per file at most.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["IdFile", "KnownIds", "write_ids"]

_WIDTH: Final = 26
_OPEN_FILES: Final = 32


class IdFile:
    """Sorted ids in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = path.stat().st_size // _WIDTH
        with path.open("rb") as file:
            self.first = file.read(_WIDTH)
            file.seek(max(0, self.count - 1) * _WIDTH)
            self.last = file.read(_WIDTH)


class _Rows:
    """A file of ids as a sequence, for `bisect`."""

    def __init__(self, file: IdFile) -> None:
        with file.path.open("rb") as source:
            self._map = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        self._count = file.count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> bytes:
        return self._map[row * _WIDTH : (row + 1) * _WIDTH]


class KnownIds:
    """Every id stored so far."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._files: dict[int, IdFile] = {}
        self._ordered: list[IdFile] = []
        self._rows: OrderedDict[Path, _Rows] = OrderedDict()

    def __contains__(self, event_id: object) -> bool:
        if event_id in self._open:
            return True
        wanted = str(event_id).encode("ascii")
        return any(
            file.first <= wanted <= file.last and self._found(file, wanted)
            for file in self._ordered
        )

    def add(self, ids: Iterable[str]) -> None:
        """Ids of the open file."""
        self._open.update(ids)

    def close(self, number: int, path: Path) -> None:
        """The open file `number` is closed: put its ids on disk."""
        write_ids(path, self._open)
        self._open = set()
        self.attach(number, path)

    def attach(self, number: int, path: Path) -> None:
        """Ids of file `number` lie at `path`, now or from now on."""
        old = self._files.get(number)
        if old is not None:
            self._rows.pop(old.path, None)
        file = IdFile(path)
        if file.count:
            self._files[number] = file
            # The newest first: a repeated event is nearly always a recent one.
            self._ordered = [self._files[n] for n in sorted(self._files, reverse=True)]

    def _found(self, file: IdFile, wanted: bytes) -> bool:
        rows = self._rows.get(file.path)
        if rows is None:
            rows = self._rows[file.path] = _Rows(file)
            if len(self._rows) > _OPEN_FILES:
                self._rows.popitem(last=False)
        else:
            self._rows.move_to_end(file.path)
        place = bisect_left(rows, wanted)
        return place < len(rows) and rows[place] == wanted


def write_ids(path: Path, ids: Iterable[str]) -> None:
    """Write ids sorted, under a temporary name first."""
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes("".join(sorted(ids)).encode("ascii"))
    fresh.replace(path)
