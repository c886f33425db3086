"""Whether a share or a mean of one window is another than in windows before it: exact and honest.

Shares are compared by Fisher's exact test, one side at a time. Answers within a window hang
together (one person asks five times, one outage hits an hour), so counts are first divided by the
design effect: how much more the windows before spread among each other than independent rows
would (Rao and Scott 1992). It is known from five windows on, and uncertain then, which Student's t
in place of the normal allows for. What is small matters to nobody: a floor says how small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

__all__ = [
    "BLOCKS",
    "LEVEL",
    "Compared",
    "Mean",
    "Rate",
    "compare_means",
    "compare_rates",
    "fisher",
    "t_quantile",
    "wilson",
]

LEVEL: Final = 0.0005
"""False alarms per test: twenty or so tests of one window together stay below 1 in 100."""
BLOCKS: Final = 5
"""Windows before that are needed to know how much unchanged windows spread."""
ROWS: Final = 30
"""Rows a window needs to be judged at all."""
PAST_ROWS: Final = 100
"""Rows that it is compared with, at least."""
_NORMAL: Final = NormalDist()

Direction = Literal["up", "down", "both"]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many."""

    hits: float
    rows: float

    @property
    def share(self) -> float:
        """0 … 1; 0 without rows."""
        return self.hits / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Mean:
    """Sums of one number over rows."""

    rows: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        return self.total / self.rows if self.rows else 0.0

    @property
    def variance(self) -> float:
        """Unbiased; 0 for fewer than two rows."""
        if self.rows < 2:
            return 0.0
        return max(0.0, (self.squares - self.total**2 / self.rows) / (self.rows - 1))


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison says.

    Attributes:
        holds: None when there is too little to say anything.
        now, before: the share or the mean of this window and of what it is compared with.
        limit: the value of `now` that would still be ordinary, on the side it lies on.
        design: the design effect; 1 where rows are taken as independent.
        blocks: windows it was read off; 0 without.
    """

    holds: bool | None
    now: float | None
    before: float | None
    limit: float | None
    design: float = 1.0
    blocks: int = 0


def compare_rates(
    now: Rate,
    past: Sequence[Rate],
    *,
    floor: float,
    direction: Direction = "up",
    level: float = LEVEL,
    independent: bool = False,
) -> Compared:
    """Compare a share with the windows before.

    Args:
        past: windows of the same length, or one reference with `independent`.
        floor: a difference of shares below this does not matter.
        direction: which change is looked for.
        independent: take rows as independent: `past` is no list of windows.
    """
    past = [rate for rate in past if rate.rows]
    pooled = Rate(sum(rate.hits for rate in past), sum(rate.rows for rate in past))
    share = now.share if now.rows else None
    few = now.rows < ROWS or pooled.rows < PAST_ROWS or (len(past) < BLOCKS and not independent)
    if few:
        return Compared(None, share, pooled.share if pooled.rows else None, None)
    blocks = 0 if independent else len(past)
    design = 1.0 if independent else _rate_design(past, pooled, level)
    thinned = Rate(pooled.hits / design, pooled.rows / design)
    rows = now.rows / design
    up = direction == "up" or (direction == "both" and now.share >= pooled.share)
    limit = _rate_limit(rows, thinned, floor=floor, up=up, level=_side(level, direction))
    holds = now.share > limit if up else now.share < limit
    return Compared(holds, now.share, pooled.share, limit, design, blocks)


def compare_means(
    now: Mean,
    past: Sequence[Mean],
    *,
    floor: float,
    direction: Direction = "both",
    level: float = LEVEL,
    independent: bool = False,
) -> Compared:
    """Compare a mean with the windows before.

    Args:
        floor: a difference below this many standard deviations of a row does not matter.
    """
    past = [mean for mean in past if mean.rows]
    pooled = Mean(
        sum(mean.rows for mean in past),
        sum(mean.total for mean in past),
        sum(mean.squares for mean in past),
    )
    value = now.mean if now.rows else None
    few = now.rows < ROWS or pooled.rows < PAST_ROWS or (len(past) < BLOCKS and not independent)
    if few:
        return Compared(None, value, pooled.mean if pooled.rows else None, None)
    sigma = math.sqrt(pooled.variance)
    side = _side(level, direction)
    design, blocks = (1.0, 0) if independent else (_mean_design(past, pooled, side), len(past))
    spread = sigma * math.sqrt(design * (1 / now.rows + 1 / pooled.rows))
    reach = max(_NORMAL.inv_cdf(1 - side) * spread, floor * sigma, 1e-9)
    up = direction == "up" or (direction == "both" and now.mean >= pooled.mean)
    limit = pooled.mean + reach if up else pooled.mean - reach
    holds = now.mean > limit if up else now.mean < limit
    return Compared(holds, now.mean, pooled.mean, limit, design, blocks)


def fisher(hits: int, rows: int, other_hits: int, other_rows: int) -> float:
    """Probability of at least `hits` of `rows` when both samples have one share (Fisher 1935)."""
    total, marked = rows + other_rows, hits + other_hits
    if hits <= max(0, marked - other_rows):
        return 1.0
    log = (
        _log_choose(marked, hits)
        + _log_choose(total - marked, rows - hits)
        - _log_choose(total, rows)
    )
    term = tail = math.exp(log)
    for x in range(hits, min(rows, marked)):
        term *= (marked - x) * (rows - x) / ((x + 1) * (total - marked - rows + x + 1))
        tail += term
        if term <= tail * 1e-12 and x * total > marked * rows:
            break
    return min(1.0, tail)


def wilson(hits: float, rows: float, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a share (Wilson 1927); 0 … 1 without rows."""
    if rows <= 0:
        return 0.0, 1.0
    share, z2 = hits / rows, z * z
    middle = share + z2 / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows * rows))
    low, high = ((middle + sign * half) / (1 + z2 / rows) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def t_quantile(level: float, freedom: int) -> float:
    """Student's t that is exceeded with probability `level`, up to 0.4 (Hill 1970, algorithm 396,
    without its case for levels beyond)."""
    both, n = 2 * level, float(freedom)
    if freedom == 1:
        return 1 / math.tan(level * math.pi)
    if freedom == 2:
        return math.sqrt(2 / (both * (2 - both)) - 2)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = (d * both) ** (2 / n)
    if y > 0.05 + a:
        x = _NORMAL.inv_cdf(level)
        y = x * x
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = (
            (1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1
        ) * (n + 1) / (n + 2) + 1 / y
    return math.sqrt(n * y)


def _side(level: float, direction: Direction) -> float:
    return level / 2 if direction == "both" else level


def _rate_limit(rows: float, past: Rate, *, floor: float, up: bool, level: float) -> float:
    """The farthest ordinary share: the last one whose tail is not below `level`, or the floor."""
    whole, base = max(1, round(rows)), past.share
    base_hits, base_rows = round(past.hits), max(1, round(past.rows))
    if not up:
        base, base_hits = 1 - base, base_rows - base_hits
    low, high = math.floor(base * whole), whole + 1
    while low < high:  # the least number of hits that is out of the ordinary, whole + 1 for none
        middle = (low + high) // 2
        if fisher(middle, whole, base_hits, base_rows) < level:
            high = middle
        else:
            low = middle + 1
    # between the last ordinary number of hits and the first other one
    ordinary = min(1.0, max((low - 0.5) / whole, base + floor))
    return ordinary if up else 1 - ordinary


def _rate_design(past: Sequence[Rate], pooled: Rate, level: float) -> float:
    share = pooled.share
    variance = share * (1 - share)
    if not variance:
        return 1.0
    spread = sum(rate.rows * (rate.share - share) ** 2 for rate in past) / variance
    return _inflated(spread / (len(past) - 1), len(past), level)


def _mean_design(past: Sequence[Mean], pooled: Mean, level: float) -> float:
    within = sum(max(0, m.rows - 1) * m.variance for m in past)
    freedom = sum(max(0, m.rows - 1) for m in past)
    if not freedom or not within:
        return 1.0
    spread = sum(m.rows * (m.mean - pooled.mean) ** 2 for m in past) / (within / freedom)
    return _inflated(spread / (len(past) - 1), len(past), level)


def _inflated(dispersion: float, blocks: int, level: float) -> float:
    """The design effect, at least 1, made larger by what `blocks` windows leave uncertain."""
    if dispersion <= 1:
        return 1.0
    return dispersion * (t_quantile(level, blocks - 1) / _NORMAL.inv_cdf(1 - level)) ** 2


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
