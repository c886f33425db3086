"""What is shown of judgements in `/metrics`: open findings, quality, topics, how judging goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from proa.profile.language import LanguageState
from proa_monitor.evaluator import Evaluator
from proa_monitor.finding_store import FindingStore
from proa_monitor.judged import Judged
from proa_monitor.judges import Judges
from proa_monitor.references import Reference
from proa_monitor.signals import ModelSignals, ReleaseSignals
from proa_monitor.windows import Key, Track, Windows

__all__ = ["Figures"]

_GRAVITY: Final = {"critical": 0, "warning": 1, "info": 2}
_SHARES: Final[Mapping[str, tuple[str, ...]]] = {
    "refused": ("refused",),
    "cached": ("cached",),
    "no_source": ("empty",),
    "cut": ("finish:length",),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Reads what other parts hold in memory; asks no database.

    Args:
        counters: model → some of the counters of `ModelSignals`.
    """

    windows: Windows
    findings: FindingStore
    judged: Judged
    judges: Judges
    evaluator: Evaluator
    counters: Callable[[str], Mapping[str, int]]

    def releases(self) -> list[ReleaseSignals]:
        """One for each release in each place, and one for what is of no release."""
        open_by: dict[Key, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for finding in sorted(self.findings.open(), key=lambda f: _GRAVITY[f.severity]):
            key = Key(finding.model, finding.release, finding.track)
            open_by[key][finding.type].append(finding.subject)
        opened: dict[Key, dict[str, int]] = defaultdict(dict)
        for (model, release, place, kind), count in list(self.findings.totals.items()):
            opened[Key(model, release, place)][kind] = count
        tracks = dict(self.windows.tracks)
        found = []
        for key in {**tracks, **dict.fromkeys(open_by), **dict.fromkeys(opened)}:
            signals = self._of_track(tracks[key]) if key in tracks else None
            signals = signals or ReleaseSignals(key.labels)
            found.append(replace(signals, open=open_by[key], opened=opened[key]))
        return found

    def models(self) -> list[ModelSignals]:
        """One for each model."""
        judged, failures = self.evaluator.last_judged, self.judges.failures
        return [
            ModelSignals(
                model,
                last_judged=judged.get(model),
                judging_failures=failures[model],
                **self.counters(model),
            )
            for model in self.windows.models
        ]

    def _of_track(self, track: Track) -> ReleaseSignals:
        newest = self.judged.newest(track.key)
        seen = () if newest is None else self.judged.of(track.key, newest)
        signals = self.judges.figures.get(track.key) or ReleaseSignals(track.key.labels)
        agreement = next((o.effect for o in seen if o.type == "judge_agreement"), None)
        state = track.windows[track.newest].parts.language if track.newest else None
        more: dict[str, Any] = {}
        if state is not None:
            more = {"topics": _topics(state, track.reference), "answers": _answers(state)}
        return replace(
            signals, judged={one.type for one in seen}, judge_agreement=agreement, **more
        )


def _topics(state: LanguageState, reference: Reference) -> dict[str, float]:
    if state.questions is None or not state.questions.rows or reference.language is None:
        return {}
    shares = (state.questions.topics / state.questions.rows).tolist()
    names = [topic.name for topic in reference.language.topics]
    return dict(zip(names, shares, strict=False))


def _answers(state: LanguageState) -> dict[str, float]:
    rows, counts = state.rows, state.counts
    if not rows:
        return {}
    shares = {
        name: sum(counts.get(one, 0) for one in keys) / rows for name, keys in _SHARES.items()
    }
    shares["guarded"] = min(1.0, sum(state.named("guard").values()) / rows)
    if counts.get("feedback"):
        shares["disliked"] = 1 - counts.get("feedback_good", 0) / counts["feedback"]
    if counts.get("judged"):
        shares["judged_bad"] = 1 - counts.get("judged_good", 0) / counts["judged"]
    return shares
