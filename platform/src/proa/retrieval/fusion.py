"""Reciprocal-rank fusion: two rankings become one without comparing their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fused:
    """One item's place.

    Attributes:
        item: what was ranked.
        score: sum over the rankings of weight / (k + rank); higher is better.
        ranks: its rank in each ranking, from 1; None where it is not.
    """

    item: int
    score: float
    ranks: tuple[int | None, ...]


def fuse(
    rankings: Sequence[Sequence[int]], *, weights: Sequence[float], k: int = 60
) -> list[Fused]:
    """Fuse rankings (Cormack, Clarke and Büttcher, SIGIR 2009).

    Args:
        rankings: items of each ranking, best first, each item once.
        weights: one per ranking, not negative; a ranking of weight 0 is left out.
        k: damps the lead of the first ranks.

    Returns:
        Every item of a ranking with weight, best first; ties by the better rank in the first
        ranking that tells them apart, then by item.
    """
    places: dict[int, list[int | None]] = {}
    for number, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        if weight <= 0:
            continue
        for rank, item in enumerate(ranking, start=1):
            places.setdefault(item, [None] * len(rankings))[number] = rank
    fused = [
        Fused(
            item,
            sum(
                weight / (k + rank)
                for weight, rank in zip(weights, ranks, strict=True)
                if rank is not None
            ),
            tuple(ranks),
        )
        for item, ranks in places.items()
    ]
    return sorted(fused, key=_order)


def _order(fused: Fused) -> tuple[float, tuple[float, ...], int]:
    ranks = tuple(float("inf") if rank is None else float(rank) for rank in fused.ranks)
    return -fused.score, ranks, fused.item
