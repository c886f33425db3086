"""How old the features of a view were when they were used: counts that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from proa.profile.divergence import Counts

__all__ = ["AgeCounts"]

_EDGES: Final = np.array([2.0 ** (step / 2) for step in range(54)])
"""Seconds from 1 to three years, half a power of two apart."""


def _empty() -> Counts:
    return np.zeros(len(_EDGES) + 1, dtype=np.int64)


@dataclass(slots=True)
class AgeCounts:
    """Ages of the rows of one feature view in one window.

    Attributes:
        counts: rows by age, in steps of half a power of two of seconds.
        unknown: rows without an age: nothing was found, or the age was no number.
        oldest: seconds.
    """

    counts: Counts = field(default_factory=_empty)
    unknown: int = 0
    oldest: float = 0.0

    @property
    def rows(self) -> int:
        return int(self.counts.sum()) + self.unknown

    def add(self, ages: Sequence[Any]) -> None:
        """Count ages in seconds, in place."""
        known = [age for age in ages if type(age) in (int, float) and age == age]
        self.unknown += len(ages) - len(known)
        if known:
            self.oldest = max(self.oldest, *(float(min(age, 1e18)) for age in known))
            places = np.searchsorted(_EDGES, np.array(known, dtype=float), side="right")
            self.counts += np.bincount(places, minlength=len(self.counts))

    def merge(self, other: AgeCounts) -> AgeCounts:
        """Of both together, as a new value."""
        return AgeCounts(
            self.counts + other.counts,
            self.unknown + other.unknown,
            max(self.oldest, other.oldest),
        )

    def quantile(self, share: float) -> float | None:
        """An age that at least `share` of the known ones do not exceed, 41 % too high at most."""
        total = int(self.counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return min(self.oldest, float(_EDGES[min(place, len(_EDGES) - 1)]))

    def older_than(self, seconds: float) -> float:
        """The share of rows that are surely older (or of unknown age)."""
        first = int(np.searchsorted(_EDGES, seconds, side="left")) + 1
        return (int(self.counts[first:].sum()) + self.unknown) / max(1, self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"counts": self.counts.tolist(), "unknown": self.unknown, "oldest": self.oldest}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AgeCounts:
        counts = np.array(value["counts"], dtype=np.int64)
        if len(counts) != len(_EDGES) + 1:
            raise ValueError(f"{len(counts)} counts of ages: expected {len(_EDGES) + 1}")
        return cls(counts, value["unknown"], value["oldest"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgeCounts) and self.to_json() == other.to_json()
