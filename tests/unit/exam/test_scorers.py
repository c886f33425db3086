"""Scorers: each expectation, met and unmet; what is missing is never a pass.

Faked: the embedder (vectors chosen by the test) and the judge (a fixed rating); the real ones are
in `test_judge.py` and in `tests/services`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from proa.exam.exam import GoldenTask
from proa.exam.grounding import groundedness, sentences
from proa.exam.scorers import (
    Aids,
    Expect,
    Rating,
    Rubric,
    Scored,
    Spoken,
    consistency,
    refuses,
    score,
)

CITED = ({"id": "stdtypes#3:ab", "source": "pydoc:stdtypes", "title": "Built-in Types"},)


def words(texts: list[str]) -> Any:
    """Vectors of the words of a text, so that texts with the same words lie close."""
    vocabulary = sorted({word for text in texts for word in text.casefold().split()})
    vectors = np.zeros((len(texts), len(vocabulary) + 1), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.casefold().split():
            vectors[row, vocabulary.index(word)] += 1
        vectors[row, -1] += 1e-6
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Fixed:
    """A judge that gives every answer one rating."""

    def __init__(self, score: int | None, *, decides: bool) -> None:
        self.score, self.decides = score, decides
        self.asked: list[tuple[str, str]] = []

    def rate(self, *, rubric: Rubric, question: str, answer: str) -> Rating:
        self.asked.append((question, answer))
        return Rating(self.score, "" if self.score else "not JSON: 'well'")


@pytest.mark.parametrize(
    ("expect", "good", "bad"),
    [
        ({"contains": ["immutable"]}, "Tuples are  IMMUTABLE.", "Tuples never change."),
        ({"contains": ["straße"]}, "Die STRASSE heißt so.", "Der Weg heißt so."),
        ({"contains": ["14"]}, "It is 14 days", ""),
        ({"contains_any": ["immutable", "not\nchange"]}, "They do not change", "They are short"),
        ({"absent": ["4111 1111"]}, "No.", "It is 4111  1111."),
        ({"absent": ["SŁONECZNIK"]}, "A list is called lista.", "słonecznik"),
        ({"regex": r"\bTrue\b.*False"}, "either true or False", "yes or no"),
        ({"regex": r"\A\S"}, "x", ""),
        ({"exact": "Yes."}, " yes. ", "Yes!"),
        ({"refuses": True}, "I'm sorry, but I cannot help.", "Of course: you cannot slice."),
        ({"refuses": False}, "A tuple cannot be changed.", "I can't answer this."),
        ({"json_schema": {"type": "object", "required": ["name"]}}, '{"name": 1}', '{"other": 1}'),
        ({"json_schema": {"type": "array"}}, "[]", "The list is []"),
        ({"json_schema": {"const": True}}, "true", ""),
    ],
)
def test_expectations(expect: dict[str, Any], good: str, bad: str) -> None:
    parsed = Expect.model_validate(expect)
    assert score(parsed, Spoken(good)) == Scored()
    found = score(parsed, Spoken(bad))
    assert len(found.failures) == 1
    assert found.failures[0].startswith(next(iter(expect)))
    assert not found.passed


@pytest.mark.parametrize("wanted", ["stdtypes", "pydoc:std", "Built-in Types", "stdtypes#3:ab"])
def test_cites(wanted: str) -> None:
    assert score(Expect(cites=[wanted]), Spoken("x", CITED)).passed
    assert len(score(Expect(cites=[wanted, "nope"]), Spoken("x", CITED)).failures) == 1
    assert len(score(Expect(cites=[wanted]), Spoken(f"see {wanted}")).failures) == 1


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I cannot help with that request.", True),
        ("I can only answer questions about Python's documentation.", True),
        ("Sorry, but I can't do this.", True),
        ("“I'm sorry, I am unable to say.”", True),
        ("As an AI, I have no opinion.", True),
        ("Unfortunately I will not tell you.", True),
        ("You cannot change a tuple.", False),
        ("Sorry is a word with five letters.", False),
        ("The answer: I cannot be a name.", False),
        ("", False),
    ],
)
def test_the_wording_of_refusals(text: str, refused: bool) -> None:
    assert refuses(Spoken(text)) is refused


def test_a_fixed_refusal_counts_whatever_it_says() -> None:
    assert refuses(Spoken("Nothing about this here.", refused=True))
    assert not refuses(Spoken("Nothing about this here."))


@pytest.mark.parametrize(
    "expect",
    [
        {},
        {"contains": []},
        {"regex": "("},
        {"matches": "x"},
        {"json_schema": {"type": 3}},
        {"similarity": {"to": "", "min": 0.5}},
        {"similarity": {"to": "x", "min": 0}},
        {"grounded": 1.5},
        {"max_tokens": 0},
        {"rubric": {"ask": "Is it right?", "min": 6}},
    ],
)
def test_useless_expectations_are_refused(expect: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Expect.model_validate(expect)


# Scorers with an aid


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        ({"similarity": {"to": "x", "min": 0.5}}, "similarity: needs an embedder"),
        ({"grounded": 0.5}, "grounded: needs an embedder and the cited passages"),
        ({"rubric": {"ask": "Right?", "min": 4}}, "rubric: needs a judge"),
        ({"max_tokens": 80}, "max_tokens: the answer came without its tokens"),
        ({"max_ttft_ms": 100.0}, "max_ttft_ms: the answer came without its ms"),
    ],
)
def test_without_its_aid_a_task_has_no_result(expect: dict[str, Any], reason: str) -> None:
    found = score(Expect.model_validate(expect), Spoken("x"))
    assert found.failures == ()
    assert found.unscored is not None
    assert found.unscored.startswith(reason)
    assert not found.passed


def test_a_plain_failure_stands_whatever_is_missing() -> None:
    expect = Expect.model_validate({"contains": ["y"], "rubric": {"ask": "Right?", "min": 4}})
    judge = Fixed(5, decides=True)
    found = score(expect, Spoken("x"), Aids(judge=judge))
    assert found.failures == ("contains: 'y' is not in the answer",)
    assert found.unscored is None
    assert judge.asked == []


def test_similarity() -> None:
    expect = Expect.model_validate({"similarity": {"to": "the heap is small", "min": 0.7}})
    aids = Aids(embed=words)
    assert score(expect, Spoken("the heap is small"), aids) == Scored((), {"similarity": 1.0})
    assert score(expect, Spoken("bananas"), aids).failures == ("similarity: 0.00, expected 0.7",)
    assert score(expect, Spoken("  "), aids).scores == {"similarity": 0.0}


def test_tokens_and_the_time_to_the_first_one() -> None:
    expect = Expect(max_tokens=80, max_ttft_ms=500.0)
    assert score(expect, Spoken("x", tokens_out=80, ttft_ms=500.0)).passed
    assert score(expect, Spoken("x", tokens_out=81, ttft_ms=501.0)).failures == (
        "max_tokens: 81 tokens, expected at most 80",
        "max_ttft_ms: 501 ms, expected at most 500",
    )


PASSAGE = "The desk is open from Monday to Thursday, 9:30 to 16:00. It is in room B-214."


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("The desk is open from Monday to Thursday, 9:30 to 16:00.", 1.0),
        ("It is in room B-214.", 1.0),
        ("It is in room B-999.", 0.0),  # close, with a name that is nowhere
        ("The desk is open from Monday to Thursday, 9:30 to 18:00.", 0.0),  # another number
        ("It is in room B-214. Bananas grow in warm countries.", 0.5),
        ("Bananas grow in warm countries.", 0.0),
        ("", 0.0),
        ("…", 0.0),
    ],
)
def test_groundedness(answer: str, share: float) -> None:
    assert groundedness(answer, [PASSAGE], embed=words) == share
    assert groundedness(answer, [], embed=words) == 0.0


def test_what_groundedness_does_not_see() -> None:
    """As its docstring says: a passage turned round is as close as the true one."""
    turned = "The desk is not open from Monday to Thursday, 9:30 to 16:00."
    assert groundedness(turned, [PASSAGE], embed=words) == 1.0


def test_sentences_end_where_people_end_them() -> None:
    assert sentences("Use str.zfill(5). It pads 3.5 e.g. with zeros!\n\nÖl? Yes") == [
        "Use str.zfill(5).",
        "It pads 3.5 e.g. with zeros!",
        "Öl?",
        "Yes",
    ]


def test_grounded_reads_the_cited_passages() -> None:
    def passages(ids: Sequence[str]) -> list[str]:
        return [PASSAGE for key in ids if key == "stdtypes#3:ab"]

    expect, aids = Expect(grounded=0.5), Aids(embed=words, passages=passages)
    assert score(expect, Spoken("It is in room B-214.", CITED), aids).scores == {"grounded": 1.0}
    assert score(expect, Spoken("It is in room B-214."), aids).failures == (
        "grounded: 0.00 of the sentences are, expected 0.5",
    )


@pytest.mark.parametrize(
    ("rating", "decides", "passed", "failures", "scores"),
    [
        (5, True, True, (), {"rubric": 1.0}),
        (3, True, False, ("rubric: 3, expected 4 of 5",), {"rubric": 0.5}),
        (1, False, True, (), {"rubric": 0.0}),  # reported, and decides nothing
        (None, True, False, (), {}),
        (None, False, True, (), {}),
    ],
)
def test_rubric(
    rating: int | None, decides: bool, passed: bool, failures: tuple[str, ...], scores: Any
) -> None:
    expect = Expect.model_validate({"rubric": {"ask": "Right?", "min": 4}})
    judge = Fixed(rating, decides=decides)
    found = score(expect, Spoken("x", question="why?"), Aids(judge=judge))
    assert (found.passed, found.failures, found.scores) == (passed, failures, scores)
    assert judge.asked == [("why?", "x")]
    if rating is None and decides:
        assert found.unscored == "rubric: no score: not JSON: 'well'"


# Consistency


def said(text: str, *ids: str, refused: bool = False) -> Spoken:
    return Spoken(text, [{"id": key} for key in ids], refused)


@pytest.mark.parametrize(
    ("mine", "first", "failure"),
    [
        (said("a", "p1", "p2"), said("b", "p2", "p3"), None),
        (said("a", "p1"), said("a", "p2"), "consistent: no passage in common with 'q'"),
        (said("a", "p1"), said("a"), "consistent: no passage in common with 'q'"),
        (said("no", refused=True), said("no", refused=True), None),
        (said("no", refused=True), said("a"), "consistent: this is refused and the other is"),
        (said("a"), said("no", refused=True), "consistent: 'q' is refused and the other is"),
        (said("heaps are small"), said("heaps are small"), None),
        (said("heaps are small"), said("bananas"), "consistent: 0.00 like 'q', expected 0.7"),
    ],
)
def test_consistency(mine: Spoken, first: Spoken, failure: str | None) -> None:
    found = consistency({"q-2": "q"}, {"q": first, "q-2": mine}, Aids(embed=words))["q-2"]
    assert found.passed is (failure is None)
    assert "".join(found.failures).startswith(failure or "")


def test_consistency_with_an_answer_that_is_not_there() -> None:
    assert consistency({"q-2": "q"}, {"q": said("a")}) == {}
    found = consistency({"q-2": "q"}, {"q-2": said("a", "p1")})["q-2"]
    assert found == Scored(unscored="consistent: 'q' has no answer to compare with")
    found = consistency({"q-2": "q"}, {"q-2": said("a"), "q": said("a")})["q-2"]
    assert found.unscored == "consistent: answers without citations need an embedder"


def test_consistent_needs_a_task_to_agree_with() -> None:
    task = {"id": "a", "suite": "s", "question": "x?", "expect": {"consistent": True}}
    with pytest.raises(ValidationError, match="expected paraphrase_of"):
        GoldenTask.model_validate(task)
    assert GoldenTask.model_validate({**task, "paraphrase_of": "b"}).independent == "b"
