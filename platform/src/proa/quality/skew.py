"""Training-serving skew, row by row: what a model was given online against what the offline path
says for the same entity and time.

A distribution can be right while every row is wrong (two columns swapped between rows); only rows
laid side by side show it (TensorFlow Data Validation calls this feature skew).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proa.errors import InvalidInput
from proa.findings.observation import Observation

__all__ = ["ColumnSkew", "compare", "skew_observations"]

_EXAMPLES: Final = 3
FEWEST: Final = 20
"""Rows below which a column is not judged."""


@dataclass(frozen=True, slots=True)
class ColumnSkew:
    """One column over all compared rows.

    Attributes:
        rows: compared.
        differing: rows whose values differ by more than the tolerance; one null and one value
            differ.
        nulls: of those, rows where one side has none.
        largest: largest difference of two numbers.
        examples: positions of the first few differing rows.
    """

    column: str
    rows: int
    differing: int
    nulls: int
    largest: float
    examples: tuple[int, ...]

    @property
    def share(self) -> float:
        return self.differing / self.rows if self.rows else 0.0


def compare(
    online: Sequence[Mapping[str, Any]],
    offline: Sequence[Mapping[str, Any]],
    *,
    tolerance: float = 1e-6,
) -> list[ColumnSkew]:
    """Every column that either side has, the most different first.

    Args:
        online, offline: the same rows in the same order; a missing column is a null.
        tolerance: of numbers, relative to the larger one, absolute below 1.

    Raises:
        InvalidInput: different numbers of rows: they are not the same rows.
    """
    if len(online) != len(offline):
        raise InvalidInput(
            f"{len(online):,} online rows and {len(offline):,} offline: expected the same rows",
            code="row_count",
        )
    columns = sorted({name for rows in (online, offline) for row in rows for name in row})
    found = [_column(name, online, offline, tolerance) for name in columns]
    return sorted(found, key=lambda one: (-one.share, one.column))


def skew_observations(found: Sequence[ColumnSkew], *, limit: float = 0.01) -> list[Observation]:
    """One observation per column: it holds when more than `limit` of its rows differ."""
    seen = []
    for one in found:
        holds = None if one.rows < FEWEST else one.share > limit
        what = (
            f"{one.column}: {one.differing:,} of {one.rows:,} rows were given another value online "
            f"than the offline path has ({one.share:.1%}, {one.nulls:,} of them null on one side)"
        )
        seen.append(
            Observation(
                type="skew",
                subject=one.column,
                holds=holds,
                effect=one.share,
                limit=limit,
                unit="share",
                message=what,
                severity="critical" if one.share > 0.5 else "warning",
                evidence={
                    "rows": one.rows,
                    "differing": one.differing,
                    "nulls": one.nulls,
                    "largest": one.largest,
                },
            )
        )
    return seen


def _column(
    name: str,
    online: Sequence[Mapping[str, Any]],
    offline: Sequence[Mapping[str, Any]],
    tolerance: float,
) -> ColumnSkew:
    places, nulls, largest = [], 0, 0.0
    for row, (mine, theirs) in enumerate(zip(online, offline, strict=True)):
        a, b = _plain(mine.get(name)), _plain(theirs.get(name))
        if _same(a, b, tolerance):
            continue
        places.append(row)
        if a is None or b is None:
            nulls += 1
        elif _number(a) and _number(b):
            largest = max(largest, abs(a - b))
    return ColumnSkew(name, len(online), len(places), nulls, largest, tuple(places[:_EXAMPLES]))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    if _number(a) and _number(b):
        return bool(a == b or abs(a - b) <= tolerance * max(1.0, abs(a), abs(b)))
    return type(a) is type(b) and bool(a == b)
