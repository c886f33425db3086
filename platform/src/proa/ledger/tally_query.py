"""The SQL behind a tally: sums within units first, then over them, in one pass over the window."""

from __future__ import annotations

from typing import Any, Final

from proa.ledger.tally import FIGURES, LATENCY_BASE, Sums, Tally

__all__ = ["QUERIES", "tallies_of"]

# A client that left and a gateway that was stopped say nothing about the release.
_COUNTED: Final = "(error IS NOT 'client_gone' AND error IS NOT 'shutdown')"
_GOOD: Final = "(complete AND status < 400)"
_LN: Final = "ln(max(latency_ms, 0.001))"
# Figure → of which calls, and its value in each of them.
_MEANING: Final = {
    "errors": (_COUNTED, "(status >= 500 OR error IS :broken)"),
    "rejected": (_COUNTED, "(status BETWEEN 400 AND 499)"),
    "log_latency": (_GOOD, _LN),
    "tokens_out": (f"({_GOOD} AND tokens_out IS NOT NULL)", "tokens_out"),
    "length_stops": (f"({_GOOD} AND finish_reason IS NOT NULL)", "(finish_reason = 'length')"),
    "refusals": (f"({_GOOD} AND refused IS NOT NULL)", "refused"),
    "guard_hits": (f"({_GOOD} AND guard_hits IS NOT NULL)", "(guard_hits > 0)"),
    "predictions": (f"({_GOOD} AND bins IS NOT NULL)", "rows"),
    "agreed": (f"({_GOOD} AND agreed IS NOT NULL)", "agreed"),
}
_WHERE: Final = """
FROM calls WHERE model = :model AND started >= :since AND started < :until
  AND purpose = :purpose AND door = 'user' AND release IS NOT NULL
"""


def _within(name: str) -> str:
    of, value = _MEANING[name]
    return (
        f"SUM({of}) AS {name}_n, TOTAL(CASE WHEN {of} THEN {value} END) AS {name}_s,"
        f" TOTAL(CASE WHEN {of} THEN {value} * {value} END) AS {name}_q"
    )


def _over(name: str) -> str:
    n, s, q = (f"{name}_{part}" for part in "nsq")
    return (
        f"SUM({n}), SUM({n} > 0), TOTAL(CAST({n} AS REAL) * {n}), TOTAL({s}), TOTAL({s} * {s}),"
        f" TOTAL({s} * {n}), TOTAL({q})"
    )


_SUMS: Final = (
    "SELECT release, SUM(n), COUNT(*), "  # noqa: S608 - constants only
    + ", ".join(map(_over, FIGURES))
    + " FROM (SELECT release, COALESCE(unit, request) AS one, COUNT(*) AS n, "
    + ", ".join(map(_within, FIGURES))
    + _WHERE
    + " GROUP BY release, one) GROUP BY release"
)
_LATENCY: Final = (
    f"SELECT release, CAST(floor({_LN} / ln({LATENCY_BASE})) AS INTEGER) AS bucket, COUNT(*)"
    f"{_WHERE} AND {_GOOD} GROUP BY release, bucket"
)
_PREDICTIONS: Final = (
    "SELECT release, CAST(bin.key AS INTEGER), SUM(bin.value)"
    + _WHERE.replace("FROM calls", "FROM calls, json_each(calls.bins) AS bin")
    + f" AND bins IS NOT NULL AND {_GOOD} GROUP BY release, bin.key"
)
QUERIES: Final = (_SUMS, _LATENCY, _PREDICTIONS)


def tallies_of(
    sums: list[tuple[Any, ...]], latency: list[tuple[Any, ...]], predictions: list[tuple[Any, ...]]
) -> dict[str, Tally]:
    """By release, from the rows of `QUERIES`."""
    found: dict[str, Tally] = {}
    width = 7
    for release, calls, units, *rest in sums:
        figures = {
            name: Sums(*rest[number * width : (number + 1) * width])
            for number, name in enumerate(FIGURES)
        }
        found[release] = Tally(
            calls,
            units,
            {name: figure for name, figure in figures.items() if figure.calls},
            {bucket: count for owner, bucket, count in latency if owner == release},
            {bucket: count for owner, bucket, count in predictions if owner == release},
        )
    return found
