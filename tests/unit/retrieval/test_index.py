"""The index file: same content, same bytes; read-only; broken files are named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proa.errors import InvalidInput, NotFound
from proa.retrieval.chunks import Document, chunk_documents
from proa.retrieval.index import Index, write_index
from tests.standins.hashed_words import HashedWords

Build = Callable[..., Any]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, build: Build) -> None:
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert one == two
    assert one.size == (tmp_path / "one").stat().st_size


def test_any_change_of_content_changes_the_digest(tmp_path: Path, build: Build) -> None:
    base = (Document("a", "A", "one", "s"), Document("b", "B", "two", "s"))
    changed = [
        (replace(base[0], text="once"), base[1]),
        (replace(base[0], title="AA"), base[1]),
        (replace(base[0], source="t"), base[1]),
        (base[1], base[0]),
        base[:1],
    ]
    digests = {build(tmp_path / "i", documents).content_digest for documents in (base, *changed)}
    assert len(digests) == 1 + len(changed)


def test_what_is_written_is_read(tmp_path: Path, build: Build) -> None:
    info = build(tmp_path / "i")
    with Index.open(tmp_path / "i") as index:
        assert index.info == info
        assert list(index.all_documents()) == ["files", "os.path", "quotes", "paths"]
        chunks = list(index.all_chunks())
        assert [chunk.heading for chunk in chunks[:2]] == ["Reading", "Writing"]
        assert index.chunks([2, 1]) == [chunks[1], chunks[0]]
        vectors = index.vectors_by_digest()
        again = HashedWords().embed([chunk.embedded for chunk in chunks])
        assert all(
            np.array_equal(vectors[chunk.digest], vector)
            for chunk, vector in zip(chunks, again, strict=True)
        )


def test_nobody_writes_to_an_open_index(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "i")
    before = (tmp_path / "i").read_bytes()
    with Index.open(tmp_path / "i") as index:
        index.lexical('"file"', limit=3)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            index._connection.execute("DELETE FROM chunks")
    assert (tmp_path / "i").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_an_older_index_stays_until_the_new_one_is_whole(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "i")
    before = (tmp_path / "i").read_bytes()
    embedder = HashedWords()
    document = Document("a", "A", "one", "s")
    (chunk,) = chunk_documents([document], max_tokens=9, overlap=0, count=embedder.count)
    with pytest.raises(InvalidInput, match="given twice"):
        write_index(
            tmp_path / "i",
            documents=[document],
            chunks=[chunk, chunk],
            vectors=embedder.embed(["a", "b"]),
            embedder="e",
            embedder_digest=embedder.digest,
        )
    assert (tmp_path / "i").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_chunks_and_vectors_must_agree(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"0 chunks with vectors of shape \(1, 64\)"):
        write_index(
            tmp_path / "i",
            documents=[],
            chunks=[],
            vectors=HashedWords().embed(["a"]),
            embedder="e",
            embedder_digest="sha256:" + "0" * 64,
        )


@pytest.mark.parametrize("size", [0, 100, 4096, 20_000])
def test_a_file_cut_short_is_no_index(tmp_path: Path, build: Build, size: int) -> None:
    build(tmp_path / "i")
    (tmp_path / "i").write_bytes((tmp_path / "i").read_bytes()[:size])
    with pytest.raises(InvalidInput, match="is not an index"):
        Index.open(tmp_path / "i")


def test_other_files_are_no_index(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        Index.open(tmp_path / "none")
    (tmp_path / "text").write_text("no database at all, but long enough to be looked at" * 100)
    with pytest.raises(InvalidInput, match="is not an index"):
        Index.open(tmp_path / "text")
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(InvalidInput, match="not written by proa"):
        Index.open(tmp_path / "other")


def test_another_schema_version_is_refused(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "i")
    with sqlite3.connect(tmp_path / "i") as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(InvalidInput, match="schema_version = 2: expected 1"):
        Index.open(tmp_path / "i")


def test_many_threads_search_one_index(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "i")
    with Index.open(tmp_path / "i") as index, ThreadPoolExecutor(8) as pool:
        alone = index.lexical('"path"', limit=5)
        found = list(pool.map(lambda _: index.lexical('"path"', limit=5), range(200)))
    assert alone
    assert all(rows == alone for rows in found)
