"""Whether as many rows came as usual, against the same hours of past weeks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

from proa.findings.observation import Observation

__all__ = ["volume"]

_ENOUGH_WINDOWS: Final = 4
_ENOUGH_ROWS: Final = 50
_LEAST_FACTOR: Final = 1.5
_SPREADS: Final = 4.0


def volume(rows: int, past: Sequence[int]) -> Observation:
    """The rows of a window against those of windows before it.

    The effect is the factor by which the rows differ from their usual number, whichever way; the
    limit is four times the usual spread of its logarithm (from the median deviation, at least what
    counts of that size show by chance), and never below 1.5.

    Args:
        rows: of the window; 0 when nothing came.
        past: rows of the windows of the same hours before.
    """
    usual = median(past) if past else 0.0
    if len(past) < _ENOUGH_WINDOWS or usual < _ENOUGH_ROWS:
        message = f"{rows:,} rows; too few windows or rows before to say what is usual"
        return Observation("volume", "", None, None, None, "factor", message,
                           evidence={"rows": rows, "windows": len(past)})  # fmt: skip
    off = sorted(abs(math.log(max(n, 0.5) / usual)) for n in past)
    # few windows: their median deviation alone would be luck
    spread = max(1.4826 * median(off), off[-1] / 2, 1 / math.sqrt(usual))
    limit = max(_LEAST_FACTOR, math.exp(_SPREADS * spread * math.sqrt(1 + 1 / len(past))))
    change = math.log(max(rows, 0.5) / usual)
    factor = math.exp(abs(change))
    holds = factor > limit
    way = "fewer" if change < 0 else "more"
    said = f"{factor:.3g} times {way} than usual" if rows else "none; usually there are some"
    return Observation(
        "volume", "", holds, factor, limit, "factor",
        f"{rows:,} rows: {said} ({usual:,.0f})",
        "critical" if holds and change < 0 else "warning",
        {"rows": rows, "usual": usual, "windows": len(past)},
    )  # fmt: skip
