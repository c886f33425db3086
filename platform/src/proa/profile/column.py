"""The values of one feature in a batch, whatever types they came in, ready to be counted.

JSON knows few types, so they are told apart here: null and NaN are no value, a boolean is no
number, and what is neither (a list) is `other`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from proa.profile.divergence import Floats

__all__ = [
    "KINDS",
    "CategoryColumn",
    "NumberColumn",
    "category_column",
    "category_names",
    "category_of",
    "number_column",
]

KINDS: Final = ("boolean", "number", "string", "other")
"""JSON types that are told apart; null is none of them."""
CATEGORY_CHARACTERS: Final = 64
_NONE: Final = type(None)
_LARGEST: Final = sys.float_info.max
_KIND_OF: Final[dict[type, int]] = {bool: 0, int: 1, float: 1, str: 2}


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """Values of a number.

    Attributes:
        values: one per row; NaN for null and for what is no number.
        invalid: rows that are no number; None when there are none.
        kinds: rows by `KINDS`, nulls aside.
    """

    values: Floats
    invalid: npt.NDArray[np.bool_] | None
    kinds: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """Values of a category: how often each came."""

    names: Counter[str]
    nulls: int
    kinds: tuple[int, int, int, int]


def number_column(values: Sequence[Any] | npt.NDArray[Any]) -> NumberColumn:
    """Read a column of numbers; nothing is refused."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        numbers = values.astype(np.float64, copy=False)
        return NumberColumn(numbers, None, (0, len(numbers) - _nans(numbers), 0, 0))
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if {float, int, _NONE}.issuperset(map(type, listed)):
        try:
            numbers = np.array(listed, dtype=np.float64)
            return NumberColumn(numbers, None, (0, len(numbers) - _nans(numbers), 0, 0))
        except OverflowError:  # whole numbers beyond every float
            pass
    kinds = [0, 0, 0, 0]
    rows: list[float | None] = []
    invalid = np.zeros(len(listed), dtype=bool)
    for row, value in enumerate(listed):
        if type(value) is int or type(value) is float:
            rows.append(max(-_LARGEST, min(_LARGEST, value)) if type(value) is int else value)
            kinds[1] += value == value
        else:
            rows.append(None)
            if value is not None:
                invalid[row] = True
                kinds[_KIND_OF.get(type(value), 3)] += 1
    return NumberColumn(np.array(rows, dtype=np.float64), invalid, _four(kinds))


def category_column(values: Sequence[Any] | npt.NDArray[Any]) -> CategoryColumn:
    """Count the categories of a column; texts are cut at 64 characters."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    types = set(map(type, listed))
    if types <= {str, _NONE}:
        names: Counter[Any] = Counter(listed)
        nulls = names.pop(None, 0)
        if any(len(name) > CATEGORY_CHARACTERS for name in names):
            cut: Counter[str] = Counter()
            for name, count in names.items():
                cut[name[:CATEGORY_CHARACTERS]] += count
            names = cut
        return CategoryColumn(names, nulls, (0, 0, len(listed) - nulls, 0))
    kinds = [0, 0, 0, 0]
    for value in listed:
        if value is not None and value == value:
            kinds[_KIND_OF.get(type(value), 3)] += 1
    names = Counter(map(category_of, listed))
    return CategoryColumn(names, names.pop(None, 0), _four(kinds))


def category_names(values: Sequence[Any] | npt.NDArray[Any]) -> list[str | None]:
    """The category of each row; None for null and NaN."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if {str, _NONE}.issuperset(map(type, listed)):
        longest = max(map(len, {name for name in listed if name is not None}), default=0)
        if longest <= CATEGORY_CHARACTERS:
            return list(listed)
    return [category_of(value) for value in listed]


def category_of(value: Any) -> str | None:
    """The category of a JSON scalar; None for null and NaN."""
    if type(value) is str:
        return value[:CATEGORY_CHARACTERS]
    if value is None or value != value:
        return None
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)[:CATEGORY_CHARACTERS]


def _nans(numbers: Floats) -> int:
    return int(np.count_nonzero(numbers != numbers))


def _four(kinds: list[int]) -> tuple[int, int, int, int]:
    return kinds[0], kinds[1], kinds[2], kinds[3]
