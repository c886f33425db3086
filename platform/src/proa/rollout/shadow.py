"""The step before a canary: the challenger answers copies of calls, and nobody is served by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from proa.ledger.tally import Tally
from proa.rollout.analysis import Analysis, analyse
from proa.rollout.policy import Policy, Shadow
from proa.rollout.sequence import Interval

__all__ = ["Truth", "analyse_shadow"]


@dataclass(frozen=True, slots=True)
class Truth:
    """What later labels say of both releases' answers to the same calls.

    Attributes:
        labels: shadow answers whose truth is known.
        metric: `brier`, `accuracy` (as its loss, 1 - hit) or `absolute_error`.
        excess: the candidate's mean loss minus the champion's, with its interval by unit; None
            below ten labelled units.
        margin: how much excess is none: a twentieth of the champion's own loss.
    """

    labels: int
    metric: str
    excess: Interval | None
    margin: float


def analyse_shadow(
    copies: Tally | None,
    champion: Tally | None,
    policy: Policy,
    *,
    baseline: Tally | None,
    seconds: float,
    truth: Truth | None,
) -> Analysis:
    """Judge a shadow step: as a canary's, on the copied calls, and by labels when asked to.

    Args:
        copies: the challenger's answers to copied calls.
        seconds: since the step began.
        truth: None while the monitor cannot say.
    """
    asked = policy.shadow or Shadow()
    rule = policy if not asked.units else replace(policy, minimum_units=asked.units)
    found = analyse(copies, champion, rule, kind="classic", baseline=baseline)
    if copies is None or found.value != "pass":
        return _told(found, copies)
    if seconds < asked.seconds:
        reason = f"{seconds:.0f} of {asked.seconds:g} s in the shadow"
        return _told(replace(found, value="inconclusive", reason=reason), copies)
    if asked.labels:
        return _told(_labelled(found, asked.labels, truth), copies)
    return _told(found, copies)


def _labelled(found: Analysis, wanted: int, truth: Truth | None) -> Analysis:
    if truth is None:
        return replace(found, value="inconclusive", reason="the monitor does not tell the labels")
    if truth.labels < wanted or truth.excess is None:
        reason = f"{truth.labels} of {wanted} labels have come"
        return replace(found, value="inconclusive", reason=reason)
    said = (
        f"{truth.metric} by {truth.labels} labels: {truth.excess.estimate:+.4g} "
        f"[{truth.excess.low:+.4g}, {truth.excess.high:+.4g}], margin {truth.margin:.4g}"
    )
    if truth.excess.low > truth.margin:
        return replace(found, value="fail", reason=f"worse by the labels: {said}")
    if truth.excess.high >= truth.margin:
        return replace(found, value="inconclusive", reason=f"labels do not decide yet: {said}")
    return replace(found, reason=f"{found.reason}; {said}")


def _told(found: Analysis, copies: Tally | None) -> Analysis:
    """The sentence says how often both decided alike."""
    agreed = None if copies is None else copies.of("agreed")
    if agreed is None or not agreed.calls:
        return replace(found, reason=f"shadow: {found.reason}")
    alike = f"{agreed.mean:.1%} of {agreed.calls} calls decided alike"
    return replace(found, reason=f"shadow: {found.reason}; {alike}")
