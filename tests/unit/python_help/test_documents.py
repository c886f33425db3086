"""The corpus: the same for everybody with this interpreter, with ids that can be cited."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proa.project import load as load_project
from proa.retrieval.chunks import Document, sections
from python_help import documents

ONE_RUN = """
from proa.release.canonical import digest_json
from python_help.documents import load_more
print(digest_json([[d.id, d.digest] for d in load_more()]))
"""


@pytest.fixture(scope="module")
def corpus() -> dict[str, Document]:
    return {document.id: document for document in documents.load()}


def test_every_document_can_be_cited(corpus: dict[str, Document]) -> None:
    made = documents.load()
    assert len(corpus) == len(made) > 90
    assert all(document.text.strip() and document.title and document.source for document in made)
    assert {document.id.split("/")[0] for document in made} == {"topic", "lib", "notes"}


def test_two_processes_read_the_same_corpus() -> None:
    """With another hash seed: no order may come from a set."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", ONE_RUN],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_section_stands_in_one_topic_only() -> None:
    bodies = [
        " ".join(document.text[section.start : section.end].split())
        for document in documents.topics()
        for section in sections(document.text)
    ]
    assert len(bodies) == len(set(bodies))


def test_modules_have_a_section_per_function(corpus: dict[str, Document]) -> None:
    headings = {section.path[-1] for section in sections(corpus["lib/json"].text)}
    assert {"json", "json.dumps", "json.JSONDecoder.decode"} <= headings
    assert " at 0x" not in "".join(document.text for document in corpus.values())


def test_headings_inside_a_docstring_do_not_swallow_functions() -> None:
    (document,) = documents.library(("statistics",))
    paths = {section.path for section in sections(document.text)}
    assert ("statistics", "Calculating averages") in paths
    assert ("statistics.median",) in paths


def test_more_documents_are_the_same_and_some(corpus: dict[str, Document]) -> None:
    more = {document.id: document for document in documents.load_more()}
    assert corpus.items() < more.items()
    assert {"lib/queue", "lib/argparse"} <= more.keys() - corpus.keys()


@pytest.mark.parametrize("name", ["load", "load_more"])
def test_the_project_names_functions_that_are_there(name: str) -> None:
    project = load_project("pipelines/python_help", {"documents": f"documents:{name}"})
    assert project.resolve("documents") is getattr(documents, name)
