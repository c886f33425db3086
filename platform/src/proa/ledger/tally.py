"""What a release did in a window, as sums: enough to judge it, small however many calls there were.

Calls of one unit (a user, an entity) resemble each other, so figures are summed within units first;
the sums of squares over units then give the variance that knows about the clusters (Cochran,
Sampling Techniques, 3rd ed., ch. 11: ratio-to-size estimator). Tallies of several ledgers add; a
unit that was served out of two ledgers then counts as two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, Final

from proa.errors import InvalidInput

__all__ = ["FIGURES", "LATENCY_BASE", "Sums", "Tally", "parse_tally", "quantile"]

LATENCY_BASE: Final = 1.02
"""Bucket b of the latency histogram holds [1.02^b, 1.02^(b+1)) ms; its middle is told, which is
wrong by at most 1 % (the guarantee of DDSketch, Masson et al., VLDB 2019)."""
FIGURES: Final = (
    "errors", "rejected", "log_latency", "tokens_out", "length_stops", "refusals", "guard_hits",
    "predictions", "agreed",
)  # fmt: skip
"""errors: 5xx and broken streams. rejected: 4xx. log_latency: ln of ms, of good answers.
length_stops, refusals, guard_hits: share of answers. predictions: rows. agreed: share of a shadow
call's rows that were decided as the champion did."""
_FEW_UNITS: Final = 30
_FEW_HITS: Final = 5


@dataclass(frozen=True, slots=True)
class Sums:
    """One figure x of each call, s and n its sum and its calls within one unit.

    Attributes:
        calls: sum of n.
        units: units with a call.
        size_squares: sum of n².
        total: sum of s.
        squares: sum of s².
        cross: sum of s·n.
        raw_squares: sum of x² over calls.
    """

    calls: int = 0
    units: int = 0
    size_squares: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    cross: float = 0.0
    raw_squares: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        one, two = astuple(self), astuple(other)
        return Sums(*(a + b for a, b in zip(one, two, strict=True)))

    @property
    def mean(self) -> float:
        """Per call; NaN without calls."""
        return self.total / self.calls if self.calls else math.nan

    @property
    def independent(self) -> float:
        """Calls if those of one unit were all alike (Kish's n²/Σn²): the careful extreme."""
        return self.calls**2 / self.size_squares if self.size_squares else 0.0

    @property
    def effective(self) -> float:
        """How many independent calls say as much as these; never more than there were calls.

        Calls over the design effect (variance by unit ÷ variance by call). Where the effect cannot
        be estimated (fewer than 30 units, fewer than 5 hits or misses of a share), calls of one
        unit are taken to be all alike.
        """
        if not self.calls:
            return 0.0
        by_call = self.raw_squares / self.calls - self.mean**2
        # Of a share, raw_squares counts the hits.
        share = math.isclose(self.raw_squares, self.total)
        rare = share and min(self.total, self.calls - self.total) < _FEW_HITS
        if self.units < _FEW_UNITS or rare or by_call <= 0:
            return self.independent
        return min(float(self.calls), by_call / self.standard_error**2)

    @property
    def standard_error(self) -> float:
        """Of the mean, by unit; NaN below two units."""
        if self.units < 2:
            return math.nan
        mean = self.mean
        spread = self.squares - 2 * mean * self.cross + mean**2 * self.size_squares
        small = self.units / (self.units - 1)
        return math.sqrt(max(spread, 0.0) * small) / self.calls or math.ulp(1.0)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one release did in a window.

    Attributes:
        calls: everything it was asked, calls whose client left included.
        units: distinct units served; a call without one is its own.
        sums: by name of `FIGURES`.
        latency: bucket → good answers, see `LATENCY_BASE`.
        predictions: bin → rows, as the release reported them (`proa.release.facts`).
    """

    calls: int = 0
    units: int = 0
    sums: Mapping[str, Sums] = field(default_factory=dict)
    latency: Mapping[int, int] = field(default_factory=dict)
    predictions: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        names = self.sums.keys() | other.sums.keys()
        return Tally(
            self.calls + other.calls,
            self.units + other.units,
            {name: self.of(name) + other.of(name) for name in sorted(names)},
            dict(Counter(self.latency) + Counter(other.latency)),
            dict(Counter(self.predictions) + Counter(other.predictions)),
        )

    def of(self, name: str) -> Sums:
        """A figure's sums; empty when it was never reported."""
        return self.sums.get(name, _NOTHING)

    def finite(self) -> bool:
        """Whether every number is one."""
        return all(math.isfinite(number) for sums in self.sums.values() for number in astuple(sums))

    def to_wire(self) -> dict[str, Any]:
        """A JSON object that `parse_tally` reads."""
        wire = asdict(self)
        for name in ("latency", "predictions"):
            wire[name] = {str(key): count for key, count in wire[name].items()}
        return wire


_NOTHING: Final = Sums()


def parse_tally(value: Any) -> Tally:
    """Read what `to_wire` gave.

    Raises:
        InvalidInput: another shape.
    """
    try:
        return Tally(
            int(value["calls"]),
            int(value["units"]),
            {str(name): Sums(**sums) for name, sums in value["sums"].items()},
            {int(key): int(count) for key, count in value["latency"].items()},
            {int(key): int(count) for key, count in value["predictions"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"a tally cannot be read: {error!r}") from error


def quantile(latency: Mapping[int, int], share: float) -> float:
    """Milliseconds below which this share of the answers lies, nearest rank, within 1 %.

    Args:
        share: 0 to 1; above 1 there is no such latency: infinite. NaN without answers.
    """
    total = sum(latency.values())
    if not total:
        return math.nan
    if share >= 1:
        return math.inf
    rank, seen = max(share, 0.0) * total, 0
    for bucket in sorted(latency):
        seen += latency[bucket]
        if seen >= rank and seen:
            return float(LATENCY_BASE ** (bucket + 0.5))
    return math.inf
