"""Embedding, building and searching an index: `make bench-retrieval`.

Peers: padded batches of 32 on all threads (how sentence embeddings are usually computed), the bare
embedding of a question, the bare matrix product.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proa.embedded.engine_choice import weights_cache
from proa.retrieval.chunks import Chunk, chunk_documents
from proa.retrieval.embedder import Embedder, find_named
from proa.retrieval.index import Index, write_index
from proa.retrieval.search import Searcher
from python_help import documents
from tests.bench.rows import Row, finish

SAMPLE = 320
QUESTIONS = (
    "What does the pass statement do?",
    "How do I read a text file with pathlib?",
    "In which room is the help desk?",
    "Which operator binds most tightly?",
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        return finish("retrieval", _measure(Path(folder)))


def _measure(folder: Path) -> Iterator[Row]:
    threads = max(1, len(os.sched_getaffinity(0)))
    weights = find_named(weights_cache(os.environ), "all-minilm-l6-v2")
    embedder = Embedder.load(weights, threads=threads)
    corpus = documents.load()
    began = time.perf_counter()
    chunks = chunk_documents(corpus, max_tokens=200, overlap=20, count=embedder.count)
    yield Row("chunking", len(chunks) / (time.perf_counter() - began), "chunks/s")
    texts = [chunk.embedded for chunk in chunks]
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    alone = _rate(len(sample), lambda: embedder.embed(sample))
    padded = _rate(len(sample), lambda: _padded(weights, sample, threads))
    yield Row(f"embedding, {threads} threads", alone, "chunks/s", peer=padded)
    vectors = embedder.embed(texts)
    began = time.perf_counter()
    info = _write(folder / "index.sqlite", corpus, chunks, vectors, embedder)
    yield Row("writing the index", (time.perf_counter() - began) * 1e3, "ms")
    yield Row("index", info.size / 1e6, "MB")
    yield from _searches(folder, weights)
    yield from _exact(folder, embedder)


def _rate(count: int, work: Callable[[], Any]) -> float:
    work()
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def _padded(weights: Path, texts: list[str], threads: int) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        weights / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    tokenizer.enable_padding()
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), 32):
        encodings = tokenizer.encode_batch(ordered[start : start + 32])
        feed = {
            "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
        }
        session.run(None, feed)


def _write(path: Path, corpus: Any, chunks: list[Chunk], vectors: Any, embedder: Embedder) -> Any:
    return write_index(
        path,
        documents=corpus,
        chunks=chunks,
        vectors=vectors,
        embedder=embedder.name,
        embedder_digest=embedder.digest,
    )


def _median_ms(work: Callable[[str], Any], rounds: int = 15) -> float:
    seconds = []
    for _ in range(rounds):
        for question in QUESTIONS:
            began = time.perf_counter()
            work(question)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e3


def _searches(folder: Path, weights: Path) -> Iterator[Row]:
    one = Embedder.load(weights)
    with Index.open(folder / "index.sqlite") as index:
        searcher = Searcher(index, one, rrf_k=10, lexical_weight=0.5)
        bare = _median_ms(lambda question: one.embed([question]))
        yield Row(
            "search p50, peer: embedding the question", _median_ms(searcher.search), "ms", bare
        )


def _exact(folder: Path, embedder: Embedder) -> Iterator[Row]:
    """20,000 vectors: what one SQLite file is meant for."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((20_000, embedder.dimension), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    chunks = [
        Chunk(f"d#{n}:00000000", "d", n, "t", "", "x", "s", f"sha256:{n}")
        for n in range(len(matrix))
    ]
    _write(folder / "large.sqlite", [], chunks, matrix, embedder)
    vector = matrix[7]
    with Index.open(folder / "large.sqlite") as index:
        ours = _median_ms(lambda _: index.nearest(vector, limit=30))
    bare = _median_ms(lambda _: matrix @ vector)
    yield Row("nearest 30 of 20,000, peer: the bare matrix product", ours, "ms", bare)


if __name__ == "__main__":
    sys.exit(main())
