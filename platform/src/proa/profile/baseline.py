"""What windows are compared with: a reference, and what windows like it differ by although nothing
has changed.

The reference is what a release was trained on, or the same hour of the past weeks. Which windows
are alike is read off names: a day (`2013-04-01`), an hour (`2013-04-01T10`), days running
(`2013-04-01/P7D`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from proa.profile.divergence import Counts, Floats, corrected_psi
from proa.profile.layout import Layout
from proa.profile.null import (
    ENOUGH_ROWS,
    BlockNull,
    NoiseNull,
    Null,
    benjamini_hochberg,
    p_values,
    thinning_share,
)

__all__ = ["Baseline", "Compared", "hours_of"]

FLOOR: Final = 0.02
"""A PSI below this matters to nobody, whatever its significance."""
FLOOR_WITHOUT_BLOCKS: Final = 0.1
"""The same where only sampling noise is known: days differ, and nobody knows by how much."""
FALSE_ALARMS: Final = 0.01
"""Share of what is called drift in one window that may be none (Benjamini and Hochberg 1995)."""
WEEKS: Final = 4
"""Past weeks that a window is compared with."""
_LEVELS: Final = np.logspace(-0.5, -8, 46)
"""Probabilities at which limits are tabulated; p-values are read off between them."""
_NAME: Final = re.compile(r"\d{4}-\d\d-\d\d(?:(T\d\d)|/P(\d{1,3})D)?")


@dataclass(frozen=True, slots=True)
class Compared:
    """One window against one reference, per feature.

    Attributes:
        psi: bias-corrected; NaN where there were too few rows.
        p: the probability of so much without a change; limit: the PSI that still is ordinary.
        blocks: comparisons of unchanged data behind it; 0 where only sampling noise is known.
    """

    psi: Floats
    p: Floats
    limit: Floats
    blocks: int

    @property
    def holds(self) -> npt.NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            return np.asarray(self.psi > self.limit)


class Baseline:
    """The reference of one profile.

    Args:
        layout: the features to compare.
        blocks: names of the profile's blocks.
        floor: a PSI that must be exceeded in any case.
    """

    def __init__(
        self, layout: Layout, blocks: Sequence[str] | None, *, floor: float = FLOOR
    ) -> None:
        self._reference = layout.reference()
        self._blocks = layout.blocks() if blocks else None
        self._floor = floor
        lengths = {hours_of(name) for name in blocks or ()}
        self._hours = lengths.pop() if len(lengths) == 1 else None
        self._earlier = _same_hours(blocks or (), self._hours)
        counts = [sum(f.block_counts[k]) for f in layout.features[:1] if f.block_counts
                  for k in range(len(f.block_counts))]  # fmt: skip
        self._rows = float(np.median(counts)) if counts else 0.0
        self._nulls: dict[tuple[str, int, float], Null | None] = {}

    def compare(self, counts: Counts, *, name: str, rows: int, share: float) -> Compared | None:
        """A window against the reference.

        Args:
            counts: features x bins, in the layout.
            rows: of the window, nulls included.
            share: of false alarms among alarms.

        Returns:
            None when no window of that length is known: hours against days.
        """
        span = self._span(name)
        if span is None:
            return None
        null = self._null("rest", span, rows)
        assert null is not None
        return _judged(self._reference, counts, null, floor=self._floor, share=share)

    def compare_weeks(
        self, counts: Counts, past: Sequence[Counts], *, name: str, rows: int, share: float
    ) -> Compared | None:
        """A window against the same hour of the last four weeks.

        Args:
            past: features x bins of each of those, oldest first.

        Returns:
            None when there are fewer, or when the reference does not say what weeks differ by.
        """
        if len(past) < WEEKS or self._span(name) != 1 or hours_of(name) != self._hours:
            return None
        null = self._null("weeks", 1, rows)
        if null is None:
            return None
        before = np.sum(past[-WEEKS:], axis=0)
        return _judged(before, counts, null, floor=self._floor, share=share)

    def _span(self, name: str) -> int | None:
        """Blocks that make up such a window; None when it is shorter than one."""
        hours = hours_of(name)
        if self._blocks is None or hours is None or self._hours is None:
            return 1
        return hours // self._hours if hours % self._hours == 0 else None

    def _null(self, kind: str, span: int, rows: int) -> Null | None:
        share = thinning_share(rows / span, self._rows)
        key = (kind, span, share)
        if key not in self._nulls:
            self._nulls[key] = self._made(kind, span, share)
        return self._nulls[key]

    def _made(self, kind: str, span: int, share: float) -> Null | None:
        if kind == "weeks":
            if self._blocks is None:
                return None
            return BlockNull.against_earlier(self._blocks, self._earlier, share=share)
        null = None
        if self._blocks is not None:
            null = BlockNull.against_the_rest(self._blocks, span=span, share=share)
        return null or NoiseNull()


def compare_with_past(counts: Counts, past: Counts, *, rows: int, share: float) -> Compared | None:
    """A window against all windows before it, which say themselves what windows differ by.

    Args:
        counts: features x bins; past: windows x features x bins.

    Returns:
        None when they are too few.
    """
    typical = float(np.median(past.sum(axis=-1).max(axis=-1))) if len(past) else 0.0
    null = BlockNull.against_the_rest(past, share=thinning_share(rows, typical))
    if null is None:
        return None
    return _judged(past.sum(axis=0), counts, null, floor=FLOOR, share=share)


def hours_of(name: str) -> int | None:
    """The length of a window or block by its name; None when that is no such name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return 1 if match[1] else 24 * int(match[2] or 1)


def _judged(
    reference: Counts, counts: Counts, null: Null, *, floor: float, share: float
) -> Compared:
    psi, freedom, scale = corrected_psi(reference, counts)
    psi = np.where(counts.sum(axis=-1) >= ENOUGH_ROWS, psi, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):  # features without rows
        table = np.maximum.accumulate(null.limits(_LEVELS, freedom, scale), axis=1)
        p = p_values(psi, table, _LEVELS)
        level = np.array([benjamini_hochberg(p, share)])
        limit = null.limits(level, freedom, scale)[:, 0]
    known = null.known if isinstance(null, BlockNull) else np.zeros(len(psi), dtype=bool)
    limit = np.fmax(limit, np.where(known, floor, max(floor, FLOOR_WITHOUT_BLOCKS)))
    return Compared(psi, p, np.where(np.isnan(psi), np.nan, limit), null.blocks)


def _same_hours(blocks: Sequence[str], hours: int | None) -> list[tuple[int, list[int]]]:
    """Blocks that have one of the same hour in each of the four weeks before, with those."""
    if hours not in (1, 24):
        return []
    moments = [_start(name) for name in blocks]
    places = {moment: place for place, moment in enumerate(moments) if moment is not None}
    found = []
    for moment, place in places.items():
        before = [places.get(moment - timedelta(weeks=week)) for week in range(1, WEEKS + 1)]
        kept = [earlier for earlier in before if earlier is not None]
        if len(kept) == WEEKS:
            found.append((place, kept))
    return found


def _start(name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{name[:13]}:00" if len(name) > 10 else name).replace(
            tzinfo=UTC
        )
    except ValueError:
        return None
