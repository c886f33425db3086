"""Sitting an exam. The side that is asked is in this process; HTTP is in tests/services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from proa.exam.asking import (
    Prediction,
    Said,
    Unanswered,
    datatypes_of,
    to_columns,
    to_predictions,
    to_said,
)
from proa.exam.exam import Exam, GoldenTask, Row
from proa.exam.rules import Rules
from proa.exam.runner import BATCH, Side, hold, sit
from proa.exam.verdict import judge

RULES = Rules.model_validate(
    {
        "version": 1, "kind": "classic", "task": "binary", "unit": "day", "data": "rows:build",
        "primary": {"metric": "roc_auc", "margin": 0.01, "higher_is_better": True},
        "bootstrap": {"resamples": 200},
    }
)  # fmt: skip
ROWS = tuple(
    Row(id=f"r{i}", unit=f"d{i % 10}", label=float(i % 3 == 0), inputs={"x": i}) for i in range(600)
)
EXAM = Exam(RULES, "sha256:" + "1" * 64, rows=ROWS)
DIGESTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)


class Answering:
    """Answers rows well, refuses a batch that holds a bad row, and may be gone."""

    def __init__(self, *, bad: frozenset[str] = frozenset(), gone: bool = False) -> None:
        self.bad, self.gone, self.asked = bad, gone, 0

    def rows(self, rows: Sequence[Row], datatypes: Mapping[str, str]) -> list[Prediction]:
        assert datatypes == {"x": "INT64"}
        self.asked += 1
        if self.gone:
            raise Unanswered("no answer after 4 attempts", blame="transport")
        if any(row.id in self.bad for row in rows):
            raise Unanswered("HTTP 400: x: expected a number", blame="model", divisible=True)
        return [Prediction(0.7 if row.label else 0.3, bool(row.label)) for row in rows]

    def chat(self, conversation: Sequence[Mapping[str, str]]) -> Said:
        question = conversation[-1]["content"]
        if "fail" in question:
            raise Unanswered("HTTP 500: broken", blame="model")
        return Said(f"About {question}", ({"id": "doc#1:aa"},), tokens_in=3, tokens_out=2)


def test_every_row_has_its_outcome_in_order() -> None:
    seen: list[tuple[str, int, int]] = []
    outcomes = sit(EXAM, Answering(), progress=lambda *step: seen.append(step))
    assert [outcome.id for outcome in outcomes] == [row.id for row in ROWS]
    assert all(outcome.error is None for outcome in outcomes)
    assert seen[-1] == ("candidate", 600, 600)
    assert len(seen) == -(-600 // BATCH)


def test_only_the_rows_at_fault_fail() -> None:
    outcomes = sit(EXAM, Answering(bad=frozenset({"r5", "r300"})))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.id for outcome in failed] == ["r5", "r300"]
    assert failed[0].error == "HTTP 400: x: expected a number"
    assert len(outcomes) == 600


def test_both_sides_make_evidence_that_can_be_judged() -> None:
    evidence = hold(
        EXAM, model="boats", runtime="sha256:" + "2" * 64,
        candidate=Side(DIGESTS[0], Answering()), champion=Side(DIGESTS[1], Answering()),
    )  # fmt: skip
    assert evidence["exam"] == EXAM.digest
    assert judge(evidence).value == "pass"


def test_a_side_that_is_gone_is_inconclusive() -> None:
    evidence = hold(
        EXAM, model="boats", runtime="sha256:" + "2" * 64,
        candidate=Side(DIGESTS[0], Answering()), champion=Side(DIGESTS[1], Answering(gone=True)),
    )  # fmt: skip
    verdict = judge(evidence)
    assert verdict.value == "inconclusive"
    assert verdict.reason.startswith("champion: missing answers: 600 of 600")


def test_a_failed_task_is_kept_as_failed() -> None:
    rules = Rules.model_validate(
        {
            "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
            "primary": {"metric": "passed", "margin": 0.05, "higher_is_better": True},
        }
    )  # fmt: skip
    expect = {"contains": ["lists"], "cites": ["doc"]}
    tasks = tuple(
        GoldenTask.model_validate(
            {"id": f"t{i}", "suite": "answer", "question": question, "expect": expect}
        )
        for i, question in enumerate(["lists", "tuples", "fail"])
    )
    outcomes = sit(Exam(rules, "sha256:" + "1" * 64, tasks=tasks), Answering())
    assert [outcome.passed for outcome in outcomes] == [True, False, False]
    assert outcomes[1].failures == ("contains: 'lists' is not in the answer",)
    assert outcomes[2].error == "HTTP 500: broken"
    assert outcomes[0].to_json()["citations"] == ["doc#1:aa"]


def test_columns_have_the_type_of_their_values() -> None:
    rows = [
        Row("a", "u", 1.0, {"s": None, "i": 1, "f": 1, "b": None, "n": 2, "e": None}),
        Row("b", "u", 0.0, {"s": "x", "i": 2, "f": 2.5, "b": False, "n": None, "e": None}),
    ]
    types = datatypes_of(rows)
    found = {item["name"]: (item["datatype"], item["data"]) for item in to_columns(rows, types)}
    assert found == {
        "s": ("BYTES", [None, "x"]),
        "i": ("INT64", [1, 2]),
        "f": ("FP64", [1.0, 2.5]),
        "b": ("BOOL", [None, False]),
        "n": ("INT64", [2, None]),
        "e": ("INT64", [None, None]),
    }
    assert to_columns(rows[:1], types)[0]["datatype"] == "BYTES", "as in the whole exam"


def test_outputs_are_read() -> None:
    binary = {
        "outputs": [{"name": "label", "data": [True]}, {"name": "probability", "data": [0.9]}]
    }
    assert to_predictions(binary, 1) == [Prediction(0.9, True)]
    flat = {"outputs": [{"name": "probabilities", "data": [0.1, 0.9, 0.5, 0.5]}]}
    assert [item.value for item in to_predictions(flat, 2)] == [[0.1, 0.9], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "no outputs"),
        ({"outputs": [{"name": "score", "data": [1]}]}, r"\['score'\]: expected one of"),
        ({"outputs": [{"name": "probability", "data": [1]}]}, "probability: expected 2 values"),
    ],
)
def test_other_outputs_are_the_models_fault(answer: Any, message: str) -> None:
    with pytest.raises(Unanswered, match=message) as caught:
        to_predictions(answer, 2)
    assert caught.value.blame == "model"


def test_sources_are_no_part_of_what_was_said() -> None:
    answer = {
        "choices": [{"message": {"content": "Use sort.\n\nSources: [1] list.sort"}}],
        "proa": {"citations": [{"id": "a"}], "refused": False},
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    said = to_said(answer)
    assert (said.text, said.tokens_in) == ("Use sort.", 5)
    with pytest.raises(Unanswered, match="no text"):
        to_said({"choices": [{"message": {"content": None}}]})
