"""Right and wrong decisions as whole numbers, and the ratios people know by name.

Every ratio is one division of two counts, which is what scikit-learn computes as well: the two are
equal to the last digit (tests/unit/quality).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Final

__all__ = ["RATIOS", "Confusion"]

RATIOS: Final = ("accuracy", "precision", "recall", "selection_rate", "tpr", "fpr", "base_rate")


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of rows: `tp` decided and true, `fp` decided and not true, `fn`, `tn`."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool, bool]]) -> Confusion:
        """Count (decided, true) pairs."""
        counts = [0, 0, 0, 0]
        for decided, true in pairs:
            counts[(0 if true else 1) if decided else (2 if true else 3)] += 1
        return cls(*counts)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )

    @property
    def rows(self) -> int:
        return self.tp + self.fp + self.fn + self.tn

    def parts(self, name: str) -> tuple[int, int]:
        """Top and bottom of a ratio of `RATIOS`.

        Raises:
            KeyError: no such ratio.
        """
        return {
            "accuracy": (self.tp + self.tn, self.rows),
            "precision": (self.tp, self.tp + self.fp),
            "recall": (self.tp, self.tp + self.fn),
            "tpr": (self.tp, self.tp + self.fn),
            "fpr": (self.fp, self.fp + self.tn),
            "selection_rate": (self.tp + self.fp, self.rows),
            "base_rate": (self.tp + self.fn, self.rows),
        }[name]

    def ratio(self, name: str) -> float | None:
        """A ratio of `RATIOS`; None where there is nothing to divide by."""
        top, bottom = self.parts(name)
        return top / bottom if bottom else None
