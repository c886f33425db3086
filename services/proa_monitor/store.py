"""Events on disk: the open spool file, closed ones, and segments; each event in one place, once.

events/.lock  events/spool/00000008.jsonl (open)  00000007.jsonl 00000007.ids (closed)
events/segments/date=…/00000006/  events/state.json
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from proa.events.event import Event
from proa_monitor.known import KnownIds, write_ids
from proa_monitor.segments import IDS, META, parse_line, segment_folders
from proa_monitor.spool import EventSpool, lock_folder, spool_file, spool_files, whole_lines

__all__ = ["EventStore"]

_LOCK_SECONDS: Final = 30.0
_CHUNK: Final = 500
_FOLDERS: Final = 1000
"""Segments given to one child: a command line has an end."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_log = logging.getLogger(__name__)


class EventStore:
    """The folder of one monitor, locked while this process lives.

    Args:
        root: the folder `events`.
        file_bytes, file_seconds: a spool file is closed when it is this large or old.
        above: new files get numbers above this one: of files that were counted and are gone.

    Attributes:
        writable: whether the disk took the newest events.
    """

    def __init__(self, root: Path, *, file_bytes: int, file_seconds: float, above: int = 0) -> None:
        self._lock = lock_folder(root, seconds=_LOCK_SECONDS)
        self.root, self.segments, self._spools = root, root / "segments", root / "spool"
        self._file_bytes, self._file_seconds = file_bytes, file_seconds
        self.known = KnownIds()
        self.compaction_failures = 0
        self.compacted_at: float | None = None
        self.writable = True
        self._segments = segment_folders(self.segments)
        self._closed = self._recover()
        last = max([above, *self._segments, *self._closed])
        self._spool = EventSpool(self._spools, last + 1)
        self._more = asyncio.Event()
        self._on_close: Callable[[int], None] = lambda _: None

    def on_close(self, call: Callable[[int], None]) -> None:
        """Call `call(number)` after each closed file, before anything else is stored."""
        self._on_close = call

    @property
    def open_bytes(self) -> int:
        """Bytes in the open spool file."""
        return self._spool.size

    @property
    def waiting(self) -> int:
        """Closed spool files that are not yet segments."""
        return len(self._closed)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def numbers(self) -> list[int]:
        """Numbers of every closed file, in order."""
        return sorted({*self._segments, *self._closed})

    @property
    def due(self) -> bool:
        """Whether the open file should be closed."""
        spool = self._spool
        old = spool.size > 0 and spool.age > self._file_seconds
        return spool.size >= self._file_bytes or old

    def append(self, data: bytes, ids: Iterable[str]) -> None:
        """Store whole lines; they survive the end of this process once this returns.

        Raises:
            Unavailable: the disk refused; nothing of `data` is stored.
        """
        self.writable = False
        self._spool.append(data)
        self.writable = True
        self.known.add(ids)

    def close_file(self) -> int | None:
        """Close the open file, for compaction; returns its number, None when it was empty."""
        number = self._spool.next()
        if number is not None:
            self.known.close(number, self._ids_path(number))
            self._closed.append(number)
            self._on_close(number)
            self._more.set()
        return number

    def events_of(
        self, numbers: Iterable[int], *, model: str | None = None
    ) -> Iterator[list[Event]]:
        """The events of closed files in lists, in no order."""
        folders = []
        for number in numbers:
            if number not in self._segments:
                try:
                    yield from _parsed(whole_lines(spool_file(self._spools, number)), model)
                    continue
                except FileNotFoundError:  # it became a segment in this moment
                    pass
            folders.append(self._segments[number])
        yield from _parsed(_child_lines(folders, None, model), model)

    def newest(self, model: str) -> Iterator[list[Event]]:
        """Events of a model in lists, those of the open file first, then file by file back."""
        open_file = self._spool.number
        yield from _parsed(whole_lines(spool_file(self._spools, open_file)), model)
        for number in reversed(self.numbers):
            if number != open_file:
                yield from self.events_of([number], model=model)

    def since(self, since: str, *, model: str) -> Iterator[Event]:
        """Whole events of a model ingested at `since` or later, those of the open file included."""
        chunks = [_parsed(_child_lines(self._segments_since(since, model), None, model), model)]
        spooled = sorted({*self._closed, self._spool.number} - {*self._segments})
        chunks += [_parsed(whole_lines(spool_file(self._spools, n)), model) for n in spooled]
        for events in itertools.chain.from_iterable(chunks):
            yield from (event for event in events if event["ingested"] >= since)

    def select(self, columns: str, *, since: str, model: str | None) -> Iterator[dict[str, Any]]:
        """Some common columns of every event ingested at `since` or later.

        Args:
            columns: names separated by commas; `ingested` among them.
            since: RFC 3339, as stored.
        """
        names = columns.split(",")
        yield from self._select_segments(self._segments_since(since, model), columns, since, model)
        for number in sorted({*self._closed, self._spool.number} - {*self._segments}):
            try:
                yield from self._select_spool(number, names, since, model)
            except FileNotFoundError:  # it became a segment in this moment
                yield from self._select_segments([self._segments[number]], columns, since, model)

    def _select_spool(
        self, number: int, names: list[str], since: str, model: str | None
    ) -> Iterator[dict[str, Any]]:
        for lines in whole_lines(spool_file(self._spools, number)):
            for line in lines:
                event = parse_line(line)
                if event is None or event["ingested"] < since:
                    continue
                if model is None or event["model"] == model:
                    yield {name: event[name] for name in names}

    def _select_segments(
        self, folders: list[Path], columns: str, since: str, model: str | None
    ) -> Iterator[dict[str, Any]]:
        for lines in _child_lines(folders, columns, model):
            for line in lines:
                row = orjson.loads(line)
                if row["ingested"] >= since:
                    yield row

    def _segments_since(self, since: str, model: str | None) -> list[Path]:
        wanted = []
        for folder in list(self._segments.values()):
            meta = orjson.loads((folder / META).read_bytes())
            if not meta["rows"] or meta["ingested"][1] < since:
                continue
            if model is None or model in meta["models"]:
                wanted.append(folder)
        return wanted

    async def compact(self) -> None:
        """Turn closed files into segments, for ever; a failure is logged and tried again."""
        pause = _FIRST_PAUSE
        while True:
            self._more.clear()
            if not self._closed:
                await self._more.wait()
                continue
            if await self._compact_one(self._closed[0]):
                pause = _FIRST_PAUSE
            else:
                self.compaction_failures += 1
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _compact_one(self, number: int) -> bool:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "proa_monitor.segments", "write"),
            *(str(spool_file(self._spools, number)), str(self.segments)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, errors = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            _log.error(
                "compaction of %d failed: %s", number, errors.decode(errors="replace")[-500:]
            )
            return False
        self._adopt(number, Path(out.decode().strip()))
        self.compacted_at = time.time()
        return True

    def _adopt(self, number: int, folder: Path) -> None:
        """The segment is there: forget the spool file."""
        self._segments[number] = folder
        self.known.attach(number, folder / IDS)
        if number in self._closed:
            self._closed.remove(number)
        spool_file(self._spools, number).unlink(missing_ok=True)
        self._ids_path(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop writing and let another monitor have the folder."""
        self._spool.close()
        os.close(self._lock)

    def _recover(self) -> list[int]:
        """Finish what a killed process left; returns the numbers still to be compacted."""
        self._spools.mkdir(mode=0o700, exist_ok=True)
        self.segments.mkdir(mode=0o700, exist_ok=True)
        for staging in self.segments.glob(".incoming-*"):
            shutil.rmtree(staging, ignore_errors=True)
        closed = []
        for number, path in spool_files(self._spools).items():
            if number in self._segments:
                path.unlink()
                self._ids_path(number).unlink(missing_ok=True)
            elif not path.stat().st_size:
                path.unlink()
            else:
                write_ids(self._ids_path(number), _ids_in(path))
                self.known.attach(number, self._ids_path(number))
                closed.append(number)
        for number, folder in self._segments.items():
            self.known.attach(number, folder / IDS)
        return closed

    def _ids_path(self, number: int) -> Path:
        return self._spools / f"{number:08d}.ids"


def _ids_in(path: Path) -> set[str]:
    events = (parse_line(line) for lines in whole_lines(path) for line in lines)
    return {event["id"] for event in events if event is not None}


def _parsed(lines: Iterable[list[bytes]], model: str | None) -> Iterator[list[Event]]:
    for chunk in lines:
        for start in range(0, len(chunk), _CHUNK):
            events = map(parse_line, chunk[start : start + _CHUNK])
            yield [e for e in events if e and (model is None or e["model"] == model)]


def _child_lines(
    folders: Sequence[Path], columns: str | None, model: str | None
) -> Iterator[list[bytes]]:
    """Segments read by a child process, in lists of lines."""
    more = ["--columns", columns] if columns else []
    more += ["--model", model] if model else []
    for start in range(0, len(folders), _FOLDERS):
        some = [str(folder) for folder in folders[start : start + _FOLDERS]]
        command = [sys.executable, "-m", "proa_monitor.segments", "read", *some, *more]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            rest = b""
            while chunk := process.stdout.read(1 << 20):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                yield lines
        if process.returncode:
            raise OSError(f"segments cannot be read: exit code {process.returncode}: {some[:3]}")
