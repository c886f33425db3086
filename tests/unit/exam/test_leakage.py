"""Leakage by id, by time and by text; what cannot be compared is said, and a leak always fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.exam.evidence import make_evidence
from proa.exam.exam import Exam, GoldenTask, Row
from proa.exam.leakage import IDS, WINDOWS, hashed, in_prompts, in_training, leakage, to_bytes
from proa.exam.rules import Rules
from proa.exam.verdict import judge
from proa.release.manifest import Manifest
from tests.unit.exam.test_verdict import CANDIDATE, CLASSIC, DATA, LLM, RUNTIME, flights, outcomes

END = {"train": "2013-03-01T00:00:00-05:00"}


def row(name: str, time: str | None = "2013-03-01T05:00:00+00:00", **more: Any) -> Row:
    return Row(id=name, unit="d", label=1.0, inputs={"x": 1}, time=time, **more)


def exam(rows: list[Row]) -> Exam:
    return Exam(CLASSIC, DATA, rows=tuple(rows))


def manifest(kind: str, files: list[str]) -> Manifest:
    """Only what leakage reads: the kind's guard and the list of files."""
    listed = [{"path": path, "sha256": DATA, "size": 10} for path in files]
    return Manifest.model_construct(kind=kind, llm=None, files=[_File(**one) for one in listed])


class _File:
    def __init__(self, path: str, sha256: str, size: int) -> None:
        self.path, self.sha256, self.size = path, sha256, size


@given(st.sets(st.text(max_size=8), max_size=40), st.sets(st.text(max_size=8), max_size=40))
def test_ids_are_found_again_and_no_others(trained: set[str], examined: set[str]) -> None:
    found = in_training([row(name) for name in sorted(examined)], trained=hashed(trained), ends=END)
    assert found["leaked"] == len(trained & examined)
    assert set(found["ids"]) <= trained & examined
    assert found["checked"]
    assert np.frombuffer(to_bytes(trained), dtype="<u8").tolist() == hashed(trained).tolist()


@pytest.mark.parametrize(
    ("ends", "time", "early"),
    [
        # the first moment after a window is outside of it, whatever zone it is written in
        ({"train": "2013-03-01T00:00:00-05:00"}, "2013-03-01T05:00:00+00:00", 0),
        ({"train": "2013-03-01T00:00:00-05:00"}, "2013-03-01T04:59:59+00:00", 1),
        # the last row's own time is inside
        ({"rows": "2013-03-01T05:00:00+00:00"}, "2013-03-01T05:00:00+00:00", 1),
        ({"rows": "2013-03-01T05:00:00+00:00"}, "2013-03-01T05:00:01+00:00", 0),
        # the latest of all windows counts: training, but also tuning and calibration
        ({**END, "calibrate": "2013-03-08T00:00:00-05:00"}, "2013-03-07T00:00:00-05:00", 1),
        ({"train": "2013-03-01"}, "2013-02-28", 1),
    ],
)
def test_the_exam_is_after_every_window(ends: dict[str, str], time: str, early: int) -> None:
    assert in_training([row("a", time)], trained=hashed([]), ends=ends)["times"] == early


def test_a_forecast_counts_from_its_origin() -> None:
    late = row("a", "2013-03-20T00:00:00Z", origin="2013-02-27T00:00:00Z", horizon=21)
    assert in_training([late], trained=hashed([]), ends=END)["times"] == 1


def test_what_is_not_compared_is_said() -> None:
    found = in_training([row("a", None)], trained=None, ends=END)
    assert not found["checked"]
    assert "does not list the ids" in found["why_not"]
    assert "1 rows of the exam have no time" in found["why_not"]
    assert (
        "does not say when its data ends"
        in in_training([row("a")], trained=None, ends={})["why_not"]
    )


def test_a_release_is_read_from_its_bundle() -> None:
    files = {
        IDS: to_bytes(["b", "c"]),
        WINDOWS: orjson.dumps({"version": 1, "windows": {"train": {"end": END["train"]}}}),
    }
    told = leakage(exam([row("a"), row("b")]), manifest("classic", list(files)), files.__getitem__)
    assert (told["ids"], told["times"], told["checked"]) == (["b"], 0, True)
    nothing = leakage(exam([row("a")]), manifest("classic", []), files.__getitem__)
    assert not nothing["checked"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IDS, b"1234567", "train_ids.bin: 7 bytes: expected a multiple of 8"),
        (IDS, to_bytes(["a", "b"])[::-1], "expected sorted hashes"),
        (WINDOWS, b"{}", "training.json: expected windows with an end"),
        (WINDOWS, b'{"windows": {"train": {"end": "soon"}}}', "training.json: expected windows"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        leakage(exam([row("a")]), manifest("classic", [name]), lambda path: content)


def test_a_question_in_a_prompt_is_a_leak() -> None:
    questions = {"a": "What does the pass statement do?", "b": "How are lists sorted?", "c": "Why?"}
    texts = {
        "prompt/system.txt": "Example.\nQ: what does the PASS\n statement do\nA: nothing. Why?"
    }
    found = in_prompts(questions, texts)
    assert (found["ids"], found["rows"], found["checked"]) == (["a"], 2, True)
    assert not in_prompts(questions, {})["checked"]
    assert in_prompts(questions, {"prompt/system.txt": "How are lists sortedly?"})["leaked"] == 0


def test_prompts_and_examples_are_read_and_the_index_is_not() -> None:
    task = GoldenTask.model_validate(
        {
            "id": "a",
            "suite": "answer",
            "question": "Which room is it in?",
            "expect": {"contains": ["1"]},
        }
    )
    files = dict.fromkeys(("index/notes.txt", "selftest.json"), b"Which room is it in?")
    asked = Exam(LLM, DATA, tasks=(task,))
    assert leakage(asked, manifest("llm", list(files)), files.__getitem__)["leaked"] == 0
    files["prompt/few_shot.jsonl"] = b'{"user": "Which room is it in?"}'
    assert leakage(asked, manifest("llm", list(files)), files.__getitem__)["ids"] == ["a"]


def evidence(found: dict[str, Any] | None, rules: Rules = CLASSIC) -> dict[str, Any]:
    data = flights(2)
    return make_evidence(
        model="flight-delay", rules=rules, data=DATA, runtime=RUNTIME, candidate=CANDIDATE,
        candidate_results=outcomes(data, data[2]), champion=None, champion_results=None,
        leakage=found,
    )  # fmt: skip


def test_a_leak_fails_and_not_checked_is_named() -> None:
    rows = [row("a"), row("b", "2013-02-01T00:00:00Z")]
    leaked = judge(evidence(in_training(rows, trained=hashed(["a"]), ends=END)))
    assert leaked.value == "fail"
    notes = {check.name: check.note for check in leaked.checks}
    assert notes["leakage: ids"] == "1 of 2 were in the candidate's making, first 'a'"
    assert "1 of 2 are not after the end of the candidate's training" in notes["leakage: times"]
    clean = judge(evidence(in_training(rows[:1], trained=hashed([]), ends=END)))
    assert clean.value == "pass"
    assert "none of 1" in next(c for c in clean.checks if c.name == "leakage").note
    for found in (None, in_training(rows[:1], trained=None, ends={})):
        unknown = judge(evidence(found))
        assert unknown.value == "pass"
        assert next(c for c in unknown.checks if c.name == "leakage").note.startswith("not checked")
