"""Drift of reasons: whether a model answers for the same reasons as it did.

Of each feature the share that its contributions' sizes have in all of them, day by day. A share
that moved says that a feature matters more, or less, than it did, often before labels can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proa.quality.blocks import Interval, difference, ratio_interval
from proa.quality.exact import total
from proa.quality.state import QualityState

__all__ = ["ReasonShift", "reason_shares", "reason_shifts"]

FEWEST_DAYS: Final = 5
FEWEST_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class ReasonShift:
    """A feature's share of all contributions, then and now; `holds` is None with too few days."""

    feature: str
    then: float | None
    now: float | None
    shift: Interval
    holds: bool | None


def reason_shares(days: Sequence[QualityState]) -> dict[str, float]:
    """Mean size of a row's contribution, by feature; empty without explained rows."""
    rows = sum(day.explained for day in days)
    if not rows:
        return {}
    names = sorted({name for day in days for name in day.reasons})
    return {name: math.fsum(_size(day, name) for day in days) / rows for name in names}


def reason_shifts(
    then: Sequence[QualityState],
    now: Sequence[QualityState],
    *,
    floor: float = 0.05,
    level: float = 0.01,
) -> list[ReasonShift]:
    """Every feature, the largest shift first.

    Args:
        then, now: days, none of them in both.
        floor: a share that moved by less is no finding.
        level: of all features taken together (Bonferroni).
    """
    before, after = _explained(then), _explained(now)
    names = sorted({name for day in (*before, *after) for name in day.reasons})
    enough = min(len(before), len(after)) >= FEWEST_DAYS and all(
        sum(day.explained for day in days) >= FEWEST_ROWS for days in (before, after)
    )
    confidence = 1 - level / max(1, len(names))
    found = []
    for name in names:
        old, new = _share(before, name, confidence), _share(after, name, confidence)
        shift = difference(new, old, confidence=confidence)
        holds: bool | None = None
        if enough and shift.value is not None and shift.low is not None and shift.high is not None:
            holds = abs(shift.value) >= floor and (shift.low > 0 or shift.high < 0)
        found.append(ReasonShift(name, old.value, new.value, shift, holds))
    return sorted(found, key=lambda one: -abs(one.shift.value or 0.0))


def _explained(days: Sequence[QualityState]) -> list[QualityState]:
    return [day for day in days if day.explained]


def _size(day: QualityState, name: str) -> float:
    return total(day.reasons[name][0]) if name in day.reasons else 0.0


def _share(days: Sequence[QualityState], name: str, confidence: float) -> Interval:
    sizes = [_size(day, name) for day in days]
    whole = [math.fsum(_size(day, other) for other in day.reasons) for day in days]
    rows = sum(day.explained for day in days)
    return ratio_interval(sizes, whole, confidence=confidence, rows=rows)
