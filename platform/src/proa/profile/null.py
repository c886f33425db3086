"""What chance does: how far a window may be from the reference although nothing has changed.

Rows within a day hang together, so chance is read off the reference's own blocks: each is compared
with the rest of the reference as if it were a window. Three things make blocks and windows alike:

* a window of several days is compared with stretches of as many blocks running;
* a window of fewer rows than the blocks is compared with blocks thinned to its share of rows
  (drawn without replacement, so the noise of small windows is in the comparison and exact);
* a window of more rows is taken as if it had the blocks' noise, which is on the safe side.

A few dozen blocks say nothing of one window in ten thousand, which is what many features need. So
what a window exceeds with probability p is the largest of four figures:

* noise: the chi-square of independent rows;
* what a share p of the blocks has exceeded, as far as that goes: the largest at least;
* spread: noise, and the mean effect of blocks beyond it times F(1, v) for v independent blocks:
  what it is when days move a feature's level by normal amounts, estimated from all blocks;
* tail: the largest blocks, extrapolated (Weissman 1978) on the scale of a chi-square: with y(p) and
  x(p) what blocks and a chi-square exceed, log y(p) = log y(t) + g (log x(p) - log x(t)) from the
  threshold t on, with Hill's estimate (1975) of g on this scale, at least 1. This is what sees
  days heavier than normal, such as storms.

Each feature has its own: one that varies a lot by day, such as the weather, hides no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from proa.profile.divergence import (
    Counts,
    Floats,
    chi_square_quantile,
    corrected_psi,
)

__all__ = [
    "ENOUGH_ROWS",
    "BlockNull",
    "NoiseNull",
    "Null",
    "benjamini_hochberg",
    "p_values",
    "thinning_share",
]

ENOUGH_BLOCKS: Final = 20
"""Blocks the reference needs for the spread between them to be known."""
ENOUGH_ROWS: Final = 100
"""Rows a block, or a window, needs to be compared."""
_HEAVIEST: Final = 6.0
"""The largest exponent believed: a few blocks alone would show far larger ones by chance."""
_STEPS: Final = 2
"""Thinning is done at this many shares of rows per halving, rounded down."""
_LEAST: Final = 1e-9


class NoiseNull:
    """Independent rows: sampling noise is all there is. No blocks, or too few of them."""

    blocks: Final = 0

    def limits(self, levels: Floats, freedom: Floats, scale: Floats) -> Floats:
        """The corrected PSI that is exceeded with each probability.

        Args:
            levels: descending probabilities.
            freedom, scale: per feature, as `corrected_psi` gives them.

        Returns:
            Features x levels.
        """
        table = chi_square_quantile(freedom[:, None], levels)
        limits: Floats = (table - freedom[:, None]) * scale[:, None]
        return limits


@dataclass(frozen=True, slots=True)
class _Tail:
    """Of each feature: sorted effects of blocks, and the line fitted to the largest of them."""

    effects: Floats
    freedom: Floats
    scale: Floats
    spread: Floats
    exceeding: float
    start: Floats
    exponent: Floats


class BlockNull:
    """Comparisons in which nothing changed, and what a new one exceeds by chance.

    Args:
        references, windows: comparisons x features x bins; `references` may lack the first axis.
        least_rows: comparisons of windows with fewer rows are left out, by feature.
        apart: how many of the comparisons share a block: they count that much less.

    Attributes:
        blocks: the comparisons.
        known: features of which enough comparisons had rows; of the others only sampling noise is
            known.
    """

    known: npt.NDArray[np.bool_]

    def __init__(
        self, references: Counts, windows: Counts, *, least_rows: float, apart: int = 1
    ) -> None:
        psi, freedom, scale = corrected_psi(references, windows)
        enough = windows.sum(axis=-1) >= least_rows
        self.blocks = len(windows)
        self._independent = len(windows) / apart
        self._tails = self._fit(np.where(enough, psi, np.nan), freedom, scale)

    @classmethod
    def against_the_rest(
        cls, counts: Counts, *, span: int = 1, share: float = 1.0
    ) -> BlockNull | None:
        """Each stretch of `span` blocks running, against all other blocks.

        Args:
            counts: blocks x features x bins, in the order of time.
            share: rows of a window, of the rows of as many blocks; below 1 thins the stretches.

        Returns:
            None when there are too few blocks.
        """
        if len(counts) < max(ENOUGH_BLOCKS, 3 * span):
            return None
        groups = _running(counts, span)
        rest = counts.sum(axis=0) - groups
        windows = _thin(groups, share) if share < 1 else groups
        return cls(rest, windows, least_rows=_least_rows(share), apart=span)

    @classmethod
    def against_earlier(
        cls, counts: Counts, earlier: Sequence[tuple[int, Sequence[int]]], *, share: float = 1.0
    ) -> BlockNull | None:
        """Each block against some earlier ones, as a window is against those of past weeks.

        Args:
            earlier: blocks to compare, each with the blocks it is compared with.
        """
        if len(earlier) < ENOUGH_BLOCKS:
            return None
        thinned = _thin(counts, share) if share < 1 else counts
        windows = thinned[[block for block, _ in earlier]]
        references = np.stack([thinned[list(before)].sum(axis=0) for _, before in earlier])
        return cls(references, windows, least_rows=_least_rows(share))

    def _fit(self, psi: Floats, freedom: Floats, scale: Floats) -> _Tail:
        features = psi.shape[1]
        freedom_of, scale_of = _median(freedom), _median(scale)
        known = ((~np.isnan(psi)).sum(axis=0) >= ENOUGH_BLOCKS) & (freedom_of >= 1)
        self.known = known
        effects = -np.sort(-np.where(np.isnan(psi), -np.inf, psi), axis=0)
        spread = np.where(known, np.nanmean(np.where(known, psi, 0.0), axis=0), 0.0)
        largest = max(5, math.ceil(math.sqrt(max(self._independent, 1.0))))
        largest = min(largest, max(1, self.blocks // 3))
        exceeding = largest / self.blocks
        places = (np.arange(largest) + 0.5) / self.blocks
        start, exponent = np.ones(features), np.ones(features)
        for k in np.flatnonzero(known):
            noise = freedom_of[k] * scale_of[k]
            y = np.maximum(effects[: largest + 1, k] + noise, _LEAST)
            x = chi_square_quantile(freedom_of[k], places)
            base = chi_square_quantile(freedom_of[k], exceeding)
            slope = np.log(y[:-1] / y[-1]).mean() / np.log(x / base).mean()
            start[k] = y[-1]
            exponent[k] = min(_HEAVIEST, max(1.0, slope))
        spread = np.maximum(spread, 0.0)
        return _Tail(effects, freedom_of, scale_of, spread, exceeding, start, exponent)

    def limits(self, levels: Floats, freedom: Floats, scale: Floats) -> Floats:
        """The corrected PSI that is exceeded with each probability, as `NoiseNull.limits`."""
        tail = self._tails
        noise = NoiseNull().limits(levels, freedom, scale)
        spread = noise + tail.spread[:, None] * _squared_student(levels, self._independent)
        base = chi_square_quantile(tail.freedom, tail.exceeding)[:, None]
        x = chi_square_quantile(tail.freedom[:, None], levels)
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = tail.start[:, None] * (x / base) ** tail.exponent[:, None]
        beyond -= (tail.freedom * tail.scale)[:, None]
        ranks = np.clip(np.floor(levels * (1 + self.blocks)) - 1, 0, self.blocks - 1)
        seen = tail.effects[ranks.astype(int)].T
        largest = np.fmax(np.fmax(beyond, spread), np.fmax(seen, noise))
        return np.where(self.known[:, None], largest, noise)


Null = NoiseNull | BlockNull


def p_values(psi: Floats, limits: Floats, levels: Floats) -> Floats:
    """The probability of a PSI as large, read off a table of limits.

    Args:
        psi: per feature; NaN stays NaN.
        limits: features x levels, ascending along the levels.
        levels: descending probabilities.
    """
    logs = np.log(levels)
    p = np.full(len(psi), np.nan)
    for k in np.flatnonzero(~np.isnan(psi)):
        row = limits[k]
        p[k] = 1.0 if psi[k] <= row[0] else math.exp(np.interp(psi[k], row, logs))
    return p


def benjamini_hochberg(p_values: Sequence[float] | Floats, share: float) -> float:
    """The level at or below which a p-value counts, so that at most `share` of those that count
    are false (1995). Level of the smallest one when none does.

    Args:
        p_values: NaN where nothing could be said; those do not count as tried.
    """
    tried = np.sort(np.asarray(p_values, float)[~np.isnan(p_values)])
    if not len(tried):
        return share
    levels = share * np.arange(1, len(tried) + 1) / len(tried)
    passed = np.flatnonzero(tried <= levels)
    return float(levels[passed[-1]] if len(passed) else levels[0])


def thinning_share(rows: float, block_rows: float) -> float:
    """The share of a block's rows that a window of `rows` is judged at: 1 or a step below it."""
    if not block_rows or rows >= block_rows:
        return 1.0
    return float(2.0 ** (math.floor(math.log2(max(rows, 1) / block_rows) * _STEPS) / _STEPS))


def _squared_student(levels: Floats, freedom: float) -> Floats:
    """What F(1, `freedom`) exceeds with each probability: Fisher's expansion of Student's t."""
    z = np.array([-NormalDist().inv_cdf(level / 2) for level in levels])
    v = max(freedom, 4.0)
    t = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
    squared: Floats = t * t
    return squared


def _least_rows(share: float) -> float:
    return ENOUGH_ROWS * min(1.0, max(share, 0.2))


def _running(counts: Counts, span: int) -> Counts:
    if span <= 1:
        return counts
    total = np.cumsum(np.concatenate([np.zeros_like(counts[:1]), counts]), axis=0)
    running: Counts = total[span:] - total[:-span]
    return running


def _thin(counts: Counts, share: float) -> Counts:
    """Draw `share` of each block's rows of each feature without replacement; always the same."""
    rng = np.random.default_rng(20130401)
    left = counts.sum(axis=-1)
    wanted = np.rint(left * share).astype(np.int64)
    thinned = np.zeros_like(counts)
    for k in range(counts.shape[-1]):
        own = counts[..., k]
        left = left - own
        thinned[..., k] = rng.hypergeometric(own, left, wanted)
        wanted = wanted - thinned[..., k]
    return thinned


def _median(values: Floats) -> Floats:
    finite = np.where(np.isfinite(values), values, np.nan)
    rows = [np.median(column[~np.isnan(column)]) if (~np.isnan(column)).any() else 0.0
            for column in finite.T]  # fmt: skip
    return np.array(rows)
