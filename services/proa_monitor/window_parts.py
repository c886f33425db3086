"""What judges look at in one window: features, a language model's answers, and slices of them.

Everything here merges and has versioned bytes. Slices are of columns that the project names; each
has the reference's most frequent values, and one slice for all others.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proa.errors import InvalidInput
from proa.events.event import Event
from proa.profile.bins import CategoryBins
from proa.profile.column import category_of
from proa.profile.language import LanguageState
from proa.profile.window import WindowState
from proa_monitor.references import Reference

__all__ = ["OTHER", "Parts"]

OTHER: Final = "(other)"
_COLUMNS: Final = 4
_VALUES: Final = 10
"""Values of one column with a slice of their own."""
_ASIDE: Final = 1000
"""Events that wait to be counted by slice: they are counted in large pieces, which is cheap."""


@dataclass(slots=True)
class Parts:
    """Attributes:
    counts, language: None for a release that is not watched, or not in that way.
    slices: `carrier=UA` to the state of its rows, without sketches.
    """

    counts: WindowState | None = None
    language: LanguageState | None = None
    slices: dict[str, WindowState] = field(default_factory=dict)
    _aside: list[Event] = field(default_factory=list)

    @classmethod
    def of(cls, reference: Reference) -> Parts:
        """Nothing counted yet."""
        counts = None if reference.profile is None else WindowState.of(reference.profile)
        talks = reference.profile is not None and reference.profile.kind == "llm"
        return cls(counts, LanguageState.of(reference.language) if talks else None)

    @property
    def waits(self) -> bool:
        """Whether events wait to be counted by slice."""
        return bool(self._aside)

    @property
    def marks(self) -> str:
        """Rows and bins: other marks, other figures."""
        rows = 0 if self.language is None else self.language.rows
        return (
            f"{rows}" if self.counts is None else f"{self.counts.rows}:{self.counts.digest[-12:]}"
        )

    def add(self, reference: Reference, events: list[Event], calls: list[Event]) -> None:
        """Count events of this window; `calls` are the predictions and answers among them."""
        if self.counts is not None and reference.profile is not None:
            self.counts.add(reference.profile, calls)
            if reference.slices:
                self._aside += calls
                if len(self._aside) >= _ASIDE:
                    self.settle(reference)
        if self.language is not None:
            self.language.add(events, reference.language)

    def settle(self, reference: Reference) -> None:
        """Count by slice what waits for it."""
        events, self._aside = self._aside, []
        if not events or reference.profile is None:
            return
        for column in reference.slices[:_COLUMNS]:
            own = _own_values(reference, column)
            groups: dict[str, list[Event]] = {}
            for event in events:
                _divide(event, column, own, groups)
            for value, group in groups.items():
                name = f"{column}={value}"
                state = self.slices.get(name)
                if state is None:
                    state = self.slices[name] = WindowState.of(reference.profile).thin()
                state.add(reference.profile, group)

    def thin(self) -> None:
        """Give up the sketches."""
        if self.counts is not None:
            self.counts = self.counts.thin()

    def still(self, reference: Reference, *, thin: bool) -> Parts:
        """The same as a value of its own, for another thread to read while counting goes on."""
        self.settle(reference)
        if thin:
            counts = None if self.counts is None else self.counts.thin()
        else:
            counts = Parts.of(reference).merge(Parts(self.counts)).counts
        language = None
        if self.language is not None:
            language = self.language.merge(LanguageState.of(reference.language))
        return Parts(counts, language, {n: state.thin() for n, state in self.slices.items()})

    def merge(self, other: Parts) -> Parts:
        """Both together, as a new value."""
        slices = dict(self.slices)
        for name, state in other.slices.items():
            slices[name] = slices[name].merge(state) if name in slices else state
        return Parts(
            _merged(self.counts, other.counts),
            _merged(self.language, other.language),
            slices,
            [*self._aside, *other._aside],
        )

    def to_bytes(self, reference: Reference) -> bytes:
        """For `from_bytes`."""
        self.settle(reference)
        found: dict[str, bytes] = {}
        if self.counts is not None:
            found["counts"] = self.counts.to_bytes()
        if self.language is not None:
            found["language"] = self.language.to_bytes()
        found |= {f"slice {name}": state.to_bytes() for name, state in self.slices.items()}
        head = orjson.dumps([[name, len(data)] for name, data in found.items()])
        return zlib.compress(head + b"\n" + b"".join(found.values()), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Parts:
        """Read what `to_bytes` wrote.

        Raises:
            InvalidInput: other bytes.
        """
        try:
            head, _, body = zlib.decompress(data).partition(b"\n")
            parts, start = cls(), 0
            for name, size in orjson.loads(head):
                chunk, start = body[start : start + size], start + size
                if name == "counts":
                    parts.counts = WindowState.from_bytes(chunk)
                elif name == "language":
                    parts.language = LanguageState.from_bytes(chunk)
                else:
                    parts.slices[name.removeprefix("slice ")] = WindowState.from_bytes(chunk)
        except (zlib.error, ValueError, TypeError) as error:
            raise InvalidInput(f"not the parts of a window: {error!r}") from error
        return parts


def _merged(mine: Any, theirs: Any) -> Any:
    if mine is None or theirs is None:
        return mine if theirs is None else theirs
    return mine.merge(theirs)


def _own_values(reference: Reference, column: str) -> frozenset[str]:
    """The values that have a slice of their own."""
    assert reference.profile is not None
    for feature in reference.profile.features:
        if feature.source == "inputs" and feature.column == column:
            bins = feature.bins
            if isinstance(bins, CategoryBins):
                return frozenset(bins.categories[:_VALUES])
    return frozenset()


def _divide(event: Event, column: str, own: frozenset[str], groups: dict[str, list[Event]]) -> None:
    """Put the rows of a prediction to their slices."""
    if event["type"] != "prediction" or event["status"] >= 400:
        return
    values = event["inputs"].get(column)
    if values is None:
        return
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        category = category_of(value)
        name = category if category in own else OTHER
        rows.setdefault(str(name), []).append(row)
    for name, some in rows.items():
        whole = len(some) == event["rows"]
        groups.setdefault(name, []).append(event if whole else _rows_of(event, some))


def _rows_of(event: Event, rows: Sequence[int]) -> Event:
    """Some rows of a prediction."""

    def picked(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        return {name: [values[row] for row in rows] for name, values in columns.items()}

    return {
        **event,
        "rows": len(rows),
        "inputs": picked(event["inputs"]),
        "outputs": picked(event["outputs"]),
        "features": None,
    }
