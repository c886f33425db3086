"""A small corpus with an index, made by the stand-in embedder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proa.retrieval.chunks import Document, chunk_documents
from proa.retrieval.index import Index, IndexInfo, write_index
from proa.retrieval.search import Searcher
from tests.standins.hashed_words import HashedWords

CORPUS = (
    Document("files", "Files", "# Reading\n\nopen a file\n\n# Writing\n\nwrite a file", "f.md"),
    Document("os.path", "os.path", "os.path.join joins path components", 'help("os.path")'),
    Document("quotes", "Quotes", 'a "quoted" word, an AND, an OR, a NOT and a NEAR', "q.md"),
    Document("paths", "pathlib", "Path.read_text reads the text of a path", 'help("pathlib")'),
)

Build = Callable[..., IndexInfo]


@pytest.fixture
def build() -> Build:
    """`build(path, documents=CORPUS) -> IndexInfo` writes an index."""

    def made(path: Path, documents: tuple[Document, ...] = CORPUS) -> IndexInfo:
        embedder = HashedWords()
        chunks = chunk_documents(documents, max_tokens=40, overlap=0, count=embedder.count)
        return write_index(
            path,
            documents=documents,
            chunks=chunks,
            vectors=embedder.embed([chunk.embedded for chunk in chunks]),
            embedder=embedder.name,
            embedder_digest=embedder.digest,
        )

    return made


@pytest.fixture
def searcher(tmp_path: Path, build: Build) -> Iterator[Searcher]:
    """Searches the small corpus."""
    build(tmp_path / "index.sqlite")
    with Index.open(tmp_path / "index.sqlite") as index:
        yield Searcher(index, HashedWords(), top_k=3)
