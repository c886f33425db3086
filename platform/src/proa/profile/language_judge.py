"""Judges a window of a language release: what is asked and answered, found, refused, liked.

Embeddings are compared by two tests, each alone enough: the kernel statistic of random features,
whose null follows from the reference's own covariance and its blocks, and the exact test of every
topic's share, which names the topic that grew. Both against the release's reference and against
the windows before, since exams ask other things than people do. Everything else is a share or a
mean compared with windows before (`proa.profile.rates`), or with the reference while there are
too few of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proa.findings.observation import Observation, Severity
from proa.profile.language import LanguageState, mean_of_moments
from proa.profile.language_reference import LanguageReference
from proa.profile.rates import (
    BLOCKS,
    LEVEL,
    Compared,
    Direction,
    Mean,
    Rate,
    compare_means,
    compare_rates,
    wilson,
)
from proa.profile.semantic import SemanticJudge

__all__ = ["LanguageJudge"]

_ENOUGH_JUDGED: Final = 30
_BAD: Final = 0.5
"""A judged share of good answers that is proven to lie below is bad, whatever it was before."""


@dataclass(frozen=True, slots=True)
class _RateRule:
    """A share to be watched: `hits` of `rows`, names of counts; `floor` in shares."""

    type: str
    subject: str
    hits: str
    rows: str
    floor: float
    direction: Direction
    text: str
    severity: Severity = "warning"


@dataclass(frozen=True, slots=True)
class _MeanRule:
    """A mean to be watched; `floor` in standard deviations; `log`: of logarithms."""

    type: str
    subject: str
    name: str
    floor: float
    direction: Direction
    text: str
    log: bool = False
    severity: Severity = "warning"


_RATES: Final = (
    _RateRule("refusals", "", "refused", "rows", 0.02, "up", "of the questions were turned down"),
    _RateRule("retrieval", "empty", "empty", "searched", 0.02, "up", "of the searches found none"),
    _RateRule("feedback", "", "feedback_good", "feedback", 0.05, "down", "of the feedback is good"),
)  # fmt: skip
_MEANS: Final = (
    _MeanRule("retrieval", "score", "retrieval_score", 0.2, "down", "is the mean best cosine"),
    _MeanRule("groundedness", "", "groundedness", 0.2, "down", "of an answer is in its passages"),
    _MeanRule("cache", "", "cached", 0.2, "down", "of a prompt's tokens came from the cache",
              severity="info"),
    _MeanRule("length", "answer", "answer_length", 0.3, "both", "characters has it", log=True),
    _MeanRule("tokens", "in", "tokens_in", 0.3, "up", "tokens go in for an answer", log=True),
    _MeanRule("tokens", "out", "tokens_out", 0.3, "up", "tokens come out for an answer", log=True),
)  # fmt: skip
_ENDINGS: Final = ("length", "content_filter", "error", "cancelled", "none")
"""Ways an answer should not end; `stop` is the good one."""


class LanguageJudge:
    """What is ordinary for one release; made once, then asked for every window.

    Args:
        reference: None when the release has none: then only windows before are looked at.
    """

    def __init__(self, reference: LanguageReference | None) -> None:
        self._reference = reference
        self._semantic = None if reference is None else SemanticJudge(reference)

    def observe(
        self,
        name: str,
        state: LanguageState,
        past: Sequence[tuple[str, LanguageState]] = (),
        *,
        release: str = "",
    ) -> list[Observation]:
        """Everything that was looked at, what is in order included.

        Args:
            name: of the window.
            state: what the release met in it.
            past: windows of the same length before it, oldest first; of an earlier release too.
            release: named in evidence.
        """
        before = [window for _, window in past]
        found = [self._rate(rule, state, before) for rule in _RATES]
        found += [self._mean(rule, state, before) for rule in _MEANS]
        found += self._named("finish_reason", "finish", "calls", state, before)
        found += self._named("guard", "guard", "rows", state, before)
        found.append(_judged(state, before))
        if self._reference is not None and self._semantic is not None:
            found += _index_age(self._reference, state)
            found.append(_embedder(self._reference, state))
            found += self._semantic.observe(state, before)
        about = {"window": name, "release": release}
        for observation in found:
            assert isinstance(observation.evidence, dict)
            observation.evidence.update(about)
        return found

    def _rate(
        self, rule: _RateRule, state: LanguageState, past: Sequence[LanguageState]
    ) -> Observation:
        def rate(counts: Mapping[str, int]) -> Rate:
            return Rate(counts.get(rule.hits, 0), counts.get(rule.rows, 0))

        now, before = rate(state.counts), [rate(window.counts) for window in past]
        compared = compare_rates(now, before, floor=rule.floor, direction=rule.direction)
        # Exams are not traffic: a share that the reference does not speak of is not compared to it.
        told = self._reference is not None and rule.hits in self._reference.counts
        if compared.holds is None and told and self._reference is not None:
            own = compare_rates(
                now,
                [rate(self._reference.counts)],
                floor=rule.floor,
                direction=rule.direction,
                independent=True,
            )
            compared = own if own.holds is not None else compared
        return _share(rule.type, rule.subject, rule.text, compared, now, rule.severity)

    def _mean(
        self, rule: _MeanRule, state: LanguageState, past: Sequence[LanguageState]
    ) -> Observation:
        now, before = state.mean(rule.name), [window.mean(rule.name) for window in past]
        compared = compare_means(now, before, floor=rule.floor, direction=rule.direction)
        if compared.holds is None and self._reference is not None:
            own = mean_of_moments(self._reference.moments.get(rule.name, (0, 0, 0)))
            alone = compare_means(
                now, [own], floor=rule.floor, direction=rule.direction, independent=True
            )
            compared = alone if alone.holds is not None else compared
        return _number(rule, compared, now)

    def _named(
        self,
        kind: str,
        family: str,
        rows: str,
        state: LanguageState,
        past: Sequence[LanguageState],
    ) -> list[Observation]:
        """One observation per finish reason or guard rule that ever came up."""
        windows = [state, *past]
        names = {name for window in windows for name in window.named(family)}
        names = names & set(_ENDINGS) if kind == "finish_reason" else names
        found = []
        for name in sorted(names):
            key = f"{family}:{name}"
            now = Rate(state.counts.get(key, 0), state.counts.get(rows, 0))
            before = [Rate(w.counts.get(key, 0), w.counts.get(rows, 0)) for w in past]
            compared = compare_rates(now, before, floor=0.02)
            text = (
                f"of the answers ended with {name}"
                if kind == "finish_reason"
                else f"of the questions met the rule {name}"
            )
            found.append(_share(kind, name, text, compared, now))
        return found


def _judged(state: LanguageState, past: Sequence[LanguageState]) -> Observation:
    """Weighted judgements: each stands for as many answers as were not sampled beside it."""
    now = _weighted(state)
    compared = compare_rates(now, [_weighted(w) for w in past], floor=0.05, direction="down")
    low, high = wilson(now.hits, now.rows)
    bad = now.rows >= _ENOUGH_JUDGED and high < _BAD
    if bad and not compared.holds:
        compared = Compared(True, now.share, compared.before, _BAD)
    elif compared.holds is None and now.rows >= _ENOUGH_JUDGED:
        compared = Compared(False, now.share, compared.before, _BAD)
    text = "of the answers are good in the judge's eyes"
    made = _share("judged_quality", "", text, compared, now)
    assert isinstance(made.evidence, dict)
    made.evidence.update({"low": round(low, 4), "high": round(high, 4)})
    made.evidence["judged"] = state.counts.get("judged", 0)
    return made


def _weighted(state: LanguageState) -> Rate:
    """The share of good answers in the traffic, with the rows an even sample would need."""
    counts = state.counts
    weight, squares = counts.get("w", 0), counts.get("w_square", 0)
    if not weight:
        return Rate(0.0, 0.0)
    rows = weight * weight / squares
    return Rate(counts.get("w_good", 0) / weight * rows, rows)


def _index_age(reference: LanguageReference, state: LanguageState) -> list[Observation]:
    """How old the index's newest document is when answers are given."""
    most = reference.index_max_age_days
    newest = state.newest or str((reference.index or {}).get("newest") or "")
    if most is None or not newest:
        return []
    age = None
    if state.last:
        try:
            made, last = (datetime.fromisoformat(text) for text in (newest, state.last))
            age = (last - made).total_seconds() / 86_400
        except (ValueError, TypeError):
            age = None
    message = (
        "no answer says how old the index is"
        if age is None
        else f"the newest document of the index is {age:.0f} days old; at most {most:g} are allowed"
    )
    return [
        Observation(
            "index_stale",
            "",
            None if age is None else age > most,
            age,
            most,
            "days",
            message,
            evidence={"newest": newest, "last": state.last, "indexes": len(state.named("index"))},
        )
    ]


def _embedder(reference: LanguageReference, state: LanguageState) -> Observation:
    """Vectors of another embedder cannot be compared: that is said, never glossed over."""
    others = state.named("embedder")
    other, own = sum(others.values()), 0 if state.questions is None else state.questions.rows
    if not other:
        return Observation("schema", "embedder", False, 0.0, 0.0, "share",
                           f"all {own} embeddings are of {reference.embedder_name}")  # fmt: skip
    message = (
        f"{other} of {other + own} answers carry embeddings of another embedder than the "
        f"reference's {reference.embedder_name}: their questions are not compared; make a release "
        "with the embedder in use"
    )
    return Observation(
        "schema",
        "embedder",
        True,
        other / (other + own),
        0.0,
        "share",
        message,
        severity="critical",
        evidence={"reference": reference.embedder, "met": dict(sorted(others.items())[:5])},
    )


def _share(
    kind: str,
    subject: str,
    text: str,
    compared: Compared,
    now: Rate,
    severity: Severity = "warning",
) -> Observation:
    evidence = _evidence(compared) | {"hits": round(now.hits, 1), "rows": round(now.rows, 1)}
    if compared.now is None or compared.limit is None:
        message = f"{now.rows:.0f} rows{_needed(compared)}"
    else:
        message = f"{compared.now:.1%} {text}{_against(compared, lambda x: f'{x:.1%}')}"
    return Observation(
        kind, subject, compared.holds, compared.now, compared.limit, "share", message,
        severity=severity, evidence=evidence,
    )  # fmt: skip


def _number(rule: _MeanRule, compared: Compared, now: Mean) -> Observation:
    def plain(value: float | None) -> float | None:
        return math.expm1(value) if rule.log and value is not None else value

    shown = Compared(
        compared.holds,
        plain(compared.now),
        plain(compared.before),
        plain(compared.limit),
        compared.design,
        compared.blocks,
    )
    unit = {"length": "characters", "tokens": "tokens", "retrieval": "cosine"}.get(
        rule.type, "share"
    )

    def say(value: float) -> str:
        if rule.log:
            return f"{value:.0f}"
        return f"{value:.1%}" if unit == "share" else f"{value:.3f}"

    if shown.now is None or shown.limit is None:
        message = f"{now.rows} rows{_needed(shown)}"
    else:
        message = f"{say(shown.now)} {rule.text}{_against(shown, say)}"
    return Observation(
        rule.type, rule.subject, shown.holds, shown.now, shown.limit, unit, message,
        severity=rule.severity, evidence=_evidence(shown) | {"rows": now.rows},
    )  # fmt: skip


def _needed(compared: Compared) -> str:
    return (
        ": too few to say anything"
        if compared.before is not None
        else f": nothing to compare with yet ({BLOCKS} windows are needed)"
    )


def _against(compared: Compared, say: object) -> str:
    assert callable(say)
    if compared.before is None or compared.limit is None:
        return "" if compared.limit is None else f"; {say(compared.limit)} would be ordinary"
    source = f"in the {compared.blocks} windows before" if compared.blocks else "in the reference"
    return f", {say(compared.before)} {source}; {say(compared.limit)} would be ordinary"


def _evidence(compared: Compared) -> dict[str, object]:
    return {
        "before": compared.before,
        "blocks": compared.blocks,
        "design_effect": round(compared.design, 3),
        "level": LEVEL,
    }
