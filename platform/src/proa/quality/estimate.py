"""How good answers probably are before anyone can know: CBPE.

If probabilities are true, a row said to be true with p is true with p, whatever it will turn out to
be; so the expected confusion, Brier score and AUC follow from what was said alone (confidence-based
performance estimation, NannyML's name for it). This sees data that became harder. It cannot see a
world that changed its rules: then probabilities are no longer true, and the estimate is withdrawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from proa.quality.blocks import Interval, ratio_interval
from proa.quality.exact import total
from proa.quality.state import SAID_BINS, QualityState, merge_all

__all__ = ["ESTIMATED", "error_of", "estimate", "estimated_interval"]

ESTIMATED = ("roc_auc", "accuracy", "precision", "recall", "brier")


def estimate(state: QualityState, metric: str) -> float | None:
    """The expected metric of all answered rows, labelled or not; None where it is not defined.

    Args:
        metric: one of `ESTIMATED`.
    """
    if state.form != "probability" or not state.said:
        return None
    if metric == "roc_auc":
        return _auc(state)
    parts = _parts(state, metric)
    return parts[0] / parts[1] if parts and parts[1] > 0 else None


def estimated_interval(
    days: Sequence[QualityState], metric: str, *, confidence: float = 0.95
) -> Interval:
    """The estimate over days, with an interval by day; of an AUC by the days' own estimates."""
    used = [day for day in days if day.said and day.rows]
    if metric == "roc_auc":
        whole = estimate(merge_all(used, scores=False), metric)
        pairs = [(estimate(day, metric), day.rows) for day in used]
        known = [(value, rows) for value, rows in pairs if value is not None]
        found = ratio_interval(
            [value * rows for value, rows in known],
            [rows for _, rows in known],
            confidence=confidence,
        )
        if whole is None or found.value is None:
            return Interval(None, None, None, None, found.rows, found.blocks)
        # the whole's figure; days say how far it may be off
        shift = whole - found.value
        low = None if found.low is None else found.low + shift
        high = None if found.high is None else found.high + shift
        return Interval(whole, low, high, found.se, found.rows, found.blocks).within(0.0, 1.0)
    parts = [part for day in used if (part := _parts(day, metric)) is not None]
    return ratio_interval(
        [top for top, _ in parts],
        [bottom for _, bottom in parts],
        confidence=confidence,
        rows=sum(day.rows for day in used),
    ).within(0.0, 1.0)


def error_of(days: Sequence[QualityState], metric: str, measured: float | None) -> float | None:
    """How far the estimate of days whose labels have come was off: estimate minus measured.

    Args:
        measured: the metric over these days.
    """
    guessed = estimate(merge_all(days, scores=False), metric)
    return None if measured is None or guessed is None else guessed - measured


def _parts(state: QualityState, metric: str) -> tuple[float, float] | None:
    """Expected top and bottom."""
    if not state.said:
        return None
    yes, no = sum(state.said[2]), sum(state.said[1])
    if metric == "brier":
        rows = sum(map(sum, state.said))
        return total(state.estimates.get("variance", ())), rows
    if not yes + no:
        return None
    hits, misses = (total(state.estimates.get(name, ())) for name in ("true", "false"))
    return {
        "accuracy": (hits + no - misses, yes + no),
        "precision": (hits, yes),
        "recall": (hits, hits + misses),
    }.get(metric)


def _auc(state: QualityState) -> float | None:
    rows = np.sum(np.asarray(state.said, dtype=float), axis=0)
    middle = (np.arange(SAID_BINS) + 0.5) / SAID_BINS
    yes, no = rows * middle, rows * (1 - middle)
    pairs = math.fsum(yes) * math.fsum(no)
    if not pairs:
        return None
    below = np.cumsum(no) - no
    return float((yes * (below + no / 2)).sum() / pairs)
