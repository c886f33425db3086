"""How long truth takes, and from which age on a day's labels may be judged.

A young day has only its fast labels, and they are not like the slow ones (a flight that is late is
known to be late later). So a day counts once it is as old as the age at which labels have stopped
coming, read off the days before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Final

__all__ = ["AGES", "DelayCurve", "DelayDay", "no_delays", "place_of"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
AGES: Final = (
    *(_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 12 * _HOUR),
    *(k * _DAY for k in (1, 1.5, 2, 3, 4, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180)),
)
"""Upper bounds of the buckets of delay, in seconds; above them lies one more."""
_COMPLETE: Final = 0.95
"""A curve has flattened at an age when this share of what came until twice that age had come."""
_FEWEST: Final = 30
"""Labels without which nothing is said about delays."""


def no_delays() -> tuple[int, ...]:
    return (0,) * (len(AGES) + 1)


def place_of(seconds: float) -> int:
    """The bucket of a delay; a label from before its answer counts as at once."""
    return bisect_right(AGES, seconds) if seconds > 0 else 0


@dataclass(frozen=True, slots=True)
class DelayDay:
    """One day of answers.

    Attributes:
        age: seconds from the day's end to now.
        rows: answered.
        delays: labelled, by bucket of `AGES`.
    """

    age: float
    rows: int
    delays: tuple[int, ...]

    @property
    def coverage(self) -> float:
        return sum(self.delays) / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class DelayCurve:
    """What days tell about delays.

    Attributes:
        mature: seconds after which a day's labels have come; None while nobody can say.
        coverage: the share of rows that have got a label by then; None as well.
        p50, p90: seconds within which a half and nine tenths of the labels came, in whole
            buckets.
        labels: behind it.
    """

    mature: float | None = None
    coverage: float | None = None
    p50: float | None = None
    p90: float | None = None
    labels: int = 0

    @classmethod
    def of(cls, days: Sequence[DelayDay]) -> DelayCurve:
        """Read the curve off days of one model, whatever their order."""
        labels = sum(sum(day.delays) for day in days)
        if labels < _FEWEST:
            return cls(labels=labels)
        mature = next((age for age in AGES if _flat(days, age)), None)
        if mature is None:
            return cls(labels=labels)
        old = [day for day in days if day.age >= mature and day.rows]
        coverage = median(day.coverage for day in old)
        counts = [sum(column) for column in zip(*(day.delays for day in old), strict=True)]
        return cls(mature, coverage, _quantile(counts, 0.5), _quantile(counts, 0.9), labels)

    def is_mature(self, day: DelayDay) -> bool:
        """Whether a day is old enough, and has got at least half of the labels it should have.

        While nobody knows the delay, a day is mature that has almost all of its labels: labels
        that are sent once a month say so long before they could show when they stop.
        """
        if self.mature is None or self.coverage is None:
            return day.age >= 0 and day.coverage >= _COMPLETE
        return day.age >= self.mature and day.coverage >= self.coverage / 2


def _flat(days: Sequence[DelayDay], age: float) -> bool:
    """Whether days at least twice as old got almost all of their labels within `age`."""
    old = [day for day in days if day.age >= 2 * age]
    place = AGES.index(age) + 1
    through = AGES.index(max(bound for bound in AGES if bound <= 2 * age)) + 1
    by_then = sum(sum(day.delays[:through]) for day in old)
    soon = sum(sum(day.delays[:place]) for day in old)
    return by_then >= _FEWEST and soon >= _COMPLETE * by_then and _none_later(old, through)


def _none_later(days: Sequence[DelayDay], through: int) -> bool:
    """Labels may come in two waves: what came after twice the age is little as well."""
    later = sum(sum(day.delays[through:]) for day in days)
    return later <= (1 - _COMPLETE) * sum(sum(day.delays) for day in days)


def _quantile(counts: Sequence[int], share: float) -> float | None:
    whole = sum(counts)
    if not whole:
        return None
    bound = next(k for k, sum_ in enumerate(accumulate(counts)) if sum_ >= share * whole)
    return float(AGES[min(bound, len(AGES) - 1)])
