"""The SQL behind a tally: sums within units first, then over them, in one pass over the window."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import orjson

from proa.ledger.database import Row
from proa.ledger.tally import FIGURES, LATENCY_BASE, Sums, Tally

__all__ = ["QUERIES", "tallies_of"]

# A client that left and a gateway that was stopped say nothing about the release.
_COUNTED: Final = "(COALESCE(error, '') NOT IN ('client_gone', 'shutdown'))"
_GOOD: Final = "(complete AND status < 400)"
_LN: Final = "ln(CASE WHEN latency_ms > 0.001 THEN latency_ms ELSE 0.001 END)"
# Figures that are no whole numbers are counted in these parts of one: sums of whole numbers are
# exact (below 2^53), whatever the database and the order in which it adds.
_PARTS: Final = {"log_latency": 1_000, "agreed": 10_000}


def _one_if(condition: str) -> str:
    return f"(CASE WHEN {condition} THEN 1 ELSE 0 END)"


# Figure → of which calls, and its value in each of them.
_MEANING: Final = {
    "errors": (_COUNTED, _one_if("status >= 500 OR error = :broken")),
    "rejected": (_COUNTED, _one_if("status BETWEEN 400 AND 499")),
    "log_latency": (_GOOD, f"floor({_LN} * {_PARTS['log_latency']} + 0.5)"),
    "tokens_out": (f"({_GOOD} AND tokens_out IS NOT NULL)", "tokens_out"),
    "length_stops": (
        f"({_GOOD} AND finish_reason IS NOT NULL)",
        _one_if("finish_reason = 'length'"),
    ),
    "refusals": (f"({_GOOD} AND refused IS NOT NULL)", _one_if("refused")),
    "guard_hits": (f"({_GOOD} AND guard_hits IS NOT NULL)", _one_if("guard_hits > 0")),
    "predictions": (f"({_GOOD} AND bins IS NOT NULL)", "rows"),
    "agreed": (
        f"({_GOOD} AND agreed IS NOT NULL)",
        f"floor(agreed * {_PARTS['agreed']} + 0.5)",
    ),
}
_WHERE: Final = """
FROM calls WHERE model = :model AND started >= :since AND started < :until
  AND purpose = :purpose AND door = 'user' AND release IS NOT NULL
"""


def _within(name: str) -> str:
    of, value = _MEANING[name]
    real = f"CAST({value} AS DOUBLE PRECISION)"
    return (
        f"COUNT(*) FILTER (WHERE {of}) AS {name}_n,"
        f" COALESCE(SUM({real}) FILTER (WHERE {of}), 0.0) AS {name}_s,"
        f" COALESCE(SUM({real} * {real}) FILTER (WHERE {of}), 0.0) AS {name}_q"
    )


def _over(name: str) -> str:
    n, s, q = (f"{name}_{part}" for part in "nsq")
    return (
        f"CAST(SUM({n}) AS BIGINT), COUNT(*) FILTER (WHERE {n} > 0),"
        f" SUM(CAST({n} AS DOUBLE PRECISION) * {n}), SUM({s}), SUM({s} * {s}),"
        f" SUM({s} * {n}), SUM({q})"
    )


_SUMS: Final = (
    "SELECT release, CAST(SUM(n) AS BIGINT), COUNT(*), "  # noqa: S608 - constants only
    + ", ".join(map(_over, FIGURES))
    + " FROM (SELECT release, COALESCE(unit, request) AS one, COUNT(*) AS n, "
    + ", ".join(map(_within, FIGURES))
    + _WHERE
    + " GROUP BY release, one) AS units GROUP BY release"
)
_LATENCY: Final = (
    f"SELECT release, CAST(floor({_LN} / {math.log(LATENCY_BASE)!r}) AS BIGINT) AS bucket,"
    f" COUNT(*) {_WHERE} AND {_GOOD} GROUP BY release, bucket"
)
_PREDICTIONS: Final = (
    f"SELECT release, bins, COUNT(*) {_WHERE} AND bins IS NOT NULL AND {_GOOD}"
    " GROUP BY release, bins"
)
QUERIES: Final = (_SUMS, _LATENCY, _PREDICTIONS)


def _figure(name: str, row: Sequence[Any]) -> Sums:
    calls, units, size_squares, total, squares, cross, raw_squares = row
    parts = _PARTS.get(name, 1)
    return Sums(
        calls,
        units,
        size_squares,
        total / parts,
        squares / parts**2,
        cross / parts,
        raw_squares / parts**2,
    )


def _predicted(rows: Sequence[Row], release: str) -> dict[int, int]:
    found: Counter[int] = Counter()
    for owner, bins, calls in rows:
        if owner == release:
            for key, count in orjson.loads(bins).items():
                found[int(key)] += count * calls
    return dict(found)


def tallies_of(
    sums: Sequence[Row], latency: Sequence[Row], predictions: Sequence[Row]
) -> dict[str, Tally]:
    """By release, from the rows of `QUERIES`."""
    found: dict[str, Tally] = {}
    width = 7
    for release, calls, units, *rest in sums:
        figures = {
            name: _figure(name, rest[number * width : (number + 1) * width])
            for number, name in enumerate(FIGURES)
        }
        found[release] = Tally(
            calls,
            units,
            {name: figure for name, figure in figures.items() if figure.calls},
            {bucket: count for owner, bucket, count in latency if owner == release},
            _predicted(predictions, release),
        )
    return found
