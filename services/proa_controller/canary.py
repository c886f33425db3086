"""What the controller knows of a canary: tallies, asked of the gateways as often as they bear."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from proa.http.clock import rfc3339
from proa.ledger.tally import Tally
from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Analysis, analyse
from proa.rollout.shadow import Truth, analyse_shadow
from proa.rollout.state import Rollout
from proa_controller.gateways import Gateways

__all__ = ["Canaries"]

_SHARE: Final = 10
"""At most one part in so many of the time is spent asking."""
_NOTHING: Final = Tally()

Truths = Callable[[str, str, ReleaseRef, ReleaseRef, int], Truth | None]
"""Model, since, candidate, champion, labels wanted → what later labels say; None: nobody tells."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One answer, of what, and until when it will do (seconds of the monotonic clock)."""

    of: tuple[object, ...]
    analysis: Analysis
    until: float


@dataclass
class Canaries:
    """Analyses of every model's present step; the baselines, which no longer change."""

    gateways: Gateways
    truths: Truths | None = None
    _looks: dict[str, _Look] = field(default_factory=dict)
    _baselines: dict[str, tuple[tuple[object, ...], Tally]] = field(default_factory=dict)

    def analysis(self, state: Rollout, wall: float) -> Analysis | None:
        """The judgement of the present step; None while its weights are not in force."""
        if state.phase != "canary" or state.step_since is None:
            self._looks.pop(state.model, None)
            return None
        of = (state.candidate, state.champion, state.step, state.step_since)
        look = self._looks.get(state.model)
        began = time.monotonic()
        if look is None or look.of != of or began >= look.until:
            analysis = self._analyse(state, state.step_since, wall)
            spent = time.monotonic() - began
            look = self._looks[state.model] = _Look(of, analysis, began + _SHARE * spent)
        return look.analysis

    def _analyse(self, state: Rollout, since: float, wall: float) -> Analysis:
        candidate, champion, policy = state.candidate, state.champion, state.policy
        if candidate is None or champion is None:
            return analyse(None, None, policy)
        shadow = policy.shadow if policy.weights[state.step] == 0 else None
        users = self.gateways.tallies(state.model, _text(since))
        if users is None:
            return analyse(None, None, policy)
        baseline = self._baseline(state, champion)
        there = users.get(champion, _NOTHING)
        if shadow is None:
            found = users.get(candidate, _NOTHING)
            return analyse(found, there, policy, kind=state.kind, baseline=baseline)
        copies = self.gateways.tallies(state.model, _text(since), purpose="shadow")
        truth = None
        if shadow.labels and self.truths is not None:
            truth = self.truths(state.model, _text(since), candidate, champion, shadow.labels)
        return analyse_shadow(
            None if copies is None else copies.get(candidate, _NOTHING),
            there,
            policy,
            baseline=baseline,
            seconds=wall - since,
            truth=truth,
        )

    def _baseline(self, state: Rollout, champion: ReleaseRef) -> Tally | None:
        until, back = state.baseline_until, state.policy.baseline_seconds
        if until is None or not back:
            return None
        of, (known, tally) = (champion, until), self._baselines.get(state.model, ((), _NOTHING))
        if known != of:
            window: Mapping[ReleaseRef, Tally] | None = self.gateways.tallies(
                state.model, _text(until - back), until=_text(until)
            )
            if window is None:
                return None
            tally = window.get(champion, _NOTHING)
            self._baselines[state.model] = (of, tally)
        return tally


def _text(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
