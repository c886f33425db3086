"""Every judge of one window, each on its own: what one of them cannot say hides no other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from proa.findings.observation import Observation
from proa.profile.judge import WindowJudge
from proa.profile.language import LanguageState
from proa.profile.language_judge import LanguageJudge
from proa.profile.operation import judge_cost, judge_operation
from proa.profile.window import WindowState
from proa_monitor.costs import WindowCosts
from proa_monitor.opinions import Opinions, judge_agreement
from proa_monitor.quality import QualityWatch
from proa_monitor.quality_view import quality_signals
from proa_monitor.references import Reference
from proa_monitor.signals import ReleaseSignals
from proa_monitor.traffic import Traffic
from proa_monitor.window_parts import OTHER, Parts
from proa_monitor.windows import Key

__all__ = ["Judges", "Occasion"]

DRIFT: Final = frozenset({"feature_drift", "prediction_drift", "semantic_drift"})
_log = logging.getLogger(__name__)

Past = Sequence[tuple[str, Parts]]


@dataclass(frozen=True, slots=True)
class Occasion:
    """One window to be judged.

    Attributes:
        name, end: of the window; `end` in RFC 3339.
        live: whether its calls were made in it, by the wall clock.
        seasons: windows of the same hour of the week before it, oldest first.
        before: windows right before it, oldest first.
        traffic_before: traffic of those.
        shared: whether another release answered in it too: then its rows say nothing of how many
            there were.
    """

    model: str
    release: str
    track: str
    name: str
    end: str
    reference: Reference
    parts: Parts
    traffic: Traffic
    seasons: Past
    before: Past
    traffic_before: Sequence[Traffic]
    live: bool = False
    shared: bool = False


class Judges:
    """Holds what is made once per release.

    Args:
        quality: says how good the answers were, once the truth is known.
        opinions: says whether the sampled judge and people agree.
        costs: what the calls of a window cost.

    Attributes:
        failures: judges that raised, by model.
        figures: of quality, by track, as of the newest window that was judged.
    """

    def __init__(self, quality: QualityWatch, opinions: Opinions, costs: WindowCosts) -> None:
        self._quality, self._opinions, self._costs = quality, opinions, costs
        self._made: dict[tuple[str, str], WindowJudge] = {}
        self._talk: dict[str, LanguageJudge] = {}
        self.failures: Counter[str] = Counter()
        self.figures: dict[Key, ReleaseSignals] = {}

    def observe(self, asked: Occasion, anchor: Reference | None) -> list[Observation]:
        """What every judge sees in a window."""
        seen: list[Observation] = []
        for judge in (
            *(self._data, self._slices, self._language, self._operation, self._cost),
            *(self._truth, self._agreement),
        ):
            seen += self._safely(asked, lambda j=judge: j(asked, anchor))  # type: ignore[misc]
        return seen

    def drift(self, asked: Occasion, anchor: Reference | None) -> list[Observation]:
        """Only how far a longer window has moved."""
        seen = self._safely(asked, lambda: self._data(asked, anchor))
        seen += self._safely(asked, lambda: self._language(asked, anchor))
        return [one for one in seen if one.type in DRIFT]

    def truth(self, asked: Occasion) -> list[Observation]:
        """Only what labels say."""
        return self._safely(asked, lambda: self._truth(asked, None))

    def show(self, key: Key, now: str) -> None:
        """Have the figures of quality of a release ready for `/metrics`."""
        found = quality_signals(self._quality, *key, now=now)
        self.figures[key] = ReleaseSignals(
            key.labels,
            quality=found.quality,
            rows=found.rows,
            label_coverage=found.label_coverage,
            label_delay=found.label_delay,
            fairness=found.fairness,
        )

    def forget(self, model: str, now: str) -> None:
        """Let go of truths that are older than what is kept."""
        self._quality.truths.forget(model, now)

    def _safely(
        self, asked: Occasion, judge: Callable[[], Iterable[Observation]]
    ) -> list[Observation]:
        try:
            return list(judge())
        except Exception:
            self.failures[asked.model] += 1
            if self.failures[asked.model] & (self.failures[asked.model] - 1) == 0:
                _log.exception("%s of %s could not be judged", asked.name, asked.release)
            return []

    def _data(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        judge, counts = self._judge(asked, anchor), asked.parts.counts
        if judge is None or counts is None:
            return
        past = _states(asked.seasons, counts.digest)
        for seen in judge.observe(asked.name, counts, past, release=asked.release):
            unsaid = asked.shared and seen.type == "volume"
            yield replace(seen, holds=None) if unsaid else seen

    def _slices(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        judge = self._judge(asked, anchor)
        if judge is None:
            return
        for name, state in sorted(asked.parts.slices.items()):
            if name.endswith(f"={OTHER}"):
                continue
            past = [(n, p.slices[name]) for n, p in asked.before if name in p.slices]
            past = [(n, s) for n, s in past if s.digest == state.digest]
            yield from judge.observe_segment(
                asked.name, state, past, release=asked.release, segment=name
            )

    def _language(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        state = asked.parts.language
        if state is None:
            return ()
        judge = self._talk.get(asked.release)
        if judge is None:
            judge = self._talk[asked.release] = LanguageJudge(asked.reference.language)
        past: list[tuple[str, LanguageState]] = [
            (name, parts.language) for name, parts in asked.before if parts.language is not None
        ]
        return judge.observe(asked.name, state, past, release=asked.release)

    def _operation(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        return judge_operation(asked.traffic, asked.traffic_before)

    def _cost(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        """Of windows lived as they were called: a replay's calls were paid on another day."""
        if not asked.live:
            return
        money = self._costs.of(asked.model, asked.name)
        past = [self._costs.of(asked.model, name) for name, _ in asked.before]
        if money is not None:
            yield judge_cost(money, [one for one in past if one is not None])

    def _agreement(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        if asked.parts.language is not None:
            for source in ("label", "feedback"):
                found = self._opinions.agreement(asked.model, source=source)
                yield judge_agreement(found, source)

    def _truth(self, asked: Occasion, anchor: Reference | None) -> Iterable[Observation]:
        if "T" in asked.name and not asked.name.endswith("T23"):
            return ()  # truth is judged by the day
        return self._quality.observe(asked.model, asked.release, asked.track, now=asked.end)

    def _judge(self, asked: Occasion, anchor: Reference | None) -> WindowJudge | None:
        profile = asked.reference.profile
        if profile is None:
            return None
        first = None if anchor is None else anchor.profile
        name = (asked.release, "" if first is None else first.digest)
        judge = self._made.get(name)
        if judge is None:
            judge = self._made[name] = WindowJudge(profile, first)
        return judge


def _states(past: Past, digest: str) -> list[tuple[str, WindowState]]:
    return [
        (name, parts.counts)
        for name, parts in past
        if parts.counts is not None and parts.counts.digest == digest
    ]
