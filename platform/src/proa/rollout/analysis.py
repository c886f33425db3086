"""The analysis of one canary step: exact tallies in, one of three values out. Pure.

The challenger is held against the champion of the same minutes, so that what hits both changes
nothing, and the champion against its own baseline from before the rollout, so that a champion in
trouble is no yardstick. Looking at every tick is allowed for: see `proa.rollout.sequence`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proa.ledger.tally import Tally
from proa.rollout.policy import Policy
from proa.rollout.sequence import resolvable
from proa.rollout.signals import Comparison, Signal, signals_of

__all__ = ["Analysis", "Finding", "Value", "analyse"]

Value = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One signal of a step, for people.

    Attributes:
        candidate, champion, baseline: the values; None where nothing was reported.
        interval: of the difference or ratio of the first two; None without enough data.
        margin: what it is held against.
        champion_moved: the champion is shown to have left its own baseline, for the worse.
    """

    signal: str
    value: Value
    candidate: float | None
    champion: float | None
    baseline: float | None
    interval: tuple[float, float] | None
    margin: float | None
    champion_moved: bool
    note: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """A step's verdict, the sentence that explains it, and every signal."""

    value: Value
    reason: str
    findings: tuple[Finding, ...] = ()
    units: tuple[int, int, int] = (0, 0, 0)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for `proa status`; `units` are of candidate, champion and baseline."""
        names = ("candidate", "champion", "baseline")
        return {
            "value": self.value,
            "reason": self.reason,
            "units": dict(zip(names, self.units, strict=True)),
            "signals": [_to_json(finding) for finding in self.findings],
        }


def _to_json(finding: Finding) -> dict[str, Any]:
    return {
        "signal": finding.signal,
        "value": finding.value,
        "candidate": finding.candidate,
        "champion": finding.champion,
        "baseline": finding.baseline,
        "interval": None if finding.interval is None else list(map(_number, finding.interval)),
        "margin": finding.margin,
        "champion_moved": finding.champion_moved,
        "note": finding.note,
    }


def analyse(
    candidate: Tally | None,
    champion: Tally | None,
    policy: Policy,
    *,
    kind: str = "classic",
    baseline: Tally | None = None,
) -> Analysis:
    """Judge a step.

    `fail`: a signal is shown to be worse by more than its margin. `pass`: enough units, errors and
    latency shown to be within their margins, and no guardrail that is worse and may be so by more
    than its margin. Everything else, missing or unreadable counts first of all, is `inconclusive`.

    Args:
        candidate, champion: since the step's weights are in force; None when a gateway is silent.
        baseline: the champion before the rollout; None when there was no traffic.
    """
    if candidate is None or champion is None:
        return Analysis("inconclusive", "the gateways' counts are missing")
    sides = (candidate, champion, baseline or Tally())
    if not all(side.finite() for side in sides):
        return Analysis("inconclusive", "a count is not a number")
    findings = tuple(_find(signal, *sides) for signal in signals_of(kind, policy))
    units = (candidate.units, champion.units, sides[2].units)
    value, reason = _verdict(findings, units, policy)
    return Analysis(value, reason, findings, units)


def _verdict(
    findings: Sequence[Finding], units: tuple[int, int, int], policy: Policy
) -> tuple[Value, str]:
    failed = [finding.note for finding in findings if finding.value == "fail"]
    early = units[0] < policy.minimum_units
    # A few units are enough for errors nobody could miss, not for the finer signals.
    if early:
        failed = [f.note for f in findings if f.value == "fail" and f.signal == "errors"]
    if failed:
        return "fail", "; ".join(failed)
    if early:
        return "inconclusive", f"{units[0]} of {policy.minimum_units} units seen"
    waiting = [finding.note for finding in findings if finding.value == "inconclusive"]
    if waiting:
        return "inconclusive", waiting[0]
    judged = [finding.signal for finding in findings if finding.interval is not None]
    unjudged = "" if resolvable(policy.minimum_units) else "; latency: too few units to judge"
    return "pass", f"{units[0]} units, within margins: {', '.join(judged)}{unjudged}"


def _find(signal: Signal, candidate: Tally, champion: Tally, baseline: Tally) -> Finding:
    moved = signal.compare(champion, baseline, 0.0)
    shaken = moved is not None and moved.place == "beyond"
    more = abs(moved.shift) if moved is not None and shaken else 0.0
    now = signal.compare(candidate, champion, more)
    value, note = _value(signal, now, shaken=shaken)
    values = [_number(signal.read(side)) for side in (candidate, champion, baseline)]
    return Finding(
        signal=signal.name,
        value=value,
        candidate=values[0],
        champion=values[1],
        baseline=values[2],
        interval=None if now is None else (now.interval.low, now.interval.high),
        margin=None if now is None else now.margin,
        champion_moved=shaken,
        note=f"{signal.name}: {_sides(values[:2])}: {note}",
    )


def _value(signal: Signal, now: Comparison | None, *, shaken: bool) -> tuple[Value, str]:
    """A champion that left its baseline widens what proves harm, and proves no health."""
    if now is None:
        missing: Value = "inconclusive" if signal.primary else "pass"
        return missing, "not enough to compare"
    if now.place == "beyond":
        return "fail", f"worse by more than {now.margin:.3g}"
    if shaken and (signal.primary or now.worse):
        return "inconclusive", "the champion also moved from its baseline"
    if signal.primary and now.place == "unsure":
        return "inconclusive", f"not yet shown to be within {now.margin:.3g}"
    if not signal.primary and now.worse:
        return "inconclusive", f"may be worse by more than {now.margin:.3g}"
    return "pass", f"within {now.margin:.3g}"


def _sides(values: Iterable[float | None]) -> str:
    return " against ".join("nothing" if value is None else f"{value:.4g}" for value in values)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) and abs(value) < 1e100 else None
