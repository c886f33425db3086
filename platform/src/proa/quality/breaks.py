"""Whether probabilities still mean what they say: the rule that opens `calibration`.

The gap is the mean of what was said minus the mean of what came true, over the newest mature days.
A base rate that moves takes log loss with it and leaves AUC where it was; the gap is what shows
that a model's probabilities are no longer true. Its interval is by day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proa.quality.blocks import Interval, ratio_interval

__all__ = ["Break", "CalibrationRule", "DaySums"]


@dataclass(frozen=True, slots=True)
class DaySums:
    """One day of labelled rows: `said` sums their probabilities, `true` their labels."""

    day: str
    rows: int
    said: float
    true: float


@dataclass(frozen=True, slots=True)
class Break:
    """What the rule found: `holds` is None when nobody can say, because there are too few mature
    days or rows, or because a gap as large as the floor is not proven (any more): a break that was
    found stays until the gap itself is gone, not until its interval is wide again."""

    holds: bool | None
    gap: Interval
    since: str
    until: str


_UNKNOWN: Final = Interval(None, None, None, None, 0, 0)


@dataclass(frozen=True, slots=True)
class CalibrationRule:
    """Holds when the interval of the gap excludes 0 and the gap is at least `floor`; does not when
    it is below.

    On flights of 2013, scored by a model of January and February, 200 a day: silent in March,
    opens between 20 and 25 April (of the 18th to the 26th six days are 15 to 35 points off), and
    flags under 1 % of windows of exchangeable days. 14 days at 99 % open it two days sooner, but
    also on eight days of a small gap the other way (tests/bench/_monitor_quality.py).

    Attributes:
        days: newest mature days looked at.
        fewest: with fewer mature days nothing is said.
        rows: nor with fewer rows.
        confidence: of the interval, two-sided.
        floor: a gap below this is no harm, however sure.
    """

    days: int = 18
    fewest: int = 14
    rows: int = 300
    confidence: float = 0.985
    floor: float = 0.03

    def judge(self, days: Sequence[DaySums]) -> Break:
        """The newest of `days`, mature ones in order of time."""
        window = [day for day in days if day.rows][-self.days :]
        if not window:
            return Break(None, _UNKNOWN, "", "")
        gap = ratio_interval(
            [day.said - day.true for day in window],
            [day.rows for day in window],
            confidence=self.confidence,
        )
        since, until = window[0].day, window[-1].day
        if len(window) < self.fewest or gap.rows < self.rows:
            return Break(None, gap, since, until)
        assert gap.value is not None
        assert gap.low is not None
        assert gap.high is not None
        holds = None
        if abs(gap.value) < self.floor:
            holds = False
        elif gap.low > 0 or gap.high < 0:
            holds = True
        return Break(holds, gap, since, until)
