"""What is kept of one feature in one window beside its bins; two of them add up to one.

Exact: missing columns, JSON types, least and most, the new categories kept. Within rounding: the
moments. Within the error of their sketch: quantiles (KLL, Karnin, Lang and Liberty 2016, rank error
1.3 %) and distinct categories (HyperLogLog, Flajolet et al. 2007, standard error 3.3 %).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import numpy as np
from datasketches import hll_sketch, hll_union, kll_doubles_sketch

from proa.profile.column import KINDS
from proa.profile.divergence import Floats

__all__ = ["FeatureState", "Moments", "keep_some"]

_KLL: Final = 200
_HLL: Final = 10
_KEPT: Final = 16
"""Names kept of categories or columns that are new."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the finite numbers of a window. `sd` is 0 for fewer than two."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    @property
    def sd(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count > 1 else 0.0

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Of a batch of finite numbers."""
        if not len(values):
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            apart = values - mean
            squares = float(np.square(apart, out=apart).sum())
        return cls(len(values), mean, squares, float(values.min()), float(values.max()))

    def merge(self, other: Moments) -> Moments:
        """Of both together (Chan, Golub and LeVeque 1979)."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.squares + other.squares + step * step * (self.count * other.count / count),
            min(self.least, other.least),
            max(self.most, other.most),
        )


@dataclass(slots=True)
class FeatureState:
    """One feature in one window.

    Attributes:
        missing: rows whose event lacked the column.
        kinds: rows by `column.KINDS`, nulls aside.
        moments: of finite numbers; empty for a category.
        numbers: their quantiles; None for a category, before any came, and when thinned.
        distinct: of categories, likewise.
        fresh: some of the categories that the reference lacks, with their exact counts.
    """

    missing: int = 0
    kinds: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    moments: Moments = field(default_factory=Moments)
    numbers: kll_doubles_sketch | None = None
    distinct: hll_sketch | None = None
    fresh: dict[str, int] = field(default_factory=dict)

    def add_numbers(self, values: Floats, *, sketch: bool) -> None:
        """Add finite numbers."""
        self.moments = self.moments.merge(Moments.of(values))
        if sketch and len(values):
            if self.numbers is None:
                self.numbers = kll_doubles_sketch(_KLL)
            self.numbers.update(values)

    def add_categories(self, names: Mapping[str, int], *, sketch: bool) -> None:
        """Add the categories of a batch."""
        if sketch and names:
            if self.distinct is None:
                self.distinct = hll_sketch(_HLL)
            for name in names:
                self.distinct.update(name)

    def merge(self, other: FeatureState, *, sketch: bool) -> FeatureState:
        """Of both together, as a new value; `sketch`: both still have all of their sketches."""
        return FeatureState(
            self.missing + other.missing,
            [a + b for a, b in zip(self.kinds, other.kinds, strict=True)],
            self.moments.merge(other.moments),
            _merged_numbers(self.numbers, other.numbers) if sketch else None,
            _merged_distinct(self.distinct, other.distinct) if sketch else None,
            keep_some(self.fresh, other.fresh),
        )

    def to_json(self) -> dict[str, Any]:
        moments = self.moments
        return {
            "missing": self.missing,
            "kinds": self.kinds,
            "moments": [
                moments.count,
                *(repr(v) for v in (moments.mean, moments.squares, moments.least, moments.most)),
            ],
            "numbers": None if self.numbers is None else _text(self.numbers.serialize()),
            "distinct": (
                None if self.distinct is None else _text(self.distinct.serialize_compact())
            ),
            "fresh": self.fresh,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FeatureState:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        count, *floats = value["moments"]
        mean, squares, least, most = map(float, floats)
        numbers, distinct = value["numbers"], value["distinct"]
        return cls(
            value["missing"],
            list(value["kinds"]),
            Moments(count, mean, squares, least, most),
            None if numbers is None else kll_doubles_sketch.deserialize(_bytes(numbers)),
            None if distinct is None else hll_sketch.deserialize(_bytes(distinct)),
            dict(value["fresh"]),
        )


def keep_some(*counts: Mapping[str, int]) -> dict[str, int]:
    """Add counts up and keep those of 16 names, always the same ones: the least by checksum.

    A name that is kept at the end was kept in every part, so its count is exact, and the order of
    adding does not matter.
    """
    total: dict[str, int] = {}
    for part in counts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    if len(total) <= _KEPT:
        return total
    kept = sorted(total, key=lambda name: (crc32(name.encode("utf-8", "replace")), name))[:_KEPT]
    return {name: total[name] for name in kept}


def _merged_numbers(*parts: kll_doubles_sketch | None) -> kll_doubles_sketch | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    merged = kll_doubles_sketch(_KLL)  # a new one: states share nothing
    for part in present:
        merged.merge(part)
    return merged


def _merged_distinct(*parts: hll_sketch | None) -> hll_sketch | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    union = hll_union(_HLL)
    for part in present:
        union.update(part)
    return union.get_result()


def _text(data: bytes) -> str:
    return base64.b85encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b85decode(text)
