"""Holding an exam of golden tasks: rounds, repeats, early ends, going on after a crash.

The sides are in this process; a crash is an exception here, and a real `kill -9` in
tests/services/exam.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from proa.exam.answers_file import AnswersFile
from proa.exam.asking import Prediction, Said, Unanswered
from proa.exam.exam import Exam, GoldenTask, Row
from proa.exam.rules import Rules
from proa.exam.runner import LATENCY_ROWS, Side, hold
from proa.exam.verdict import judge

DIGESTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
RUNTIME = "sha256:" + "2" * 64


def exam_of(count: int, **rules: Any) -> Exam:
    made = Rules.model_validate(
        {
            "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
            "primary": {"metric": "passed", "margin": 0.05, "higher_is_better": True},
            "bootstrap": {"resamples": 200}, **rules,
        }
    )  # fmt: skip
    tasks = tuple(
        GoldenTask.model_validate(
            {
                "id": f"t{n}", "suite": ("answer", "format")[n % 2], "question": f"q{n}",
                "expect": {"contains": ["right"]},
            }
        )
        for n in range(count)
    )  # fmt: skip
    return Exam(made, "sha256:" + "1" * 64, tasks=tasks)


class Talker:
    """Answers `right` unless `wrong(question, time it is asked)`; dies after `dies_after`."""

    def __init__(
        self,
        wrong: Callable[[str, int], bool] = lambda question, time: False,
        dies_after: int | None = None,
    ) -> None:
        self.asked: Counter[str] = Counter()
        self._wrong, self._dies_after, self._lock = wrong, dies_after, threading.Lock()

    def chat(self, conversation: Sequence[Mapping[str, str]]) -> Said:
        question = conversation[-1]["content"]
        with self._lock:
            if self._dies_after is not None and self.asked.total() >= self._dies_after:
                raise KeyboardInterrupt
            time = self.asked[question]
            self.asked[question] += 1
        text = "nothing" if self._wrong(question, time) else "right"
        return Said(text, tokens_in=7, tokens_out=3, ttft_ms=1.5)

    def rows(self, rows: Sequence[Row], datatypes: Mapping[str, str]) -> list[Prediction]:
        raise AssertionError("golden tasks are not rows")


def held(exam: Exam, candidate: Any, champion: Any, **more: Any) -> dict[str, Any]:
    return hold(
        exam, model="help", runtime=RUNTIME, candidate=Side(DIGESTS[0], candidate),
        champion=Side(DIGESTS[1], champion), **more,
    )  # fmt: skip


def test_only_tasks_on_which_the_sides_disagree_are_asked_again() -> None:
    mine = Talker(lambda question, time: question in ("q3", "q7") and (question, time) != ("q3", 2))
    theirs = Talker(lambda question, time: question == "q7")
    evidence = held(exam_of(60), mine, theirs, early=False)
    again = {question for question, count in mine.asked.items() if count > 1}
    assert again == {"q3"}
    assert mine.asked["q3"] == theirs.asked["q3"] == 3
    by_id = {item["id"]: item for item in evidence["candidate_results"]}
    assert by_id["t3"]["repeats"] == [False, True] or by_id["t3"]["repeats"] == [True, False]
    assert "repeats" not in by_id["t7"], "both are wrong: they agree"
    assert by_id["t3"]["tokens_in"] == 7
    assert by_id["t3"]["ttft_ms"] == 1.5
    assert by_id["t3"]["latency_ms"] > 0


def test_a_lost_exam_ends_after_a_round_and_is_a_fail() -> None:
    mine = Talker(lambda question, time: int(question[1:]) % 2 == 0)
    evidence = held(exam_of(240), mine, Talker())
    asked = evidence["asked"]
    assert (asked["tasks"], asked["of"], asked["looks"]) == (40, 240, 1)
    assert asked["rest"] == {"answer": 100, "format": 100}
    assert len(evidence["candidate_results"]) == len(evidence["champion_results"]) == 40
    assert judge(evidence).value == "fail"
    assert mine.asked.total() < 240
    whole = held(exam_of(240), Talker(lambda q, t: int(q[1:]) % 2 == 0), Talker(), early=False)
    assert "asked" not in whole
    assert len(whole["candidate_results"]) == 240
    assert judge(whole).value == "fail", "stopping changed no verdict"


def test_a_good_exam_is_never_cut_short() -> None:
    evidence = held(exam_of(240), Talker(), Talker())
    assert "asked" not in evidence
    assert judge(evidence).value == "pass"


def test_two_exams_with_equal_answers_have_equal_verdicts_and_intervals() -> None:
    """Latencies differ from run to run; neither results nor intervals may."""

    def verdict() -> Any:
        mine = Talker(lambda question, time: question.endswith("3"))
        theirs = Talker(lambda question, time: question.endswith("5"))
        return judge(held(exam_of(120), mine, theirs))

    one, two = verdict(), verdict()
    assert one.evidence != two.evidence, "the times are part of the evidence"
    assert one.checks == two.checks
    assert next(check for check in one.checks if check.kind == "comparison").interval is not None


@pytest.mark.parametrize("dies_after", [1, 50, 130])
def test_an_interrupted_exam_asks_only_the_rest(tmp_path: Path, dies_after: int) -> None:
    exam = exam_of(120)
    wrong = lambda question, time: question.endswith("3") and time == 0  # noqa: E731
    identity = {"candidate": DIGESTS[0], "champion": DIGESTS[1], "exam": exam.digest}

    def keeping() -> AnswersFile:
        return AnswersFile.open(tmp_path, model="help", identity=identity)

    mine, theirs = Talker(wrong), Talker(dies_after=dies_after)
    first = keeping()
    with pytest.raises(KeyboardInterrupt):
        held(exam, mine, theirs, answers=first)
    first.close()
    before = mine.asked.total() + theirs.asked.total()
    second = keeping()
    assert 0 < second.resumed <= before
    mine_again = Talker(lambda question, time: wrong(question, mine.asked[question] + time))
    theirs_again = Talker()
    evidence = held(exam, mine_again, theirs_again, answers=second)
    asked = mine_again.asked.total() + theirs_again.asked.total()
    apart = sum(task.question.endswith("3") for task in exam.tasks if task.question)
    assert asked + second.resumed == 2 * 120 + 4 * apart
    fresh = judge(held(exam, Talker(wrong), Talker()))
    assert judge(evidence).checks == fresh.checks
    second.close()


def test_lost_answers_are_asked_again_and_refusals_of_the_model_are_kept(tmp_path: Path) -> None:
    class Half(Talker):
        def chat(self, conversation: Sequence[Mapping[str, str]]) -> Said:
            if conversation[-1]["content"] == "q1":
                raise Unanswered("HTTP 503: engine gone", blame="transport")
            if conversation[-1]["content"] == "q2":
                raise Unanswered("HTTP 500: broken", blame="model")
            return super().chat(conversation)

    exam = exam_of(10)
    identity = {"exam": exam.digest}
    first = AnswersFile.open(tmp_path, model="help", identity=identity)
    held(exam, Half(), Talker(), answers=first)
    first.close()
    second = AnswersFile.open(tmp_path, model="help", identity=identity)
    mine = Talker()
    evidence = held(exam, mine, Talker(), answers=second)
    assert set(mine.asked) == {"q1"}, "the answer that was lost"
    by_id = {item["id"]: item for item in evidence["candidate_results"]}
    assert (by_id["t2"]["error"], by_id["t2"]["blame"]) == ("HTTP 500: broken", "model")
    second.close()


class Rower:
    """Predicts rows, and counts calls with one row."""

    def __init__(self) -> None:
        self.single, self.batched = 0, 0

    def rows(self, rows: Sequence[Row], datatypes: Mapping[str, str]) -> list[Prediction]:
        self.single += len(rows) == 1
        self.batched += len(rows) > 1
        return [Prediction(0.7 if row.label else 0.3, bool(row.label)) for row in rows]

    def chat(self, conversation: Sequence[Mapping[str, str]]) -> Said:
        raise AssertionError("rows are no tasks")


def test_latency_comes_from_single_rows_that_both_sides_answer_in_turn() -> None:
    rules = Rules.model_validate(
        {
            "version": 1, "kind": "classic", "task": "binary", "unit": "day", "data": "rows:build",
            "primary": {"metric": "roc_auc", "margin": 0.01, "higher_is_better": True},
            "bootstrap": {"resamples": 200},
        }
    )  # fmt: skip
    rows = tuple(Row(f"r{i}", f"d{i % 10}", float(i % 3 == 0), {"x": i}) for i in range(600))
    exam, mine, theirs = Exam(rules, "sha256:" + "1" * 64, rows=rows), Rower(), Rower()
    evidence = held(exam, mine, theirs)
    timed = [
        {item["id"] for item in evidence[side] if item.get("latency_ms") is not None}
        for side in ("candidate_results", "champion_results")
    ]
    assert timed[0] == timed[1]
    assert 0 < len(timed[0]) <= LATENCY_ROWS
    assert mine.single == theirs.single == LATENCY_ROWS
    assert mine.batched == theirs.batched == 3
    again = held(exam, Rower(), Rower())
    assert timed[0] == {
        item["id"] for item in again["candidate_results"] if item.get("latency_ms") is not None
    }, "the same sample"
