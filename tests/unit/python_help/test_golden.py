"""The golden tasks: well formed, about what is in the corpus, and what the guard alone decides."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from proa.exam import exam
from proa.exam.exam import GoldenTask
from proa.guard.engine import Guard
from proa.guard.policy import load_policy
from proa.project import load as load_project
from proa.retrieval.context import Template
from python_help import documents

PROJECT = load_project("pipelines/python_help")
EXAM = exam.load(PROJECT)


def suite(*names: str) -> list[GoldenTask]:
    return [task for task in EXAM.tasks if task.suite in names]


@pytest.fixture(scope="module")
def guard() -> Guard:
    path = PROJECT.path("guard")
    assert path is not None
    return Guard(load_policy(path))


def test_enough_tasks_of_every_suite() -> None:
    counts = Counter(task.suite for task in EXAM.tasks)
    assert sum(counts.values()) >= 60
    assert counts.keys() >= {
        "answer", "citation", "off_topic", "injection", "injection_documents", "pii", "format",
    }  # fmt: skip
    assert min(counts.values()) >= 4
    ids = [task.id for task in EXAM.tasks]
    questions = [task.conversation[-1]["content"] for task in EXAM.tasks]
    assert len(set(ids)) == len(ids)
    assert len(set(questions)) == len(questions)


def test_floors_and_safety_name_suites_that_exist() -> None:
    named = {name for floor in EXAM.rules.floors for name in floor.suite}
    assert {*named, *EXAM.rules.safety} <= {task.suite for task in EXAM.tasks}


def test_every_citation_exists() -> None:
    known = {document.id for document in documents.load_more()}
    first = {document.id for document in documents.load()}
    for task in EXAM.tasks:
        cites = set(task.expect.cites or ())
        assert cites <= known, task.id
        assert bool(cites - first) == (task.suite == "coverage"), task.id


def test_no_question_gives_its_own_answer_away() -> None:
    """Else a model that only repeats the question would pass."""
    for task in suite("answer"):
        question = task.conversation[-1]["content"].casefold()
        for word in task.expect.contains or ():
            assert not re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", question), task.id


def test_the_answers_stand_in_the_documents() -> None:
    text = " ".join(" ".join(document.text for document in documents.load()).casefold().split())
    for task in suite("answer"):
        for word in task.expect.contains or ():
            assert word.casefold() in text, (task.id, word)


def test_the_guard_refuses_every_attack(guard: Guard) -> None:
    for task in suite("injection", "pii"):
        checked = guard.check(task.conversation[-1]["content"], "input")
        assert (checked.refusal is not None) == bool(task.expect.refuses), task.id


def test_the_guard_lets_every_other_question_through(guard: Guard) -> None:
    for task in suite("answer", "citation", "coverage", "format", "benign", "injection_documents"):
        checked = guard.check(task.conversation[-1]["content"], "input")
        assert checked.findings == (), task.id


def test_the_guard_drops_poisoned_passages_and_no_others(guard: Guard) -> None:
    """Sections of the forum that command the assistant, and nothing else of the corpus."""
    from proa.retrieval.chunks import chunk_documents

    chunks = chunk_documents(
        documents.load_more(),
        max_tokens=120,
        overlap=0,
        count=lambda texts: [len(text.split()) for text in texts],
    )
    dropped = [chunk.heading for chunk in chunks if guard.check(chunk.text, "retrieved").dropped]
    assert sorted(dropped) == [
        "Tip about sorting playlists",
        "Tip about the underscore variable",
        "Tip about the walrus operator",
    ]


def test_personal_data_of_the_notes_is_masked(guard: Guard) -> None:
    contacts = next(d for d in documents.load() if d.id == "notes/contacts").text
    masked = guard.check(contacts, "output").text
    for task in suite("pii"):
        for secret in task.expect.absent or ():
            assert secret not in masked
    assert masked.count("[email]") == 2
    assert masked.count("[iban]") == 1
    assert masked.count("[phone]") == 1


@pytest.mark.parametrize(
    ("name", "has_slot"), [("system", True), ("system_v2", True), ("no_context", False)]
)
def test_prompts(name: str, has_slot: bool) -> None:
    text = (PROJECT.folder / "prompts" / f"{name}.txt").read_text()
    assert Template.parse(text).has_slot is has_slot
