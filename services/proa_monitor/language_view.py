"""What the page shows of a language release: topics then and now, and signals beside before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from proa.profile.language import LanguageState, mean_of_moments
from proa.profile.language_judge import LanguageJudge
from proa.profile.language_reference import LanguageReference
from proa.profile.rates import Mean

__all__ = ["language_view"]

_SHARES: Final = (
    ("refused", "refused", "rows"),
    ("nothing retrieved", "empty", "searched"),
    ("good feedback", "feedback_good", "feedback"),
    ("judged good", "w_good", "w"),
)
_MEANS: Final[tuple[tuple[str, str, str, bool], ...]] = (
    ("retrieval score", "retrieval_score", "cosine", False),
    ("grounded", "groundedness", "share", False),
    ("prompt from the cache", "cached", "share", False),
    ("characters of an answer", "answer_length", "characters", True),
    ("tokens in", "tokens_in", "tokens", True),
    ("tokens out", "tokens_out", "tokens", True),
)


def language_view(
    reference: LanguageReference | None,
    state: LanguageState,
    past: Sequence[tuple[str, LanguageState]] = (),
) -> dict[str, Any]:
    """`{"topics": [{"name", "then", "now", "rows", "holds"}], "signals": [{"name", "value",
    "reference", "unit"}]}`; `then` and `reference` are the release's reference, or the windows
    before where it says nothing; null where nothing is known."""
    return {"topics": _topics(reference, state, past), "signals": _signals(reference, state, past)}


def _topics(
    reference: LanguageReference | None,
    state: LanguageState,
    past: Sequence[tuple[str, LanguageState]],
) -> list[dict[str, Any]]:
    if reference is None or state.questions is None or state.digest != reference.digest:
        return []
    drift = [
        observation
        for observation in LanguageJudge(reference).observe("", state, past)
        if observation.type == "semantic_drift" and observation.subject == "questions"
    ]
    told = drift[0].evidence.get("topics", ()) if drift else ()
    holds = {topic["topic"]: topic["holds"] for topic in told}
    rows = state.questions.rows
    return [
        {
            "name": topic.name,
            "then": topic.share,
            "now": int(count) / rows if rows else None,
            "rows": int(count),
            "holds": holds.get(topic.name, False if holds else None),
        }
        for topic, count in zip(reference.topics, state.questions.topics, strict=True)
    ]


def _signals(
    reference: LanguageReference | None,
    state: LanguageState,
    past: Sequence[tuple[str, LanguageState]],
) -> list[dict[str, Any]]:
    windows = [window for _, window in past]
    found = []
    for name, hits, rows in _SHARES:
        before = _share([window.counts for window in windows], hits, rows)
        if before is None and reference is not None:
            before = _share([reference.counts], hits, rows)
        value = _share([state.counts], hits, rows)
        found.append({"name": name, "value": value, "reference": before, "unit": "share"})
    for name, key, unit, log in _MEANS:
        shown: Callable[[float], float] = math.expm1 if log else float
        before_mean = _mean([window.mean(key) for window in windows])
        if before_mean is None and reference is not None:
            before_mean = _mean([mean_of_moments(reference.moments.get(key, (0, 0, 0)))])
        now = _mean([state.mean(key)])
        found.append(
            {
                "name": name,
                "value": None if now is None else shown(now),
                "reference": None if before_mean is None else shown(before_mean),
                "unit": unit,
            }
        )
    return found


def _share(counts: Sequence[Any], hits: str, rows: str) -> float | None:
    total = sum(one.get(rows, 0) for one in counts)
    return sum(one.get(hits, 0) for one in counts) / total if total else None


def _mean(means: Sequence[Mean]) -> float | None:
    rows = sum(mean.rows for mean in means)
    return sum(mean.total for mean in means) / rows if rows else None
