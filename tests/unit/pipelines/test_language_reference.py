"""The release pipeline tells the monitor what the exam's questions are about.

Faked: the embedder (hashed words), and the parts of a release that this step does not look at.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from proa.guard.prepare import Prepared
from proa.profile.language_reference import LANGUAGE_NAME, parse_language
from proa.retrieval.chunks import Document, chunk_document
from proa.retrieval.index import Index, write_index
from proa.retrieval.search import Searcher
from proa_pipelines.llm_staging import Asked, _write_language
from tests.standins.hashed_words import DIMENSION, HashedWords

THINGS = ("tuple", "list", "set", "dict")


@pytest.fixture
def searcher(tmp_path: Path) -> Any:
    embedder = HashedWords()
    documents = [
        Document(name, name, f"A {name} holds items.", name, f"2013-0{number}-01T00:00:00Z")
        for number, name in enumerate(THINGS, 1)
    ]
    chunks = [
        chunk
        for one in documents
        for chunk in chunk_document(one, max_tokens=50, overlap=0, count=_words)
    ]
    write_index(
        tmp_path / "index.sqlite", documents=documents, chunks=chunks,
        vectors=embedder.embed([chunk.embedded for chunk in chunks]), embedder="words",
        embedder_digest=embedder.digest,
    )  # fmt: skip
    with Index.open(tmp_path / "index.sqlite") as index:
        yield Searcher(index, embedder)


def _words(texts: Any) -> list[int]:
    return [len(text.split()) for text in texts]


def asked(searcher: Searcher, count: int) -> tuple[Asked, ...]:
    found = []
    for number in range(count):
        question = f"What does a {THINGS[number % 4]} hold when number {number} is asked?"
        hits = searcher.find(question)
        made = Prepared(question, tuple(hits.hits), (), None, None, hits.vector)
        if number == 0:  # the guard stopped it: nothing was searched for
            made = Prepared(question, (), (), None, "No.")
        found.append(Asked("answer", (), made))
    return tuple(found)


def parts(searcher: Searcher | None) -> Any:
    retrieval = SimpleNamespace(embedder="words", embedder_digest=HashedWords().digest)
    return SimpleNamespace(
        searcher=searcher,
        spec=SimpleNamespace(retrieval=None if searcher is None else retrieval),
        project=SimpleNamespace(llm=SimpleNamespace(retrieval=SimpleNamespace(max_age_days=30.0))),
    )


def test_the_exams_questions_become_topics(searcher: Searcher, tmp_path: Path) -> None:
    assert _write_language(tmp_path, parts(searcher), asked(searcher, 80)) == []
    reference = parse_language((tmp_path / "profile" / LANGUAGE_NAME).read_bytes())
    assert (reference.embedder, reference.embedder_name) == (HashedWords().digest, "words")
    assert (reference.dimension, reference.questions.rows) == (DIMENSION, 80)
    assert {name for t in reference.topics for name in THINGS if name in t.name} == set(THINGS)
    assert reference.index is not None
    assert reference.index["newest"] == "2013-04-01T00:00:00Z"
    assert reference.index_max_age_days == 30
    assert reference.moments["retrieval_score"][0] == 79
    assert np.isclose(sum(topic.share for topic in reference.topics), 1.0)


def test_why_there_is_none_is_said(searcher: Searcher, tmp_path: Path) -> None:
    few = _write_language(tmp_path, parts(searcher), asked(searcher, 20))
    assert few == ["what questions are about: the exam has 20, 50 are needed"]
    without = _write_language(tmp_path, parts(None), ())
    assert "without documents" in without[0]
    assert not (tmp_path / "profile").exists()
