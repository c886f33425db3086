"""Is an exam looser than the one before?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.exam.exam import Exam, GoldenTask, Row
from proa.exam.loosening import loosened, summarize, task_digests
from proa.exam.rules import rules_from_json
from proa.exam.smoke import ROWS, TASKS, smoke_exam

BASE: dict[str, Any] = {
    "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
    "primary": {"metric": "passed", "margin": 0.05, "higher_is_better": True},
    "floors": [{"metric": "passed", "suite": ["answer"], "min": 0.6}],
    "guardrails": [{"metric": "passed", "suite": ["refusal"], "margin": 0.02,
                    "higher_is_better": True}],
    "safety": ["injection"],
}  # fmt: skip
GUARDED: dict[str, dict[str, Any]] = {
    name: {"guardrails": [{"metric": metric, "suite": ["refusal"], "higher_is_better": higher,
                           **settings}]}
    for name, metric, higher, settings in (
        ("ratio", "passed", True, {"ratio": 0.9}),
        ("fast", "latency_p95", False, {"ratio": 1.2}),
        ("slow", "latency_p95", False, {"ratio": 2.0}),
        ("proven", "latency_p95", False, {"ratio": 1.2, "must": "not_worse"}),
    )
}  # fmt: skip
SAFE: dict[str, dict[str, Any]] = {
    str(rate): {"safety": [{"suite": "injection", "max_failure_rate": rate}]}
    for rate in (0.01, 0.05)
}
TASKS_OF = {"a": "1", "b": "2", "c": "3"}


def summary(rules: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    found = rules_from_json({**BASE, **(rules or {})}).model_dump(mode="json")
    return {"rules": found, "tasks": dict(TASKS_OF), "rows": 3, "units": 3, **changes}


def floors(*values: float, word: str = "min") -> dict[str, Any]:
    return {"floors": [{"metric": "passed", "suite": ["answer"], word: v} for v in values]}


def with_margin(value: float) -> dict[str, Any]:
    return {"primary": {**BASE["primary"], "margin": value}}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (summary({"floors": []}), "the floor passed of answer at least 0.6 is gone"),
        (summary(floors(0.5)), "went from 0.6 down to 0.5"),
        (summary(floors(0.9, word="max")), "at least 0.6 is gone"),
        (summary(with_margin(0.1)), "the margin of primary metric passed went from 0.05 to 0.1"),
        (summary({"primary": {**BASE["primary"], "suite": ["easy"]}}), "the primary metric was"),
        (summary({"guardrails": []}), "the guardrail passed of refusal is gone"),
        (
            summary({"guardrails": [{**BASE["guardrails"][0], "margin": 0.5}]}),
            "the margin of guardrail passed of refusal went from 0.02 to 0.5",
        ),
        (summary(GUARDED["ratio"]), "no longer has the margin 0.02"),
        (summary({"safety": []}), "the safety suite injection is gone"),
        (summary({"unit": "suite"}), "unit was 'task' and is 'suite'"),
        (summary({"bootstrap": {"confidence": 0.8}}), "bootstrap.confidence was 0.95 and is 0.8"),
        (summary({"bootstrap": {"min_units": 2}}), "bootstrap.min_units was 5 and is 2"),
        (summary(tasks={"a": "1", "b": "2"}), "1 task removed: c"),
        (summary(tasks={**TASKS_OF, "b": "9"}), "1 task changed: b"),
        (summary(tasks=None, rows=1), "rows went from 3 down to 1"),
    ],
)
def test_what_is_asked_less_is_said(after: dict[str, Any], said: str) -> None:
    found = loosened(summary(), after)
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize(
    "after",
    [
        summary(),
        summary(tasks={**TASKS_OF, "d": "4"}, rows=4),
        summary(floors(0.6, 0.7)),
        summary(floors(0.9)),
        summary(with_margin(0.01)),
        summary({"safety": ["injection", "pii"]}),
        summary({"bootstrap": {"confidence": 0.99, "resamples": 5000}}),
        summary(tasks=None, rows=2, units=2),
        summary(tasks=None, rows=40, units=None),
    ],
)
def test_adding_is_free(after: dict[str, Any]) -> None:
    assert loosened(summary(), after) == []


@pytest.mark.parametrize(
    ("stricter", "looser", "said"),
    [
        (GUARDED["fast"], GUARDED["slow"], "ratio of guardrail latency_p95 of refusal"),
        (GUARDED["proven"], GUARDED["fast"], "need no longer be proven not worse"),
        (SAFE["0.01"], SAFE["0.05"], "need no longer show a failure rate below 0.01"),
        (SAFE["0.05"], {}, "need no longer show a failure rate below 0.05"),
    ],
)
def test_what_rules_say_of_themselves_counts_too(
    stricter: dict[str, Any], looser: dict[str, Any], said: str
) -> None:
    assert said in "".join(loosened(summary(stricter), summary(looser)))
    assert loosened(summary(looser), summary(stricter)) == []


@given(
    before=st.floats(0, 1),
    after=st.floats(0, 1),
    margins=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_change_and_its_way_back_are_not_both_free(
    before: float, after: float, margins: tuple[float, float]
) -> None:
    one = summary({**floors(before), **with_margin(margins[0])})
    two = summary({**floors(after), **with_margin(margins[1])})
    there, back = loosened(one, two), loosened(two, one)
    assert (one == two) == (not there and not back)


def tasks(count: int, suites: int = 4) -> tuple[GoldenTask, ...]:
    return tuple(
        GoldenTask.model_validate(
            {"id": f"t{n}", "suite": f"s{n % suites}", "question": f"q{n}?",
             "expect": {"contains": [f"a{n}"]}}
        )
        for n in range(count)
    )  # fmt: skip


def llm_exam(found: tuple[GoldenTask, ...]) -> Exam:
    return Exam(rules_from_json(BASE), "sha256:" + "1" * 64, tasks=found)


def test_a_task_made_easier_has_another_digest() -> None:
    whole = llm_exam(tasks(5))
    easier = llm_exam((*tasks(4), tasks(5)[4].model_copy(update={"expect": tasks(1)[0].expect})))
    one, two = task_digests(whole), task_digests(easier)
    assert one is not None
    assert two is not None
    assert {name for name in one if one[name] != two[name]} == {"t4"}


def test_an_exam_cut_short_is_summed_up_as_what_it_would_have_asked() -> None:
    evidence = {
        "rules": summary()["rules"],
        "candidate_results": [{"id": "a", "unit": "a", "suite": "answer"}],
        "asked": {"tasks": 1, "of": 3, "looks": 1},
    }
    found = summarize(evidence, TASKS_OF)
    assert (found["rows"], found["tasks"], found["units"]) == (3, TASKS_OF, None)
    assert loosened(summary(), found) == []
    assert loosened(summary(), summarize(evidence)) == []


@given(count=st.integers(1, 400), suites=st.integers(1, 30), seed=st.integers(0, 5))
def test_a_smoke_exam_is_small_and_has_every_suite(count: int, suites: int, seed: int) -> None:
    whole = llm_exam(tasks(count, suites))
    sample = smoke_exam(whole, seed=seed)
    assert sample == smoke_exam(whole, seed=seed)
    assert sample.size == min(count, TASKS)
    assert {task.suite for task in sample.tasks} == {task.suite for task in whole.tasks}
    assert (sample.digest == whole.digest) == (count <= TASKS)
    assert list(sample.tasks) == [task for task in whole.tasks if task in sample.tasks]


def test_a_suite_of_one_task_is_in_the_smoke_exam() -> None:
    rare = tasks(1)[0].model_copy(update={"id": "rare", "suite": "rare"})
    for seed in range(20):
        assert rare in smoke_exam(llm_exam((*tasks(400), rare)), seed=seed).tasks


def test_a_smoke_exam_of_rows_has_every_unit_and_brings_originals_along() -> None:
    rules = rules_from_json(
        {
            "version": 1, "kind": "classic", "task": "binary", "unit": "day", "data": "x:y",
            "primary": {"metric": "roc_auc", "margin": 0.05, "higher_is_better": True},
        }
    )  # fmt: skip
    rows = tuple(Row(f"r{n}", f"d{n % 31}", 1.0, {"x": n}) for n in range(3000))
    sample = smoke_exam(Exam(rules, "sha256:" + "2" * 64, rows=rows))
    assert len(sample.rows) == ROWS
    assert len({row.unit for row in sample.rows}) == 31
    again = tasks(200)
    twins = tuple(
        task.model_copy(update={"id": f"p{task.id}", "paraphrase_of": task.id}) for task in again
    )
    found = smoke_exam(llm_exam((*again, *twins)))
    ids = {task.id for task in found.tasks}
    assert all(task.paraphrase_of in ids for task in found.tasks if task.paraphrase_of)
