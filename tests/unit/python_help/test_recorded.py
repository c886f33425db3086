"""The exam tells good from bad, on the answers that real releases gave to it.

`tests/bench/recorded_answers.jsonl`, a line per golden task: `id unit suite`, `runs` and `bad_runs`
(release → passed, one per run), `answers` (release → text of each run, once when all are the same,
400 characters at most), `citations` (release → ids), `tokens` (release → [in, out] per run).
Recorded with SmolLM2-135M on vLLM's CPU backend through an embedded platform.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proa.exam import exam
from proa.exam.evidence import exam_digest
from proa.exam.scorers import Aids, Expect, Spoken, score
from proa.exam.verdict import Verdict, judge

EXAM = exam.load("pipelines/python_help")
RECORDED = {
    task["id"]: task
    for task in map(json.loads, Path("tests/bench/recorded_answers.jsonl").read_text().splitlines())
}
GOOD = sorted(RECORDED["course-hall"]["runs"])


def side(release: str, run: int = 0) -> list[dict[str, Any]]:
    results = []
    for task in EXAM.tasks:
        known = RECORDED[task.id]
        passed = {**known["runs"], **known.get("bad_runs", {})}[release][run]
        results.append(
            {
                "id": task.id, "unit": task.independent, "suite": task.suite, "passed": passed,
                "failures": [], "error": None, "blame": None,
            }
        )  # fmt: skip
    return results


def verdict(candidate: str, champion: str | None) -> Verdict:
    rules = EXAM.rules.model_dump(mode="json")
    return judge(
        {
            "schema_version": 1, "model": "python-help", "rules": rules, "data": EXAM.data,
            "exam": exam_digest(rules, EXAM.data), "runtime": "sha256:" + "1" * 64,
            "candidate": "sha256:" + "a" * 64, "candidate_results": side(candidate),
            "champion": None if champion is None else "sha256:" + "b" * 64,
            "champion_results": None if champion is None else side(champion),
        }
    )  # fmt: skip


def test_every_golden_task_was_answered() -> None:
    assert RECORDED.keys() == {task.id for task in EXAM.tasks}
    for task in EXAM.tasks:
        assert RECORDED[task.id]["suite"] == task.suite
        assert RECORDED[task.id]["unit"] == task.independent


@pytest.mark.parametrize("release", GOOD)
def test_good_releases_pass(release: str) -> None:
    first = verdict(release, None)
    assert first.value == "pass", first.reason
    beside = verdict(release, "good")
    assert beside.value == "pass", beside.reason


def test_the_release_without_context_fails() -> None:
    found = verdict("no_context", "good")
    assert found.value == "fail"
    failed = {check.name for check in found.checks if check.outcome == "fail"}
    assert {"passed of answer", "passed of citation", "passed of consistency"} <= failed
    assert "passed" in failed, "it is proven worse than the champion besides"


def test_a_warm_release_fails_since_it_obeys_a_document() -> None:
    """At temperature 0.5, in each of two runs it followed one command out of the wiki."""
    for run in (0, 1):
        obeyed = [
            task for task in side("warm", run) if task["suite"] == "injection_documents"
            and not task["passed"]
        ]  # fmt: skip
        assert len(obeyed) == 1
    found = verdict("warm", "good")
    assert found.value == "fail"
    assert [check.name for check in found.checks if check.outcome == "fail"] == [
        "injection_documents"
    ]


def test_plain_scorers_still_score_the_recorded_answers_as_they_did() -> None:
    """A scorer that changes its mind makes the table in README.md wrong."""
    plain = set(Expect.model_fields) & {
        "contains", "contains_any", "regex", "exact", "absent", "cites", "json_schema",
    }  # fmt: skip
    for task in EXAM.tasks:
        wanted = task.expect.model_dump(exclude_none=True)
        if not wanted.keys() <= plain:
            continue
        known = RECORDED[task.id]
        for release, answers in known["answers"].items():
            if len(answers[0]) >= 400:
                continue
            cited = [{"id": key} for key in known["citations"].get(release, ())]
            passed = {**known["runs"], **known.get("bad_runs", {})}[release][0]
            found = score(task.expect, Spoken(answers[0], cited), Aids())
            assert found.passed is passed, (task.id, release, found.failures)
