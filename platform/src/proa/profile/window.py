"""What one release met in one window, in the bins of its reference, and what it needs beside.

Windows, shards and batches add up: `merge` is associative and commutative, so order, lateness and
the number of collectors do not matter. Bounded: nothing here grows with traffic, or with how many
different values came.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from proa.errors import Conflict, InvalidInput
from proa.profile.ages import AgeCounts
from proa.profile.bins import NumberBins
from proa.profile.column import category_column, number_column
from proa.profile.divergence import Counts
from proa.profile.feature_state import FeatureState, Moments, keep_some
from proa.profile.observed import answer_values
from proa.profile.reference import Profile, WatchedFeature

__all__ = ["WindowState"]

_MAGIC: Final = b"proa-window-2\n"
_PENDING: Final = 512
"""Rows that wait to be counted at once: numpy is quick by the hundred, not by the row."""
_VIEWS: Final = 64
"""Feature views whose ages are kept."""
Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


class WindowState:
    """Counts, moments and sketches per feature.

    Attributes:
        digest: the profile's digest, which names the bins.
        rows: rows added.
        ages: feature view to the ages of its rows.
        unknown: some of the columns that the profile does not know, with the rows they came in.
    """

    def __init__(self, digest: str, sizes: Mapping[str, int]) -> None:
        self.digest = digest
        self.rows = 0
        self.ages: dict[str, AgeCounts] = {}
        self.unknown: dict[str, int] = {}
        self._sizes = dict(sizes)
        ends = accumulate(sizes.values(), initial=0)
        self._starts = dict(zip(sizes, ends, strict=False))
        self._flat: Counts = np.zeros(sum(sizes.values()), dtype=np.int64)
        self._features = {name: FeatureState() for name in sizes}
        self._sketches = True
        self._profile: Profile | None = None
        self._pending: dict[str, list[Any]] = {}
        self._pending_rows = 0

    @classmethod
    def of(cls, profile: Profile) -> WindowState:
        """Nothing added yet, in the bins of `profile`."""
        return cls(profile.digest, {f.name: len(f.counts) for f in profile.features})

    def add(self, profile: Profile, events: Sequence[Mapping[str, Any]]) -> None:
        """Add checked events of one kind, in place; failed calls have no rows.

        Args:
            profile: the one this window was made `of`.
            events: predictions for a classic profile, answers for a language one.
        """
        answered = [event for event in events if event["status"] < 400]
        if not answered:
            return
        self._profile = profile
        if profile.kind == "llm":
            rows = len(answered)
            self._wait_answers(profile, answered)
        else:
            rows = sum(map(itemgetter("rows"), answered))
            self._wait_predictions(profile, answered)
        self.rows += rows
        self._pending_rows += rows
        if self._pending_rows >= _PENDING:
            self.flush()

    def add_columns(self, profile: Profile, columns: Columns) -> None:
        """Add a table at once, in place.

        Args:
            columns: name of a feature to its values, equally many.
        """
        self.flush()
        self._profile = profile
        for feature in profile.features:
            self._count(feature, columns[feature.name])
        self.rows += max((len(columns[f.name]) for f in profile.features), default=0)

    def flush(self) -> None:
        """Count what waits; done by itself whenever the window is read."""
        if not self._pending_rows:
            return
        pending, self._pending, self._pending_rows = self._pending, {}, 0
        assert self._profile is not None
        for feature in self._profile.features:
            self._count(feature, pending[feature.name])

    @property
    def flat(self) -> Counts:
        """Counts of all bins of all features, one after the other, in the profile's order."""
        self.flush()
        return self._flat

    @property
    def counts(self) -> dict[str, list[int]]:
        """Feature to its counts, in the layout of its bins."""
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        parts = np.split(self.flat, ends)
        return {name: part.tolist() for name, part in zip(self._sizes, parts, strict=True)}

    @property
    def features(self) -> Mapping[str, FeatureState]:
        """What is kept of each feature beside its counts; not to be changed."""
        self.flush()
        return self._features

    def moments(self, name: str) -> Moments | None:
        """Of a feature's finite numbers; None when there were none."""
        moments = self.features[name].moments
        return moments if moments.count else None

    def quantiles(self, name: str, shares: Sequence[float]) -> list[float] | None:
        """Of a feature's finite numbers; None when there were none, or in a thinned window."""
        numbers = self.features[name].numbers
        if numbers is None or numbers.is_empty():
            return None
        return [float(value) for value in numbers.get_quantiles(list(shares))]

    def merge(self, other: WindowState) -> WindowState:
        """Both together, as a new value.

        Raises:
            Conflict: their bins differ.
        """
        if other.digest != self.digest:
            raise Conflict("windows counted in different bins cannot be merged")
        merged = WindowState(self.digest, self._sizes)
        merged.rows = self.rows + other.rows
        merged._flat = self.flat + other.flat
        merged._sketches = sketch = self._sketches and other._sketches
        merged._features = {
            name: state.merge(other._features[name], sketch=sketch)
            for name, state in self._features.items()
        }
        merged.unknown = keep_some(self.unknown, other.unknown)
        views = sorted({*self.ages, *other.ages})[:_VIEWS]
        nothing = AgeCounts()
        merged.ages = {
            view: self.ages.get(view, nothing).merge(other.ages.get(view, nothing))
            for view in views
        }
        return merged

    def thin(self) -> WindowState:
        """The same without sketches, as a new value; what it is merged with loses its own."""
        thinned = WindowState(self.digest, self._sizes)
        thinned._sketches = False
        return self.merge(thinned)

    def to_bytes(self) -> bytes:
        """Everything, in a versioned form."""
        value = {
            "digest": self.digest,
            "rows": self.rows,
            "sketches": self._sketches,
            "sizes": self._sizes,
            "flat": self.flat.tolist(),
            "features": {name: state.to_json() for name, state in self._features.items()},
            "ages": {view: ages.to_json() for view, ages in self.ages.items()},
            "unknown": self.unknown,
        }
        return _MAGIC + zlib.compress(orjson.dumps(value), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> WindowState:
        """Read what `to_bytes` wrote.

        Raises:
            InvalidInput: another version, or no window at all.
        """
        if not data.startswith(_MAGIC):
            raise InvalidInput(
                f"a window's state begins with {bytes(data[:14])!r}: expected {_MAGIC!r}"
            )
        try:
            value = orjson.loads(zlib.decompress(data[len(_MAGIC) :]))
            state = cls(value["digest"], value["sizes"])
            flat = np.array(value["flat"], dtype=np.int64)
            if flat.shape != state._flat.shape:
                raise ValueError(f"{len(flat)} counts: expected {len(state._flat)}")
            state._flat = flat
            state.rows, state._sketches = value["rows"], value["sketches"]
            state._features = {
                name: FeatureState.from_json(value["features"][name]) for name in state._sizes
            }
            state.ages = {view: AgeCounts.from_json(ages) for view, ages in value["ages"].items()}
            state.unknown = dict(value["unknown"])
        except (zlib.error, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"a window's state cannot be read: {error!r:.200}") from error
        return state

    def __eq__(self, other: object) -> bool:
        """Whether all that is exact is equal; sketches and rounding aside."""
        return isinstance(other, WindowState) and self._exact() == other._exact()

    __hash__ = None  # type: ignore[assignment]

    def _exact(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "rows": self.rows,
            "flat": self.flat.tolist(),
            "features": {
                name: (f.missing, f.kinds, f.fresh, f.moments.count, f.moments.least,
                       f.moments.most)
                for name, f in self._features.items()
            },
            "ages": self.ages,
            "unknown": self.unknown,
        }  # fmt: skip

    def _wait_predictions(self, profile: Profile, events: Sequence[Mapping[str, Any]]) -> None:
        tables = {source: list(map(itemgetter(source), events)) for source in ("inputs", "outputs")}
        for feature in profile.features:
            source = tables[feature.source]
            try:
                columns = list(map(itemgetter(feature.column), source))
            except KeyError:
                columns = self._holed(feature, source, events)
            self._waiting(feature).extend(chain.from_iterable(columns))
        unknown = set(chain.from_iterable(tables["inputs"])) - profile.inputs
        if unknown:
            self._add_unknown(unknown, events)
        for event in events:
            if event.get("features"):
                self._add_ages(event["features"])

    def _holed(
        self,
        feature: WatchedFeature,
        source: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
    ) -> list[Any]:
        """The column of each event; nulls, counted as missing, for one that lacks it."""
        columns = []
        for table, event in zip(source, events, strict=True):
            values = table.get(feature.column)
            if values is None:
                values = [None] * event["rows"]
                self._features[feature.name].missing += event["rows"]
            columns.append(values)
        return columns

    def _wait_answers(self, profile: Profile, events: Sequence[Mapping[str, Any]]) -> None:
        values = [answer_values(event) for event in events]
        for feature in profile.features:
            self._waiting(feature).extend([row.get(feature.column) for row in values])

    def _waiting(self, feature: WatchedFeature) -> list[Any]:
        return self._pending.setdefault(feature.name, [])

    def _add_unknown(self, names: Iterable[str], events: Sequence[Mapping[str, Any]]) -> None:
        some = keep_some(dict.fromkeys(names, 0))
        found = {
            name: sum(event["rows"] for event in events if name in event["inputs"]) for name in some
        }
        self.unknown = keep_some(self.unknown, found)

    def _add_ages(self, views: Mapping[str, Any]) -> None:
        for view, facts in views.items():
            ages = facts.get("age_seconds") if isinstance(facts, Mapping) else None
            if not isinstance(ages, list):
                continue
            if view not in self.ages and len(self.ages) >= _VIEWS:
                continue
            self.ages.setdefault(view, AgeCounts()).add(ages)

    def _count(self, feature: WatchedFeature, values: Sequence[Any] | npt.NDArray[Any]) -> None:
        if not len(values):
            return
        state, bins = self._features[feature.name], feature.bins
        kinds: Sequence[int]
        if isinstance(bins, NumberBins):
            numbers = number_column(values)
            counts = bins.tally(numbers)
            finite = numbers.values[np.isfinite(numbers.values)]
            state.add_numbers(finite, sketch=self._sketches)
            kinds = numbers.kinds
        else:
            categories = category_column(values)
            counts = bins.tally(categories)
            state.add_categories(categories.names, sketch=self._sketches)
            kinds = categories.kinds
            if counts[bins.new]:
                fresh = {n: k for n, k in categories.names.items() if bins.place(n) == bins.new}
                state.fresh = keep_some(state.fresh, fresh)
        start = self._starts[feature.name]
        self._flat[start : start + len(counts)] += counts
        state.kinds = [a + b for a, b in zip(state.kinds, kinds, strict=True)]
