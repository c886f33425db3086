"""Whether a service of either kind fails more, or is slower or dearer, than in windows before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from proa.findings.observation import Observation
from proa.profile.rates import (
    BLOCKS,
    ROWS,
    Compared,
    Rate,
    compare_rates,
    wilson,
)

__all__ = ["Served", "judge_cost", "judge_operation"]

FAILING: Final = 0.05
"""A share of failed calls that is proven to lie above is bad, whatever it was before."""
_SLOW: Final = 0.05
"""The slowest calls: as many as lie above the 95th percentile of the windows before."""
_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Served(Protocol):
    """Counts of a window: `proa_monitor.traffic.Traffic`.

    `latency` and `first_token` hold calls per bucket: up to 1 ms, 2.5 ms … 60 s, and above.
    """

    @property
    def calls(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def latency(self) -> Sequence[int]: ...
    @property
    def first_token(self) -> Sequence[int]: ...


def judge_operation(now: Served, past: Sequence[Served]) -> list[Observation]:
    """`errors`, `latency` and, where tokens were streamed, `first_token`.

    Args:
        past: windows of the same length before this one.
    """
    found = [
        _errors(now, past),
        _slow("latency", now.latency, [window.latency for window in past], "calls"),
    ]
    if sum(now.first_token) or any(sum(window.first_token) for window in past):
        tokens = [window.first_token for window in past]
        found.append(_slow("first_token", now.first_token, tokens, "first tokens"))
    return found


def judge_cost(now: tuple[float, int], past: Sequence[tuple[float, int]]) -> Observation:
    """What a call costs on average; money and calls of a window, and of those before.

    Only the totals are known, so windows before say how much an unchanged mean varies.
    """
    means = [money / calls for money, calls in past if calls]
    value = now[0] / now[1] if now[1] else None
    if value is None or len(means) < BLOCKS:
        message = f"{len(means)} windows with calls before: {BLOCKS} are needed"
        return Observation("cost", "", None, value, None, "per call", message)
    centre = sum(means) / len(means)
    # A fifth beyond the dearest window seen, and half as much again as usual.
    limit = max(max(means) * 1.2, centre * 1.5)
    return Observation(
        "cost", "", value > limit, value, limit, "per call",
        f"a call costs {value:.6g} on average, {centre:.6g} in the {len(means)} windows before; up "
        f"to {limit:.6g} is ordinary",
        evidence={"calls": now[1], "before": centre, "blocks": len(means)},
    )  # fmt: skip


def _errors(now: Served, past: Sequence[Served]) -> Observation:
    rate = Rate(now.errors, now.calls)
    compared = compare_rates(rate, [Rate(w.errors, w.calls) for w in past], floor=0.01)
    low, high = wilson(now.errors, now.calls)
    if not compared.holds and now.calls >= ROWS:
        # always bad, and all that can be said while there is nothing to compare with
        compared = Compared(
            low > FAILING, rate.share, compared.before, compared.limit or FAILING, compared.design
        )
    message = (
        f"{now.calls} calls: too few to say anything"
        if compared.holds is None
        else f"{rate.share:.1%} of {now.calls:,} calls failed"
        + (f", {compared.before:.1%} in the windows before" if compared.before is not None else "")
    )
    return Observation(
        "errors", "", compared.holds, compared.now, compared.limit, "share", message,
        severity="critical" if compared.holds and low > FAILING else "warning",
        evidence={"errors": now.errors, "calls": now.calls, "low": round(low, 5),
                  "high": round(high, 5), "blocks": compared.blocks},
    )  # fmt: skip


def _slow(kind: str, now: Sequence[int], past: Sequence[Sequence[int]], what: str) -> Observation:
    """More calls above the 95th percentile of the windows before than there were."""
    past = [counts for counts in past if sum(counts)]
    total = [sum(bucket) for bucket in zip(*past, strict=True)] if past else []
    edge = _edge(total)
    if edge is None:
        return Observation(kind, "", None, None, None, "share",
                           f"no windows before with {what} in them")  # fmt: skip
    rate = Rate(sum(now[edge + 1 :]), sum(now))
    before = [Rate(sum(counts[edge + 1 :]), sum(counts)) for counts in past]
    compared = compare_rates(rate, before, floor=0.05)
    message = (
        f"{sum(now)} {what}: too few to say anything, or too few windows before"
        if compared.holds is None
        else f"{rate.share:.1%} of {sum(now):,} {what} took longer than {_SECONDS[edge]:g} s, "
        f"{compared.before or 0.0:.1%} in the windows before"
    )
    return Observation(
        kind, "", compared.holds, compared.now, compared.limit, "share", message,
        evidence={"seconds": _SECONDS[edge], "rows": sum(now), "before": compared.before,
                  "blocks": compared.blocks, "design_effect": round(compared.design, 3)},
    )  # fmt: skip


def _edge(total: Sequence[int]) -> int | None:
    """The first bucket bound that at most 5 % of the calls before lie above."""
    rows = sum(total)
    above = rows
    for edge, count in enumerate(total[:-1]):
        above -= count
        if above <= _SLOW * rows:
            return edge
    return len(_SECONDS) - 1 if rows else None
