"""How far a window is from the reference: one honest figure per feature, and one per window.

The effect is the population stability index (PSI), less what it would be on average if nothing
had changed: without that, 200 rows in 15 bins show 0.07 from sampling alone. Zero at the least.

An effect is *drift* when it is larger than chance makes it. Rows within a day hang together, so
chance is read off the reference's own blocks when it has at least 20: each block is compared with
the rest of the reference as if it were a window, and what one unchanged window in a hundred would
exceed in any feature is extrapolated from the largest of them along a power tail (Hill 1975,
Weissman 1978). Each feature has its own limit: one that varies a lot by day, such as the weather,
hides no other. With fewer blocks only sampling noise is known, so the effect must also be one that
matters (0.1). A feature's ratio is its effect in units of its limit; the figure of a window is its
largest ratio; above 1 is drift.

Too few rows is an answer of its own, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal

from proa.profile.reference import Profile, WatchedFeature
from proa.profile.window import WindowCounts

__all__ = ["DriftRule", "FeatureDrift", "WindowDrift", "psi", "psi_noise"]

ENOUGH_ROWS: Final = 100
"""Rows a window needs to be judged."""
ENOUGH_BLOCKS: Final = 20
"""Blocks the reference needs for the spread between them to be known."""
FLOOR: Final = 0.02
"""An effect below this matters to nobody, whatever its significance."""
FLOOR_WITHOUT_BLOCKS: Final = 0.1
_FALSE_ALARMS: Final = 0.01
"""Share of unchanged windows in which sampling noise alone may count as drift."""
_HEAVIEST: Final = 0.5
"""The heaviest tail believed: a few blocks alone would show far heavier ones by chance."""
_PRIOR: Final = 0.5
"""Added to every bin in use, so that an empty one has a logarithm (Jeffreys' prior)."""

State = Literal["drift", "no drift", "not enough data"]


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature in one window.

    Attributes:
        psi: the bias-corrected effect; None without enough data.
        ratio: `psi` in units of what is ordinary for this feature; above 1 is drift.
        ordinary: the effect that still counts as no drift.
        odd: share of rows in each bin that is no ordinary value, where there are any.
    """

    name: str
    state: State
    rows: int
    psi: float | None
    ratio: float | None
    ordinary: float | None
    odd: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "rows": self.rows,
            "psi": self.psi,
            "ratio": self.ratio,
            "ordinary": self.ordinary,
            "odd": self.odd,
        }


@dataclass(frozen=True, slots=True)
class WindowDrift:
    """One window: the feature that changed most, and by how much.

    Attributes:
        figure: the largest `ratio` of a feature; None without enough data.
        feature: its name.
        blocks: reference blocks behind the judgement; 0 when only sampling noise was known.
    """

    state: State
    rows: int
    figure: float | None
    feature: str | None
    blocks: int
    features: tuple[FeatureDrift, ...]

    @property
    def meaning(self) -> str:
        """The figure in a sentence."""
        if self.figure is None:
            return f"{self.rows} rows: at least {ENOUGH_ROWS} are needed to say anything"
        against = (
            f"is ordinary among the reference's {self.blocks} blocks"
            if self.blocks
            else "counts (sampling noise and a PSI of 0.1; the reference has too few blocks)"
        )
        return f"{self.feature} changed {self.figure:.2f} times as much as {against}"

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "rows": self.rows,
            "figure": self.figure,
            "feature": self.feature,
            "blocks": self.blocks,
            "meaning": self.meaning,
            "features": {feature.name: feature.to_json() for feature in self.features},
        }


class DriftRule:
    """What is ordinary for one profile; made once, then asked for every window."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._blocks = _judged_blocks(profile)
        self._level = _FALSE_ALARMS / max(1, len(profile.features))
        self._limits = [self._limit(feature) for feature in profile.features]

    def judge(self, window: WindowCounts) -> WindowDrift:
        """Compare a window with the reference."""
        features = tuple(
            self._judge_feature(feature, limit, window.features[feature.name])
            for feature, limit in zip(self._profile.features, self._limits, strict=True)
        )
        worst = max(features, key=lambda feature: feature.ratio or 0.0, default=None)
        if worst is None or worst.ratio is None:
            return WindowDrift("not enough data", window.rows, None, None, 0, features)
        return WindowDrift(
            worst.state, window.rows, worst.ratio, worst.name, len(self._blocks), features
        )

    def _judge_feature(
        self, feature: WatchedFeature, limit: float, counts: Sequence[int]
    ) -> FeatureDrift:
        rows = sum(counts)
        shares = zip(feature.bins.names, counts, strict=True)
        odd = {name: n / rows for name, n in shares if n and name in feature.bins.odd}
        effect = psi(feature.counts, counts) if rows >= ENOUGH_ROWS else None
        if effect is None:
            return FeatureDrift(feature.name, "not enough data", rows, None, None, None, odd)
        ordinary = max(limit, psi_noise(feature.counts, counts, self._level))
        state: State = "drift" if effect > ordinary else "no drift"
        return FeatureDrift(feature.name, state, rows, effect, effect / ordinary, ordinary, odd)

    def _limit(self, feature: WatchedFeature) -> float:
        """The effect that blocks of an unchanged reference exceed with the share `_level`."""
        if not self._blocks:
            return FLOOR_WITHOUT_BLOCKS
        effects = [psi(*_without(feature, block)) or 0.0 for block in self._blocks]
        return max(FLOOR, max(effects), _tail_quantile(effects, self._level))


def _judged_blocks(profile: Profile) -> list[int]:
    """Blocks with enough rows; none when there are too few of them."""
    if profile.blocks is None or not profile.features:
        return []
    first = profile.features[0].block_counts or ()
    enough = [block for block, counts in enumerate(first) if sum(counts) >= ENOUGH_ROWS]
    return enough if len(enough) >= ENOUGH_BLOCKS else []


def _tail_quantile(effects: Sequence[float], level: float) -> float:
    """What a new effect exceeds with probability `level`, beyond the largest ones seen.

    Hill's estimate of the tail's index from the square root of their number, at most
    `_HEAVIEST`; effects are moved up by `FLOOR` first, so that ratios of tiny ones mean nothing.
    """
    ordered = sorted((effect + FLOOR for effect in effects), reverse=True)
    largest = max(5, math.ceil(math.sqrt(len(ordered))))
    base = ordered[largest]
    index = min(_HEAVIEST, sum(math.log(effect / base) for effect in ordered[:largest]) / largest)
    return float(base * (largest / (len(ordered) * level)) ** index - FLOOR)


def psi(reference: Sequence[int], window: Sequence[int]) -> float | None:
    """The population stability index of two counts, less its expectation under no change.

    Sum over bins of (q - p) ln(q / p), with half a count added to every bin in use. Under no
    change it is (bins in use - 1) (1/n + 1/m) on average, which is taken off; floored at 0.

    Returns:
        None when one side has no rows.
    """
    n, m = sum(window), sum(reference)
    if not n or not m:
        return None
    pairs = [(a, b) for a, b in zip(reference, window, strict=True) if a or b]
    added = _PRIOR * len(pairs)
    total = 0.0
    for a, b in pairs:
        p, q = (a + _PRIOR) / (m + added), (b + _PRIOR) / (n + added)
        total += (q - p) * math.log(q / p)
    return max(0.0, total - (len(pairs) - 1) * (1 / n + 1 / m))


def psi_noise(reference: Sequence[int], window: Sequence[int], level: float) -> float:
    """The corrected PSI that independent rows exceed with probability `level` under no change.

    The uncorrected index is close to (1/n + 1/m) times a chi-square of `bins in use - 1` degrees
    of freedom, whose quantile is taken from Wilson and Hilferty's cube root.
    """
    n, m = sum(window), sum(reference)
    freedom = sum(1 for a, b in zip(reference, window, strict=True) if a or b) - 1
    if freedom < 1:
        return 0.0
    z = NormalDist().inv_cdf(1 - level)
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + z * math.sqrt(part)) ** 3
    return (quantile - freedom) * (1 / n + 1 / m)


def _without(feature: WatchedFeature, block: int) -> tuple[list[int], tuple[int, ...]]:
    assert feature.block_counts is not None
    counts = feature.block_counts[block]
    return [total - own for total, own in zip(feature.counts, counts, strict=True)], counts
