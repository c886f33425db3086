"""What scoring needs besides answers: found on this machine, or named as missing.

Faked: the embedder's weights are an empty folder, as nothing is embedded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proa.errors import InvalidInput
from proa.exam.aids import EMBEDDER, embed_for, passages_of
from proa.exam.evidence import check_shape, exam_digest
from proa.exam.exam import Exam, GoldenTask, load
from proa.exam.integrity import integrity_checks
from proa.exam.rules import Rules
from proa.retrieval.chunks import Document, chunk_documents
from proa.retrieval.index import write_index

RULES: dict[str, Any] = {
    "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
    "primary": {"metric": "passed", "margin": 0.1, "higher_is_better": True},
}  # fmt: skip
JUDGE = {"labelled": "judged.jsonl", "min_agreement": 0.4, "ask": "Is it right?"}


def exam_of(**expect: Any) -> Exam:
    task = {"id": "a", "suite": "s", "question": "q?", "paraphrase_of": "b", "expect": expect}
    tasks = (GoldenTask.model_validate(task),)
    return Exam(Rules.model_validate(RULES), "sha256:" + "1" * 64, tasks=tasks)


def test_an_embedder_is_there_only_for_an_exam_that_needs_it(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "weights.json").write_text(f'{{"name": "{EMBEDDER}"}}')
    (folder / "embedder.json").write_text("{}")
    assert embed_for(exam_of(grounded=0.5), tmp_path) is not None
    assert embed_for(exam_of(consistent=True), tmp_path) is not None
    assert embed_for(exam_of(contains=["x"]), tmp_path) is None
    assert embed_for(exam_of(grounded=0.5), tmp_path / "weights") is None
    assert embed_for(exam_of(grounded=0.5), None) is None


def test_passages_come_from_the_release_s_own_index(tmp_path: Path) -> None:
    text = "# One\n\nFirst.\n\n# Two\n\nSecond."
    documents = [Document(id="d", title="D", text=text, source="d.md")]
    chunks = chunk_documents(
        documents,
        max_tokens=20,
        overlap=0,
        count=lambda texts: [len(text.split()) for text in texts],
    )
    path = tmp_path / "index"
    write_index(
        path,
        documents=documents,
        chunks=chunks,
        vectors=np.eye(len(chunks), 4, dtype=np.float32),
        embedder="e",
        embedder_digest="sha256:" + "0" * 64,
    )
    passages = passages_of(path)
    assert passages([chunks[1].id, "gone#1", chunks[0].id]) == [
        f"{chunks[1].heading}\n{chunks[1].text}",
        f"{chunks[0].heading}\n{chunks[0].text}",
    ]


def test_a_rubric_needs_a_judge_with_labels(tmp_path: Path) -> None:
    (tmp_path / "proa.yaml").write_text(
        "version: 1\nname: help\nkind: llm\nprompt: prompt.txt\nengine: smollm2\nexam: exam.yaml\n"
        "context: {system: 100, retrieved: 0, history: 0, question: 50}\n"
    )
    (tmp_path / "prompt.txt").write_text("Answer.")
    (tmp_path / "golden.jsonl").write_text(
        '{"id": "a", "suite": "s", "question": "q?", '
        '"expect": {"rubric": {"ask": "Is it right?", "min": 4}}}\n'
    )
    head = "version: 1\nunit: task\ntasks: golden.jsonl\n"
    head += "primary: {metric: passed, margin: 0.1, higher_is_better: true}\n"
    (tmp_path / "exam.yaml").write_text(head)
    with pytest.raises(InvalidInput, match=r"task 'a' has a rubric: expected judge in exam\.yaml"):
        load(tmp_path)
    rule = "judge: {labelled: judged.jsonl, min_agreement: 0.4, ask: 'Is it right?'}\n"
    (tmp_path / "exam.yaml").write_text(head + rule)
    with pytest.raises(InvalidInput, match=r"judge.labelled = 'judged.jsonl': no such file"):
        load(tmp_path)
    label = '{"id": "1", "task": "a", "question": "q?", "answer": "x", "good": true}\n'
    (tmp_path / "judged.jsonl").write_text(label)
    first = load(tmp_path)
    assert [item.good for item in first.labelled] == [True]
    (tmp_path / "judged.jsonl").write_text(label.replace("true", "false"))
    assert load(tmp_path).digest != first.digest, "other labels are another exam"


FACTS = {
    "engine": "eng-1", "self_judged": False, "decides": True, "labelled": 78, "scored": 78,
    "kappa": 0.6, "low": 0.5, "high": 0.7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "outcome", "note"),
    [
        (FACTS, "pass", "eng-1: Cohen's kappa 0.60"),
        ({**FACTS, "low": 0.3}, "fail", "kappa from 0.30 may not decide"),
        ({**FACTS, "low": 0.3, "decides": False}, "pass", "reported and decide nothing"),
        ({**FACTS, "self_judged": True}, "pass", "eng-1, judging its own answers"),
    ],
)
def test_the_verdict_says_who_judged(facts: dict[str, Any], outcome: str, note: str) -> None:
    """And a judge cannot be said to decide with less agreement than the exam asks for."""
    rules = Rules.model_validate({**RULES, "judge": JUDGE})
    result = {"id": "a", "unit": "a", "suite": "s", "error": None, "blame": None, "passed": True}
    as_json = rules.model_dump(mode="json")
    evidence = {
        "schema_version": 1, "model": "m", "candidate": "c", "champion": None, "rules": as_json,
        "exam": exam_digest(as_json, "d"), "data": "d", "runtime": "r",
        "candidate_results": [result], "champion_results": None, "judge": facts,
    }  # fmt: skip
    check_shape(evidence)
    (check,) = [item for item in integrity_checks(evidence, rules) if item.name == "judge"]
    assert check.outcome == outcome
    assert note in check.note
