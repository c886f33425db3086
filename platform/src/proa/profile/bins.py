"""The bins of one feature, fixed by the reference, so that counts of any two windows add up.

Numbers fall between quantiles of the reference: an outlier moves one count, never an edge. What is
no ordinary value has a bin of its own: `below` and `above` the reference's range, `null`,
`non_finite`, `invalid` (of another type), `other` (a rare category) and `new` (one never seen).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from proa.errors import InvalidInput
from proa.profile.column import CategoryColumn, NumberColumn
from proa.profile.divergence import Counts

__all__ = ["Bins", "CategoryBins", "Codes", "NumberBins", "parse_bins"]

_MANY: Final = 4096
_FEW_EDGES: Final = 40
Codes = npt.NDArray[np.int64]
_AFTER_NUMBERS: Final = ("null", "non_finite", "invalid")
_AFTER_CATEGORIES: Final = ("other", "new", "null", "invalid")


class NumberBins:
    """Half-open cells between ascending edges; `edges[0]` is the reference's least value.

    Layout of counts: below, one per cell, above, null, non_finite, invalid.
    """

    type: Final = "number"

    def __init__(self, edges: Iterable[float]) -> None:
        self.edges = tuple(edges)
        self._edges = np.array(self.edges, dtype=np.float64)
        self._null = len(self.edges) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bins, in the layout's order; a cell is named by its edges."""
        cells = pairwise(self.edges)
        inner = tuple(f"{low:.6g}…{high:.6g}" for low, high in cells)
        ends = ("below", *inner, "above") if self.edges else ("above",)
        return (*ends, *_AFTER_NUMBERS)

    @property
    def odd(self) -> tuple[str, ...]:
        """Bins of values that are no ordinary ones."""
        return ("below", "above", *_AFTER_NUMBERS)

    @property
    def ordinary(self) -> int:
        """How many bins, from the first on, hold ordinary values."""
        return self._null

    @property
    def null(self) -> int:
        """The place of `null`; those of what is not even a value follow."""
        return self._null

    def codes(self, column: NumberColumn) -> Codes:
        """The place of each row."""
        values = column.values
        places = np.searchsorted(self._edges, values, side="right")
        finite = np.isfinite(values)
        if not finite.all():
            places[np.isnan(values)] = self._null
            places[np.isinf(values)] = self._null + 1
        if column.invalid is not None:
            places[column.invalid] = self._null + 2
        return places

    def tally(self, column: NumberColumn) -> Counts:
        """Rows per place."""
        if len(column.values) < _MANY or len(self.edges) > _FEW_EDGES:
            return np.bincount(self.codes(column), minlength=self._null + 3)
        # a comparison with each edge beats a search for each value
        values = column.values
        invalid = 0 if column.invalid is None else int(column.invalid.sum())
        nulls = int(np.count_nonzero(values != values)) - invalid
        infinite = int(np.count_nonzero(np.isinf(values)))
        least = int(np.count_nonzero(values == -np.inf))
        from_edge = [int(np.count_nonzero(values >= edge)) for edge in self.edges]
        starts = [len(values) - nulls - invalid, *from_edge, infinite - least]
        counts = [a - b for a, b in pairwise(starts)]
        counts[0] -= least
        return np.array([*counts, nulls, infinite, invalid], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "edges": list(self.edges)}


class CategoryBins:
    """One bin per frequent category, then other, new, null, invalid.

    Args:
        categories: those with a bin of their own.
        rare: the other categories of the reference; None when they were too many to keep, and
            then an unknown category counts as `other`.
    """

    type: Final = "category"

    def __init__(self, categories: Iterable[str], rare: Iterable[str] | None) -> None:
        self.categories = tuple(categories)
        self.rare = None if rare is None else tuple(rare)
        self._other = len(self.categories)
        self._index = {name: index for index, name in enumerate(self.categories)}
        self._index |= dict.fromkeys(self.rare or (), self._other)
        self._unknown = self._other + (self.rare is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bins, in the layout's order; a category of that name is quoted."""
        own = (repr(c) if c in _AFTER_CATEGORIES else c for c in self.categories)
        return (*own, *_AFTER_CATEGORIES)

    @property
    def odd(self) -> tuple[str, ...]:
        """Bins of values that are no ordinary ones."""
        return ("new", "null", "invalid")

    @property
    def ordinary(self) -> int:
        """How many bins, from the first on, hold ordinary values."""
        return self._other + 2

    @property
    def new(self) -> int:
        """The place of `new`."""
        return self._other + 1

    @property
    def null(self) -> int:
        """The place of `null`."""
        return self._other + 2

    def place(self, name: str) -> int:
        """The place of a category."""
        return self._index.get(name, self._unknown)

    def codes(self, names: Iterable[str | None]) -> Codes:
        """The place of each row, from `category_names`."""
        get, unknown = self._index.get, self._unknown
        return np.array(
            [self.null if name is None else get(name, unknown) for name in names], dtype=np.int64
        )

    def tally(self, column: CategoryColumn) -> Counts:
        """Rows per place."""
        counts = np.zeros(self._other + 4, dtype=np.int64)
        for name, count in column.names.items():
            counts[self._index.get(name, self._unknown)] += count
        counts[self.null] = column.nulls
        return counts

    def to_json(self) -> dict[str, Any]:
        rare = None if self.rare is None else list(self.rare)
        return {"type": self.type, "categories": list(self.categories), "rare": rare}


Bins = NumberBins | CategoryBins


def parse_bins(value: Mapping[str, Any], *, what: str) -> Bins:
    """Read what `to_json` wrote.

    Raises:
        InvalidInput: another form; `what` names the feature.
    """
    try:
        if value["type"] == NumberBins.type:
            edges = [float(edge) for edge in value["edges"]]
            if edges != sorted(set(edges)):
                raise InvalidInput(f"{what}: edges must ascend")
            return NumberBins(edges)
        if value["type"] == CategoryBins.type:
            return CategoryBins(value["categories"], value["rare"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{what}: not the bins of a feature: {error!r}") from error
    raise InvalidInput(f"{what}: type = {value['type']!r}: expected number or category")
