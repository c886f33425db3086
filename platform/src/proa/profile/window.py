"""Counts of what one release met in one window, in the bins of its reference.

Counts of two windows, shards or batches add up: `merge` is associative and commutative, so order,
lateness and the number of collectors do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proa.errors import Conflict, InvalidInput
from proa.profile.observed import answer_values
from proa.profile.reference import Profile, WatchedFeature

__all__ = ["WindowCounts"]

SCHEMA_VERSION = 1


@dataclass(slots=True)
class WindowCounts:
    """Counts per feature.

    Attributes:
        digest: the profile's digest, which names the bins.
        rows: rows counted.
        features: feature to its counts, in the layout of its bins.
    """

    digest: str
    rows: int = 0
    features: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, profile: Profile) -> WindowCounts:
        """Nothing counted yet, in the bins of `profile`."""
        return cls(profile.digest, 0, {f.name: [0] * len(f.counts) for f in profile.features})

    def add(self, profile: Profile, events: Sequence[Mapping[str, Any]]) -> None:
        """Count checked events of one kind, in place; failed calls have no rows.

        Args:
            profile: the one this window was made `of`.
            events: predictions for a classic profile, answers for a language one.
        """
        answered = [event for event in events if event["status"] < 400]
        if profile.kind == "llm":
            self._add_answers(profile, answered)
        else:
            for feature in profile.features:
                feature.bins.count(_column(feature, answered), self.features[feature.name])
            self.rows += sum(event["rows"] for event in answered)

    def _add_answers(self, profile: Profile, events: Sequence[Mapping[str, Any]]) -> None:
        values = [answer_values(event) for event in events]
        for feature in profile.features:
            column = [row.get(feature.column) for row in values]
            feature.bins.count(column, self.features[feature.name])
        self.rows += len(values)

    def merge(self, other: WindowCounts) -> WindowCounts:
        """The counts of both together, as a new value.

        Raises:
            Conflict: their bins differ.
        """
        if other.digest != self.digest:
            raise Conflict("windows counted in different bins cannot be merged")
        features = {
            name: [a + b for a, b in zip(counts, other.features[name], strict=True)]
            for name, counts in self.features.items()
        }
        return WindowCounts(self.digest, self.rows + other.rows, features)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "digest": self.digest,
            "rows": self.rows,
            "features": self.features,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WindowCounts:
        """Read what `to_json` wrote.

        Raises:
            InvalidInput: another version.
        """
        if value["schema_version"] != SCHEMA_VERSION:
            raise InvalidInput(
                f"window counts of version {value['schema_version']!r}: expected {SCHEMA_VERSION}"
            )
        features = {name: list(counts) for name, counts in value["features"].items()}
        return cls(value["digest"], value["rows"], features)


def _column(feature: WatchedFeature, events: Sequence[Mapping[str, Any]]) -> list[Any]:
    source, column = feature.source, feature.column
    values: list[Any] = []
    for event in events:
        rows = event[source].get(column)
        values += [None] * event["rows"] if rows is None else rows
    return values
