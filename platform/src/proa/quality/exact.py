"""Sums of floats that do not depend on the order of their terms, so that states merge exactly.

A sum is kept as its canonical parts: the double nearest to the true sum, the double nearest to
what that leaves, and so on until nothing is left. `math.fsum` rounds the true sum of its terms
once (Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997), which makes the parts unique.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["Parts", "merged", "parts_of", "total"]

Parts = tuple[float, ...]
"""The canonical parts of a sum, largest first; empty for zero."""


def parts_of(values: Iterable[float]) -> Parts:
    """The sum of finite values: associative and commutative, whatever their order.

    Raises:
        ValueError: a value is not finite.
    """
    left = [float(value) for value in values]
    found: list[float] = []
    try:
        while part := math.fsum(left):
            if not math.isfinite(part):
                raise ValueError("a sum of finite numbers was expected")
            found.append(part)
            left.append(-part)
    except OverflowError as error:
        raise ValueError("a sum of finite numbers was expected") from error
    return tuple(found)


def merged(sums: Iterable[Sequence[float]]) -> Parts:
    """The sum of several sums."""
    return parts_of(part for parts in sums for part in parts)


def total(parts: Sequence[float]) -> float:
    """The sum, rounded once."""
    return parts[0] if parts else 0.0
