"""Judging windows of a language release: each thing seen when it is there, and not when not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from proa.errors import InvalidInput
from proa.events.event import judgement_event
from proa.findings.observation import Observation
from proa.profile.language import LanguageState
from proa.profile.language_build import Embedded, build_language
from proa.profile.language_judge import LanguageJudge
from proa.profile.language_reference import parse_language
from proa.profile.semantic import mixture_quantile
from tests.unit.profile.questions import EMBEDDER, answer, ask, reference

JUDGE = LanguageJudge(reference())


def window(seed: int, rows: int = 300, *, share: float | None = None, **more: Any) -> LanguageState:
    """A window of answers; what is in `more` is a value, or a function of the row's number."""
    state = LanguageState.of(reference())
    vectors = ask(seed, rows, share=share)
    state.add(
        [
            answer(
                seed * 1000 + k,
                vector=vectors[k],
                **{name: value(k) if callable(value) else value for name, value in more.items()},
            )
            for k in range(rows)
        ],
        reference(),
    )
    return state


PAST = [(f"2013-03-{day:02}", window(day)) for day in range(1, 11)]


def seen(
    state: LanguageState, past: Sequence[tuple[str, LanguageState]] = PAST
) -> dict[tuple[str, str], Observation]:
    found = JUDGE.observe("2013-04-01", state, past, release="r")
    keys = [(one.type, one.subject) for one in found]
    assert len(set(keys)) == len(keys)
    assert all(len(orjson.dumps(one.evidence)) < 4096 for one in found)
    return dict(zip(keys, found, strict=True))


def holding(found: dict[tuple[str, str], Observation]) -> set[tuple[str, str]]:
    return {key for key, one in found.items() if one.holds is True}


def test_ordinary_windows_show_nothing() -> None:
    for seed in range(20, 35):
        assert holding(seen(window(seed))) == set()


def test_a_topic_that_grew_is_seen_and_named() -> None:
    found = seen(window(99, 1000, share=0.25))
    assert holding(found) == {
        ("semantic_drift", "questions"),
        ("semantic_drift", "questions, lately"),
    }
    drift = found["semantic_drift", "questions"]
    assert "grew from" in drift.message
    assert drift.effect is not None
    assert drift.limit is not None
    assert drift.effect > drift.limit
    own = reference().topics_of(ask(0, 50, share=1.0))
    names = {reference().topics[k].name for k in np.unique(own)}
    assert drift.evidence["topics"][0]["topic"] in names
    assert all("topic" in word or "word" in word for name in names for word in name.split(", "))


def test_questions_of_no_topic_are_seen() -> None:
    """A fifth of the questions is about something that the reference knows nothing of."""
    strange = np.random.default_rng(5).normal(size=(100, 48))
    vectors = np.concatenate([ask(3, 400), strange / np.linalg.norm(strange, axis=1)[:, None]])
    state = LanguageState.of(reference())
    state.add([answer(k, vector=v) for k, v in enumerate(vectors)], reference())
    found = seen(state)
    assert found["semantic_drift", "questions"].holds is True
    assert found["semantic_drift", "questions"].evidence["topics"][0]["topic"] == "none of them"


def test_few_questions_say_nothing() -> None:
    found = seen(window(1, 60, share=1.0), past=())
    assert found["semantic_drift", "questions"].holds is None
    assert found["semantic_drift", "questions, lately"].holds is None


def test_another_embedder_is_said_loudly_and_not_compared() -> None:
    state = window(1, 200, share=1.0)
    other, foreign = LanguageState.of(reference()), ask(1, 1)[0]
    events = [answer(k, vector=foreign, embedder="sha256:x") for k in range(200)]
    other.add(events, reference())
    found = seen(other)
    assert found["schema", "embedder"].holds is True
    assert found["schema", "embedder"].severity == "critical"
    assert found["semantic_drift", "questions"].holds is None
    assert seen(state)["schema", "embedder"].holds is False


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"refused": lambda k: k % 4 == 0}, ("refusals", "")),
        ({"retrieved": [{"id": "a", "title": "A", "score": 0.4}]}, ("retrieval", "score")),
        ({"answer": "No."}, ("length", "answer")),
        ({"tokens_in": lambda k: 900 + k % 50}, ("tokens", "in")),
        ({"tokens_out": lambda k: 90 + k % 20}, ("tokens", "out")),
        ({"finish_reason": lambda k: "length" if k % 5 == 0 else "stop"},
         ("finish_reason", "length")),
        ({"guard": lambda k: [{"rule": "pii"}] if k % 8 == 0 else []}, ("guard", "pii")),
    ],
)  # fmt: skip
def test_each_signal_is_seen_alone(change: dict[str, Any], key: tuple[str, str]) -> None:
    found = seen(window(50, **change))
    assert key in holding(found)
    assert {kind for kind, _ in holding(found)} == {key[0]}
    assert found[key].effect != found[key].limit


@pytest.mark.parametrize(
    ("name", "good", "bad", "key"),
    [
        ("groundedness", lambda k: 0.8 + 0.02 * (k % 10), 0.4, ("groundedness", "")),
        ("tokens_cached", lambda k: 200 + k % 30, 10, ("cache", "")),
    ],
)
def test_optional_signals_are_seen(name: str, good: Any, bad: Any, key: tuple[str, str]) -> None:
    past = [(str(day), window(day, 100, **{name: good})) for day in range(6)]
    assert seen(window(51, 100, **{name: good}), past)[key].holds is False
    assert seen(window(51, 100, **{name: bad}), past)[key].holds is True
    assert seen(window(51, 100), past)[key].holds is None


def judged(seed: int, good: int, rows: int = 60) -> LanguageState:
    state = LanguageState.of(reference())
    state.add(
        judgement_event(
            answer(seed * 100 + k), event_id="0" * 26, name="helpful", score=5 if k < good else 1,
            good=k < good, judge="j", digest="d", weight=20.0, tokens=1,
        )
        for k in range(rows)
    )  # fmt: skip
    return state


def test_judged_quality_falls_or_is_bad_from_the_start() -> None:
    past = [(str(day), judged(day, 52 + day % 3)) for day in range(6)]
    assert seen(judged(9, 53), past)["judged_quality", ""].holds is False
    assert seen(judged(9, 25), past)["judged_quality", ""].holds is True
    assert seen(judged(9, 20), ())["judged_quality", ""].holds is True
    assert seen(judged(9, 50), ())["judged_quality", ""].holds is False
    assert seen(judged(9, 0, rows=10), ())["judged_quality", ""].holds is None


def test_an_index_grows_old() -> None:
    def aged(newest: str) -> Observation:
        index = {"digest": "sha256:i", "documents": 3, "newest": newest}
        return seen(window(1, 40, index=index))["index_stale", ""]

    assert aged("2013-03-20T00:00:00Z").holds is False
    assert aged("2013-02-01T00:00:00Z").holds is True
    assert aged("last week").holds is None
    assert aged("2013-03-20T00:00:00Z").unit == "days"


def test_without_a_reference_the_windows_before_speak() -> None:
    def plain(refused: bool) -> LanguageState:
        state = LanguageState.of(None)
        state.add([answer(k, refused=refused and k % 2 == 0) for k in range(100)])
        return state

    past = [(str(day), plain(False)) for day in range(6)]
    found = LanguageJudge(None).observe("w", plain(True), past)
    assert {(o.type, o.subject) for o in found if o.holds} == {("refusals", "")}
    assert not [o for o in found if o.type == "semantic_drift"]


def test_odd_states_make_no_judge_fall() -> None:
    for state in (LanguageState.of(reference()), LanguageState.of(None), window(1, 1)):
        assert holding(seen(state)) == set()
        assert holding(seen(state, ())) == set()


def test_the_quantile_of_a_mixture_is_the_simulated_one() -> None:
    weights = 0.9 ** np.arange(60)
    spectrum = (float(weights.sum()), float((weights**2).sum()), float((weights**3).sum()))
    drawn = np.random.default_rng(0).chisquare(1, size=(40_000, 60)) @ weights
    for level in (0.1, 0.01, 0.0025):
        wanted = float(np.quantile(drawn, 1 - level))
        assert mixture_quantile(spectrum, level) == pytest.approx(wanted, rel=0.04)


def test_blocks_of_the_reference_are_ordinary() -> None:
    judge = LanguageJudge(reference(blocks=True))
    assert len(reference(blocks=True).questions.blocks) == 30
    for seed in range(70, 90):
        state = LanguageState.of(reference(blocks=True))
        assert state.questions is not None
        state.questions.add(reference(blocks=True), ask(seed, 300))
        found = judge.observe("w", state)
        assert [o.holds for o in found if o.subject == "questions"] == [False]


def test_a_reference_of_another_form_is_refused() -> None:
    for data in (b"{}", b"[]", b"no", orjson.dumps({"schema_version": 9})):
        with pytest.raises(InvalidInput, match=r"language\.json"):
            parse_language(data)
    with pytest.raises(InvalidInput, match="at least 50"):
        build_language(questions=Embedded(["why"] * 9, ask(0, 9)), embedder=EMBEDDER,
                       embedder_name="n")  # fmt: skip
