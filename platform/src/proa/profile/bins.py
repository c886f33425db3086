"""The bins of one feature, fixed by the reference, so that counts of any two windows add up.

Numbers fall between quantiles of the reference: an outlier moves one count, never an edge. What is
no ordinary value has a bin of its own: `below` and `above` the reference's range, `null`,
`non_finite`, `invalid` (of another type), `other` (a rare category) and `new` (one never seen).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from proa.errors import InvalidInput

__all__ = ["Bins", "CategoryBins", "NumberBins", "category_of", "parse_bins"]

_CATEGORY_CHARACTERS: Final = 64
_AFTER_NUMBERS: Final = ("null", "non_finite", "invalid")
_AFTER_CATEGORIES: Final = ("other", "new", "null", "invalid")


class NumberBins:
    """Half-open cells between ascending edges; `edges[0]` is the reference's least value.

    Layout of counts: below, one per cell, above, null, non_finite, invalid.
    """

    type: Final = "number"

    def __init__(self, edges: Iterable[float]) -> None:
        self.edges = tuple(edges)
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

    def count(self, values: Iterable[Any], counts: list[int]) -> None:
        """Add `values` to `counts`, in place."""
        edges, null = self.edges, self._null
        for value in values:
            if type(value) is float or type(value) is int:
                if value - value == 0:
                    counts[bisect_right(edges, value)] += 1
                elif value != value:
                    counts[null] += 1
                else:
                    counts[null + 1] += 1
            elif value is None:
                counts[null] += 1
            else:
                counts[null + 2] += 1

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

    def count(self, values: Iterable[Any], counts: list[int]) -> None:
        """Add `values` to `counts`, in place."""
        index, unknown, null = self._index, self._unknown, self._other + 2
        for value in values:
            if type(value) is not str:
                value = category_of(value)
                if value is None:
                    counts[null] += 1
                    continue
            place = index.get(value)
            if place is None and len(value) > _CATEGORY_CHARACTERS:
                place = index.get(value[:_CATEGORY_CHARACTERS])
            counts[unknown if place is None else place] += 1

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


def category_of(value: Any) -> str | None:
    """The category of a JSON scalar; None for null and NaN."""
    if value is None or value != value:
        return None
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)[:_CATEGORY_CHARACTERS]
