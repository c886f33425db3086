"""Truths are taken beside the ingest path: everything, whatever fails and however much waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from proa.errors import Unavailable
from proa.events.event import Event, label_event
from proa_monitor import takers as takers_module
from proa_monitor.takers import Takers


class Files:
    """Closed files, and what was stored since."""

    def __init__(self) -> None:
        self.files: dict[int, list[Event]] = {}
        self.fresh: list[Event] = []
        self.takers: Takers | None = None

    @property
    def numbers(self) -> list[int]:
        return sorted(self.files)

    def store(self, events: list[Event]) -> None:
        self.fresh += events
        if self.takers is not None:
            self.takers.offer(events)

    def close_file(self) -> None:
        if self.fresh:
            number = len(self.files) + 1
            self.files[number], self.fresh = self.fresh, []
            if self.takers is not None:
                self.takers.closed(number)

    def events_of(self, numbers: Iterable[int]) -> Iterator[list[Event]]:
        yield from (self.files[number] for number in numbers)


class Table:
    """Takes events once by id; may be away."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.through, self.away = 0, False

    def take(self, events: Iterable[Event]) -> None:
        if self.away:
            raise Unavailable("away")
        self.ids |= {event["id"] for event in events}

    def mark_through(self, number: int) -> None:
        self.through = number

    def taken_through(self) -> int:
        return self.through


def labels(count: int) -> list[Event]:
    return [label_event(model="m", kind="classic", entity="e", value=True) for _ in range(count)]


def start(files: Files, table: Table) -> Takers:
    files.takers = Takers(files, [table], table)  # type: ignore[arg-type]
    return files.takers


def test_files_from_before_and_what_comes_later_are_taken() -> None:
    files, table = Files(), Table()
    sent = labels(5)
    files.store(sent[:3])
    files.close_file()
    takers = start(files, table)
    asyncio.run(takers.settle())
    files.store(sent[3:])
    assert len(table.ids) == 3
    asyncio.run(takers.settle())
    assert table.ids == {event["id"] for event in sent}
    assert table.through == 1  # the newest are in no closed file yet
    files.close_file()
    asyncio.run(takers.settle())
    assert table.through == 2
    assert takers.truths["m"] == 5


def test_a_database_that_is_away_loses_nothing() -> None:
    files, table = Files(), Table()
    takers = start(files, table)
    asyncio.run(takers.settle())
    table.away = True
    files.store(labels(4))
    with pytest.raises(Unavailable):
        asyncio.run(takers.settle())
    files.close_file()
    files.store(labels(2))
    table.away = False
    asyncio.run(takers.settle())
    assert len(table.ids) == 6


def test_what_is_too_much_to_hold_is_read_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takers_module, "WAITING", 10)
    files, table = Files(), Table()
    takers = start(files, table)
    asyncio.run(takers.settle())
    table.away = True
    for _ in range(6):
        files.store(labels(4))
    waiting: Any = takers._waiting
    assert len(waiting) <= 10
    with pytest.raises(Unavailable):
        asyncio.run(takers.settle())
    table.away = False
    asyncio.run(takers.settle())
    files.store(labels(1))
    asyncio.run(takers.settle())
    assert len(table.ids) == 25
