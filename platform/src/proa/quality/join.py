"""Which answered row a label is the truth of.

By request: the row of that call; of a call of several rows the one with the label's entity.
By entity: the latest call for that entity that is not younger than the label.
A label that could mean several rows is nobody's. A later label of a row replaces an earlier one.

This is the rule in the plain. The monitor's tables carry it out in SQL, row for row the same
(a property test holds the two together).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["AnsweredCall", "Calls", "Label", "Place"]


class Place(NamedTuple):
    """A row of a call; `call` is its event's id."""

    call: str
    row: int


@dataclass(frozen=True, slots=True)
class AnsweredCall:
    """One prediction: `entities` holds one text or None per row, times are RFC 3339 as stored."""

    id: str
    request: str
    time: str
    entities: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """What came true, for a request or for an entity."""

    id: str
    request: str | None
    entity: str | None
    time: str
    value: Any


class Calls:
    """Calls of one model, by request and by entity."""

    def __init__(self, calls: Iterable[AnsweredCall]) -> None:
        self._by_request: dict[str, list[AnsweredCall]] = defaultdict(list)
        self._by_entity: dict[str, list[tuple[str, str, int, str]]] = defaultdict(list)
        for call in calls:
            self._by_request[call.request].append(call)
            for row, entity in enumerate(call.entities):
                if entity is not None:
                    self._by_entity[entity].append((call.time, call.request, row, call.id))

    def place(self, label: Label) -> Place | None:
        """The row that a label is the truth of, None when there is none, or not one alone."""
        if label.request is not None:
            known = self._by_request.get(label.request, ())
            found = [
                (call.time, call.id, -row)
                for call in known
                for row, entity in enumerate(call.entities)
                if len(call.entities) == 1 or (entity is not None and entity == label.entity)
            ]
            if not found:
                return None
            _, name, row = max(found)
            return Place(name, -row)
        before = [c for c in self._by_entity.get(label.entity or "", ()) if c[0] <= label.time]
        if not before:
            return None
        _, _, row, name = max(before)
        return Place(name, row)

    def truths(self, labels: Iterable[Label]) -> tuple[dict[Place, Label], int]:
        """The label that counts of each row, and how many labels are nobody's."""
        found: dict[Place, Label] = {}
        unmatched = 0
        for label in sorted(labels, key=lambda one: (one.time, one.id)):
            place = self.place(label)
            if place is None:
                unmatched += 1
            else:
                found[place] = label
        return found, unmatched
