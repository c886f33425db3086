"""Gaps between groups of a protected attribute, from our own counts.

A gap is the largest difference between two groups that are large enough. Its interval is by day,
and as many pairs of groups, attributes and metrics are looked at, it opens only when Holm's
procedure still proves it (Holm, "A simple sequentially rejective multiple test procedure", 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Final

from proa.quality.blocks import Interval, difference, ratio_interval
from proa.quality.state import QualityState

__all__ = ["FAIRNESS", "Gap", "GroupFigure", "gaps", "proven"]

FAIRNESS: Final[Mapping[str, str]] = {
    "selection_rate": "selection_rate",
    "equal_opportunity": "tpr",
    "false_positive_rate": "fpr",
    "calibration": "gap",
}
"""Metrics by name, and the ratio that each compares."""
FEWEST_ROWS: Final = 30
"""Rows that a group's ratio must be of."""
_FOUR_FIFTHS: Final = 0.8
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class GroupFigure:
    """One group's ratio."""

    group: str
    figure: Interval


@dataclass(frozen=True, slots=True)
class Gap:
    """How far apart two groups are.

    Attributes:
        metric: a key of `FAIRNESS`, or `disparate_impact`.
        gap: the largest difference; of `disparate_impact` the lower selection rate as a share of
            the higher one.
        p: probability of a gap beyond `tolerance` by chance; None when nobody can say.
        groups: every group's figure, the lowest first.
    """

    attribute: str
    metric: str
    gap: Interval
    tolerance: float
    p: float | None
    groups: tuple[GroupFigure, ...]


def gaps(
    attribute: str,
    days: Sequence[Mapping[str, QualityState]],
    *,
    tolerance: float = 0.1,
    confidence: float = 0.95,
) -> list[Gap]:
    """Every gap of one attribute.

    Args:
        days: per day the state of each group.
        tolerance: a difference up to this is no finding; disparate impact has the four-fifths
            rule.
    """
    names = sorted({name for day in days for name in day})
    found = []
    for metric, ratio in FAIRNESS.items():
        groups = [GroupFigure(name, _figure(days, name, ratio, confidence)) for name in names]
        known = sorted(
            (group for group in groups if _large(group.figure)),
            key=lambda one: one.figure.value or 0.0,
        )
        gap = _widest(known, confidence)
        found.append(Gap(attribute, metric, gap, tolerance, _p(gap, tolerance), tuple(known)))
        if metric == "selection_rate":
            found.append(_impact(attribute, known, confidence))
    return found


def proven(found: Sequence[Gap], *, level: float = 0.01) -> set[tuple[str, str]]:
    """The (attribute, metric) pairs that Holm's procedure proves at `level`, all taken together."""
    known = sorted((gap for gap in found if gap.p is not None), key=lambda gap: gap.p or 0.0)
    held = set()
    for number, gap in enumerate(known):
        # a gap was chosen as the widest of all pairs of its groups
        pairs = max(1, math.comb(len(gap.groups), 2))
        if gap.p is None or gap.p * pairs > level / (len(known) - number):
            break
        held.add((gap.attribute, gap.metric))
    return held


def _figure(
    days: Sequence[Mapping[str, QualityState]], group: str, ratio: str, confidence: float
) -> Interval:
    states = [day[group] for day in days if group in day]
    parts = [part for state in states if (part := _parts(state, ratio)) is not None]
    found = ratio_interval(
        [top for top, _ in parts], [bottom for _, bottom in parts], confidence=confidence
    )
    return found.within(-1.0 if ratio == "gap" else 0.0, 1.0)


def _parts(state: QualityState, ratio: str) -> tuple[float, float] | None:
    return state.parts(ratio) if ratio != "gap" or state.form == "probability" else None


def _large(figure: Interval) -> bool:
    return figure.value is not None and figure.rows >= FEWEST_ROWS


def _widest(known: Sequence[GroupFigure], confidence: float) -> Interval:
    if len(known) < 2:
        return Interval(None, None, None, None, sum(g.figure.rows for g in known), 0)
    apart = [
        difference(high.figure, low.figure, confidence=confidence)
        for low, high in combinations(known, 2)
    ]
    return max(apart, key=lambda gap: gap.value or 0.0)


def _impact(attribute: str, known: Sequence[GroupFigure], confidence: float) -> Gap:
    """The lowest selection rate over the highest, its interval by the delta method on logs."""
    groups = tuple(known)
    rows = sum(group.figure.rows for group in known)
    nothing = Gap(
        attribute,
        "disparate_impact",
        Interval(None, None, None, None, rows, 0),
        _FOUR_FIFTHS,
        None,
        groups,
    )
    if len(known) < 2 or not known[-1].figure.value:
        return nothing
    low, high = known[0].figure, known[-1].figure
    assert low.value is not None
    assert high.value is not None
    value, blocks = low.value / high.value, min(low.blocks, high.blocks)
    if low.se is None or high.se is None or not low.value:
        return Gap(
            attribute,
            "disparate_impact",
            Interval(value, None, None, None, rows, blocks),
            _FOUR_FIFTHS,
            None,
            groups,
        )
    se = math.hypot(low.se / low.value, high.se / high.value)
    reach = _NORMAL.inv_cdf(1 - (1 - confidence) / 2) * se
    gap = Interval(
        value, value * math.exp(-reach), value * math.exp(reach), se * value, rows, blocks
    )
    p = _NORMAL.cdf(math.log(value / _FOUR_FIFTHS) / se) if se else float(value >= _FOUR_FIFTHS)
    return Gap(attribute, "disparate_impact", gap, _FOUR_FIFTHS, p, groups)


def _p(gap: Interval, tolerance: float) -> float | None:
    """One-sided: how likely is a gap this wide if the true one is within the tolerance."""
    if gap.value is None or gap.se is None:
        return None
    if not gap.se:
        return float(gap.value <= tolerance)
    return _NORMAL.cdf((tolerance - gap.value) / gap.se)
