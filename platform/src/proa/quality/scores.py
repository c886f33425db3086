"""Scores with their truths as counts: ROC AUC from a state that is bounded and merges exactly.

Scores are kept as they are while there are few distinct ones; beyond that they are rounded to a
grid, the finest that fits. Grids are nested, so the grid of a union is a function of the union
alone: `merge` is associative and commutative. On a grid the AUC is known within `error`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_SCORES", "ScoreCounts", "pair_counts"]

MOST_SCORES: Final = 4096
_GRIDS: Final = (0, 24, 20, 16, 14, 12, 11)
"""Powers of two that scores of 0 … 1 are rounded to multiples of; 0: not rounded."""


@dataclass(frozen=True)
class ScoreCounts:
    """Rows of each score.

    Attributes:
        counts: score → (rows whose truth is 0, rows whose truth is 1).
        grid: index into the nested grids; 0 when every score is kept as it is.
    """

    counts: Mapping[float, tuple[int, int]] = field(default_factory=dict)
    grid: int = 0

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, bool]]) -> ScoreCounts:
        """Count (score, true) pairs; scores in 0 … 1."""
        counts: dict[float, tuple[int, int]] = {}
        for score, true in pairs:
            no, yes = counts.get(score, (0, 0))
            counts[score] = (no, yes + 1) if true else (no + 1, yes)
        return _fitted(counts, 0)

    def merge(self, other: ScoreCounts) -> ScoreCounts:
        """The rows of both."""
        grid = max(self.grid, other.grid)
        counts = dict(_rounded(self.counts, grid))
        for score, (no, yes) in _rounded(other.counts, grid).items():
            before = counts.get(score, (0, 0))
            counts[score] = (before[0] + no, before[1] + yes)
        return _fitted(counts, grid)

    @cached_property
    def positives(self) -> int:
        return sum(yes for _, yes in self.counts.values())

    @cached_property
    def negatives(self) -> int:
        return sum(no for no, _ in self.counts.values())

    @property
    def auc(self) -> float | None:
        """The share of (true, not true) pairs in the right order, ties for a half; None with
        one class only. Rounded once from the exact ratio."""
        halves, below = 0, 0
        for _, (no, yes) in sorted(self.counts.items()):
            halves += yes * (2 * below + no)
            below += no
        pairs = self.positives * below
        return float(Fraction(halves, 2 * pairs)) if pairs else None

    @property
    def error(self) -> float:
        """How far `auc` may be from that of the scores as they were; 0 while they are kept."""
        pairs = self.positives * self.negatives
        if not self.grid or not pairs:
            return 0.0
        return sum(no * yes for no, yes in self.counts.values()) / (2 * pairs)

    def to_json(self) -> dict[str, Any]:
        rows = sorted(self.counts.items())
        return {"grid": self.grid, "scores": [[score, no, yes] for score, (no, yes) in rows]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScoreCounts:
        return cls({float(s): (int(no), int(yes)) for s, no, yes in value["scores"]}, value["grid"])

    @cached_property
    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Scores in order, and the rows of each whose truth is 0 and 1."""
        rows = sorted(self.counts.items())
        table = np.array([[score, *both] for score, both in rows], dtype=np.float64).reshape(-1, 3)
        return table[:, 0], table[:, 1], table[:, 2]


def pair_counts(blocks: Sequence[ScoreCounts], *, band: int | None = None) -> NDArray[np.float64]:
    """`[u, v]`: pairs of a positive of block u and a negative of block v in the right order, ties
    for a half: what a bootstrap over blocks needs.

    Args:
        band: only pairs of blocks fewer than this many apart are counted, the others are 0.
    """
    arrays = [block.arrays for block in blocks]
    found = np.zeros((len(blocks), len(blocks)))
    if not blocks:
        return found
    scores = np.concatenate([one for one, _, _ in arrays])
    yes = np.concatenate([one for _, _, one in arrays])
    ends = np.cumsum([len(one) for one, _, _ in arrays])
    starts = ends - [len(one) for one, _, _ in arrays]
    for v, (own, no, _) in enumerate(arrays):
        near = (
            range(len(blocks))
            if band is None
            else range(max(0, v - band + 1), min(len(blocks), v + band))
        )
        some = slice(starts[near[0]], ends[near[-1]])
        below = np.concatenate([[0.0], np.cumsum(no)])
        left = below[np.searchsorted(own, scores[some], side="left")]
        right = below[np.searchsorted(own, scores[some], side="right")]
        through = np.concatenate([[0.0], np.cumsum(yes[some] * (left + right))]) / 2
        for u in near:
            found[u, v] = through[ends[u] - some.start] - through[starts[u] - some.start]
    return found


def _fitted(counts: Mapping[float, tuple[int, int]], grid: int) -> ScoreCounts:
    while len(counts) > MOST_SCORES and grid < len(_GRIDS) - 1:
        grid += 1
        counts = _rounded(counts, grid)
    return ScoreCounts(counts, grid)


def _rounded(counts: Mapping[float, tuple[int, int]], grid: int) -> Mapping[float, tuple[int, int]]:
    """On a grid: cells are closed below, so that a coarser grid's cells are unions of a finer's."""
    if not grid:
        return counts
    cells = float(1 << _GRIDS[grid])
    found: dict[float, tuple[int, int]] = {}
    for score, (no, yes) in counts.items():
        place = min(max(score, 0.0), 1.0) * cells // 1 / cells
        before = found.get(place, (0, 0))
        found[place] = (before[0] + no, before[1] + yes)
    return found
