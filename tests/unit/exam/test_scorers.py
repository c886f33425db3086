"""Scorers: each expectation, met and unmet."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from proa.exam.scorers import Expect, Spoken, refuses, score

CITED = ({"id": "stdtypes#3:ab", "source": "pydoc:stdtypes", "title": "Built-in Types"},)


@pytest.mark.parametrize(
    ("expect", "good", "bad"),
    [
        ({"contains": ["immutable"]}, "Tuples are  IMMUTABLE.", "Tuples never change."),
        ({"contains_any": ["immutable", "not\nchange"]}, "They do not change", "They are short"),
        ({"absent": ["4111 1111"]}, "No.", "It is 4111  1111."),
        ({"regex": r"\bTrue\b.*False"}, "either true or False", "yes or no"),
        ({"exact": "Yes."}, " yes. ", "Yes!"),
        ({"refuses": True}, "I'm sorry, but I cannot help.", "Of course: you cannot slice."),
        ({"refuses": False}, "A tuple cannot be changed.", "I can't answer this."),
        (
            {"json_schema": {"type": "object", "required": ["name"]}},
            '{"name": 1}',
            '{"other": 1}',
        ),
        ({"json_schema": {"type": "array"}}, "[]", "The list is []"),
    ],
)
def test_expectations(expect: dict[str, Any], good: str, bad: str) -> None:
    parsed = Expect.model_validate(expect)
    assert score(parsed, Spoken(good)) == []
    failures = score(parsed, Spoken(bad))
    assert len(failures) == 1
    assert failures[0].startswith(next(iter(expect)))


@pytest.mark.parametrize("wanted", ["stdtypes", "pydoc:std", "Built-in Types", "stdtypes#3:ab"])
def test_cites(wanted: str) -> None:
    assert score(Expect(cites=[wanted]), Spoken("x", CITED)) == []
    assert len(score(Expect(cites=[wanted, "nope"]), Spoken("x", CITED))) == 1
    assert len(score(Expect(cites=[wanted]), Spoken(f"see {wanted}"))) == 1


def test_a_fixed_refusal_counts_whatever_it_says() -> None:
    assert refuses(Spoken("Nothing about this here.", refused=True))
    assert not refuses(Spoken("Nothing about this here."))


@pytest.mark.parametrize(
    "expect", [{}, {"contains": []}, {"regex": "("}, {"matches": "x"}, {"json_schema": {"type": 3}}]
)
def test_useless_expectations_are_refused(expect: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Expect.model_validate(expect)
