"""Triage: are the data broken, is it the season, or is the model really worse? Pure.

data_broken   inputs are missing or wrong while it lasts, or were for most of it: what would be
              learned from them is the fault. Somebody mends the source, nobody retrains.
season        the same thing came and went by itself before and has not lasted longer than then, or
              only an estimate says so and what moved lies where it lies at this time of the week.
real          answers are worse, by labels, on sound data, for long enough.
nothing       no finding that may ask: drift alone is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from proa.findings.finding import Finding
from proa.http.clock import parse_time
from proa.project.retrain import RetrainSection

__all__ = ["BROKEN", "Triage", "Word", "broken_reason", "faults", "triage"]

Word = Literal["data_broken", "season", "real", "nothing"]

BROKEN: Final = frozenset(
    {"null_burst", "invalid_values", "category_flood", "schema", "stale_feature", "volume", "skew"}
)
"""Data findings after which nothing is learned. A new category is no fault: it is the world's."""
_ESTIMATES: Final = frozenset({"estimated_quality"})
_MOST: Final = 0.5


@dataclass(frozen=True, slots=True)
class Triage:
    """What it is, why in one sentence, and the findings that say so (the asking ones first)."""

    word: Word
    reason: str
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.word,
            "reason": self.reason,
            "findings": [finding.id for finding in self.findings],
        }


def triage(
    findings: Iterable[Finding],
    *,
    now: datetime,
    section: RetrainSection,
    champion: str | None = None,
) -> Triage:
    """Judge a model's findings, open and closed.

    Args:
        now: the model's event time.
        champion: only findings of this release count as present; None: of any.
    """
    every = sorted(findings, key=lambda finding: (finding.since, finding.id))
    mine = [f for f in every if f.track != "challenger" and _is_of(f, champion)]
    present = [finding for finding in mine if finding.open]
    asking = [finding for finding in present if finding.type in section.when]
    if not asking:
        return _nothing(present)
    broken = [finding for finding in mine if _spoils(finding, asking, now)]
    if broken:
        return Triage("data_broken", broken_reason(broken), (*asking, *broken))
    young = _too_young(asking, section.lasts_days)
    if young is not None:
        return Triage("nothing", young, tuple(asking))
    season = _season(asking, present, every, now)
    if season is not None:
        return Triage("season", season, tuple(asking))
    gravest = asking[0]
    days = _days(gravest, now)
    reason = f"{gravest.message} (for {days:.0f} days, on sound data)"
    return Triage("real", reason, tuple(asking))


def faults(findings: Iterable[Finding], champion: str | None) -> list[Finding]:
    """Faults of the data that are there now, of what serves."""
    return [
        finding
        for finding in findings
        if finding.open
        and _is_fault(finding)
        and finding.track != "challenger"
        and _is_of(finding, champion)
    ]


def broken_reason(broken: Sequence[Finding]) -> str:
    """One sentence about faults."""
    told = "; ".join(finding.message for finding in broken[:3])
    return f"the data are broken, so nothing is learned from them: {told}"


def _is_of(finding: Finding, champion: str | None) -> bool:
    """Whether it is about what serves; one without a release is of the whole model."""
    return champion is None or finding.release in ("", champion)


def _is_fault(finding: Finding) -> bool:
    return finding.type in BROKEN and finding.severity != "info"


def _nothing(present: Sequence[Finding]) -> Triage:
    drift = sorted({finding.subject or "the whole" for finding in present if _moved(finding)})
    if drift:
        told = ", ".join(drift[:3]) + (", …" if len(drift) > 3 else "")
        return Triage("nothing", f"what has moved ({told}) has not made the answers worse")
    return Triage("nothing", "no finding asks for a retraining")


def _moved(finding: Finding) -> bool:
    return finding.group == "drift"


def _spoils(finding: Finding, asking: Sequence[Finding], now: datetime) -> bool:
    """Whether it is a fault of the data that is there now, or was for most of what asks."""
    if not _is_fault(finding):
        return False
    if finding.open:
        return True
    begin, end = _moment(finding.since), _moment(finding.until or finding.seen)
    for other in asking:
        since = _moment(other.since)
        span = max(now - since, timedelta(seconds=1))
        if min(end, now) - max(begin, since) > _MOST * span:
            return True
    return False


def _too_young(asking: Sequence[Finding], least: int) -> str | None:
    """A finding has lasted from the start of its first window to the end of its newest."""
    longest = max(_moment(f.seen) - _moment(f.since) for f in asking)
    if longest >= timedelta(days=least):
        return None
    days = longest / timedelta(days=1)
    return f"{asking[0].message}: for {days:.1f} days, which is not yet the {least} it must last"


def _season(
    asking: Sequence[Finding], present: Sequence[Finding], every: Sequence[Finding], now: datetime
) -> str | None:
    """Why each of the asking findings is of the season; None when one is not."""
    reasons = [
        _passed_before(finding, every, now) or _only_estimated(finding, present)
        for finding in asking
    ]
    return None if any(reason is None for reason in reasons) else reasons[0]


def _passed_before(finding: Finding, every: Sequence[Finding], now: datetime) -> str | None:
    earlier = [
        other
        for other in every
        if other.until is not None
        and (other.type, other.subject) == (finding.type, finding.subject)
        and _moment(other.until) <= _moment(finding.since)
        and _outlived(other, every)
    ]
    longest = max((_days(other, now) for other in earlier), default=0.0)
    if not earlier or _days(finding, now) > longest:
        return None
    times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
    what = f"{finding.type} of {finding.subject}" if finding.subject else finding.type
    return f"{what} came and went by itself {times} before and lasted up to {longest:.0f} days then"


def _outlived(other: Finding, every: Sequence[Finding]) -> bool:
    """Whether its release was seen after it closed: one whose release ended did not pass."""
    return any(later.release == other.release and later.seen > str(other.until) for later in every)


def _only_estimated(finding: Finding, present: Sequence[Finding]) -> str | None:
    if finding.type not in _ESTIMATES:
        return None
    moved = [other for other in present if _moved(other)]
    if not moved or not all(_of_the_week(other) for other in moved):
        return None
    return "only an estimate is lower, and what moved lies where it lies at this time of the week"


def _of_the_week(finding: Finding) -> bool:
    """Whether a drift holds against training and not against the same hour of week."""
    holds = finding.evidence.get("holds")
    return isinstance(holds, dict) and holds.get("week") is False


def _days(finding: Finding, now: datetime) -> float:
    end = now if finding.until is None else _moment(finding.until)
    return (end - _moment(finding.since)) / timedelta(days=1)


def _moment(text: str) -> datetime:
    return parse_time(text, what="finding")
