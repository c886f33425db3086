"""The index: ONE SQLite file with documents, chunks, full text (FTS5) and vectors.

It is written once, in one order and in one transaction, so the same chunks with the same vectors
give the same bytes, and it is opened read-only and immutable. Vectors are one float32 matrix in a
row of its own: an exact search over 20,000 chunks is one matrix product (a few milliseconds), so
no approximate index and no extension is needed.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from proa.errors import InvalidInput, NotFound
from proa.release.canonical import canonical_json, digest_json, parse_json
from proa.retrieval.chunks import Chunk, Document

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x70726F61  # "proa"
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (
  rowid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, source TEXT NOT NULL,
  digest TEXT NOT NULL
);
CREATE TABLE chunks (
  rowid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
  ordinal INTEGER NOT NULL, title TEXT NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL,
  source TEXT NOT NULL, digest TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(
  title, heading, text, content='chunks', content_rowid='rowid', tokenize='porter unicode61'
);
CREATE TABLE vectors (rowid INTEGER PRIMARY KEY, matrix BLOB NOT NULL);
"""
# Title, heading, text: a word in a title says more about a passage than one somewhere in it.
_LEXICAL: Final = """
SELECT words.rowid FROM words JOIN chunks ON chunks.rowid = words.rowid
WHERE words MATCH ? AND chunks.document NOT IN (SELECT value FROM json_each(?))
ORDER BY bm25(words, 4.0, 2.0, 1.0), words.rowid LIMIT ?
"""
_ROWS_OF: Final = "SELECT rowid FROM chunks WHERE document IN (SELECT value FROM json_each(?))"
_CHUNKS: Final = """
SELECT rowid, id, document, ordinal, title, heading, text, source, digest FROM chunks
WHERE rowid IN (SELECT value FROM json_each(?))
"""
_ALL_CHUNKS: Final = """
SELECT id, document, ordinal, title, heading, text, source, digest FROM chunks ORDER BY rowid
"""
_INSERT_CHUNK: Final = """
INSERT INTO chunks (id, document, ordinal, title, heading, text, source, digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index holds.

    Attributes:
        content_digest: over documents, chunks and embedder, in order; not over the vectors' bits,
            which differ in the last place from one processor to another.
        documents: how many.
        chunks: how many.
        dimension: numbers in a vector.
        embedder: the model's name.
        embedder_digest: `sha256:` and hex of its weights' listing.
        size: bytes of the file.
        newest: when its newest document was last changed, RFC 3339; empty when none of them says.
    """

    content_digest: str
    documents: int
    chunks: int
    dimension: int
    embedder: str
    embedder_digest: str
    size: int
    newest: str = ""

    def to_event(self) -> dict[str, Any]:
        """What an answer's event says of the index it was made with."""
        newest = self.newest or None
        return {"digest": self.content_digest, "documents": self.documents, "newest": newest}


def write_index(
    path: Path,
    *,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    vectors: NDArray[np.float32],
    embedder: str,
    embedder_digest: str,
) -> IndexInfo:
    """Write an index; it appears at `path` whole or not at all.

    Args:
        path: where; an older file there is replaced.
        documents: in the corpus's order.
        chunks: in the documents' order.
        vectors: float32 array of shape [len(chunks), dimension], rows of length 1.
        embedder: the name of the model that made them.
        embedder_digest: and the digest of its weights.

    Raises:
        InvalidInput: no chunks, another number of vectors, or ids given twice.
    """
    import numpy as np

    if not chunks or vectors.ndim != 2 or len(vectors) != len(chunks):
        raise InvalidInput(
            f"index: {len(chunks)} chunks with vectors of shape {vectors.shape}: "
            "expected at least one chunk and one vector each"
        )
    meta = {
        "schema_version": SCHEMA_VERSION,
        "content_digest": _content_digest(documents, chunks, embedder_digest),
        "documents": len(documents),
        "chunks": len(chunks),
        "dimension": int(vectors.shape[1]),
        "embedder": embedder,
        "embedder_digest": embedder_digest,
    }
    if newest := max((document.updated for document in documents), default=""):
        meta["newest"] = newest
    matrix = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".index-")
    os.close(descriptor)
    temporary = Path(name)
    try:
        _fill(temporary, meta, documents, chunks, matrix)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except sqlite3.IntegrityError as error:
        raise InvalidInput(f"index: an id is given twice ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return _info(meta, path)


class Index:
    """An open index. Safe to use from several threads."""

    def __init__(
        self, connection: sqlite3.Connection, info: IndexInfo, matrix: NDArray[np.float32]
    ) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.info = info
        self._matrix = matrix

    @classmethod
    def open(cls, path: Path) -> Index:
        """Open an index read-only; the matrix is read into memory.

        Raises:
            NotFound: no such file.
            InvalidInput: it is not an index, is cut short or has another version.
        """
        import numpy as np

        if not path.is_file():
            raise NotFound(f"index: no file {path}")
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            info = _read_info(connection, path)
            (blob,) = connection.execute("SELECT matrix FROM vectors").fetchone()
            matrix = np.frombuffer(blob, dtype="<f4").reshape(info.chunks, info.dimension)
        except (sqlite3.DatabaseError, TypeError, ValueError, KeyError) as error:
            connection.close()
            raise InvalidInput(f"{path} is not an index: {error}") from error
        except InvalidInput:
            connection.close()
            raise
        return cls(connection, info, matrix)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def lexical(self, expression: str, *, limit: int, exclude: Collection[str] = ()) -> list[int]:
        """Rows that match an FTS5 expression, best BM25 first, ties by row.

        Args:
            expression: made by `proa.retrieval.search.fts_expression`; never a user's own text.
            limit: rows at most.
            exclude: documents' ids that are left out.
        """
        if not expression:
            return []
        return [row for (row,) in self._all(_LEXICAL, (expression, _array(exclude), limit))]

    def nearest(
        self, vector: NDArray[np.float32], *, limit: int, exclude: Collection[str] = ()
    ) -> list[tuple[int, float]]:
        """Rows with their cosine to `vector` (of length 1), nearest first, ties by row."""
        import numpy as np

        # Rounded, so that the last bits of a processor's sums do not decide an order.
        # einsum, because a BLAS starts threads for this and they wait for each other.
        cosines = np.round(np.einsum("ij,j->i", self._matrix, vector), 6)
        if exclude:
            left_out = self._all(_ROWS_OF, (_array(exclude),))
            cosines[[row - 1 for (row,) in left_out]] = -np.inf
        order = np.argsort(-cosines, kind="stable")[:limit]
        return [(int(row) + 1, float(cosines[row])) for row in order if np.isfinite(cosines[row])]

    def cosine(self, row: int, vector: NDArray[np.float32]) -> float:
        """The cosine of one row to `vector`."""
        return round(float(self._matrix[row - 1] @ vector), 6)

    def chunks(self, rows: Sequence[int]) -> list[Chunk]:
        """The chunks of these rows, in this order."""
        found = {row: Chunk(*rest) for row, *rest in self._all(_CHUNKS, (_array(rows),))}
        return [found[row] for row in rows]

    def all_chunks(self) -> Iterator[Chunk]:
        """Every chunk in the index's order."""
        for row in self._all(_ALL_CHUNKS, ()):
            yield Chunk(*row)

    def all_documents(self) -> dict[str, str]:
        """Every document's id with its digest, in the index's order."""
        return dict(self._all("SELECT id, digest FROM documents ORDER BY rowid", ()))

    def vectors_by_digest(self) -> Mapping[str, NDArray[np.float32]]:
        """The vector of every chunk's digest: what a next index need not embed again."""
        rows = self._all("SELECT digest, rowid FROM chunks", ())
        return {digest: self._matrix[row - 1] for digest, row in rows}

    def _all(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()


def _array(values: Collection[str] | Sequence[int]) -> str:
    """A list as one bound value: SQL text never depends on what is asked."""
    return canonical_json(list(values)).decode()


def _fill(
    path: Path,
    meta: Mapping[str, Any],
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    matrix: bytes,
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [(key, canonical_json(value).decode()) for key, value in sorted(meta.items())],
        )
        connection.executemany(
            "INSERT INTO documents (id, title, source, digest) VALUES (?, ?, ?, ?)",
            [(item.id, item.title, item.source, item.digest) for item in documents],
        )
        connection.executemany(_INSERT_CHUNK, [astuple(chunk) for chunk in chunks])
        connection.execute(
            "INSERT INTO words (rowid, title, heading, text) "
            "SELECT rowid, title, heading, text FROM chunks ORDER BY rowid"
        )
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        connection.execute("INSERT INTO vectors VALUES (1, ?)", (matrix,))
        connection.execute("COMMIT")
        connection.execute("VACUUM")
    finally:
        connection.close()


def _content_digest(
    documents: Sequence[Document], chunks: Sequence[Chunk], embedder_digest: str
) -> str:
    return digest_json(
        {
            "schema_version": SCHEMA_VERSION,
            "documents": [[item.id, item.title, item.source, item.digest] for item in documents],
            "chunks": [[item.id, item.digest, item.source] for item in chunks],
            "embedder": embedder_digest,
        }
    )


def _read_info(connection: sqlite3.Connection, path: Path) -> IndexInfo:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION_ID:
        raise InvalidInput(f"{path} is not an index: it was not written by proa")
    meta = {
        key: parse_json(value.encode(), what=f"{path}: {key}")
        for key, value in connection.execute("SELECT key, value FROM meta")
    }
    if meta.get("schema_version") != SCHEMA_VERSION:
        raise InvalidInput(
            f"{path}: schema_version = {meta.get('schema_version')!r}: expected {SCHEMA_VERSION}"
        )
    return _info(meta, path)


def _info(meta: Mapping[str, Any], path: Path) -> IndexInfo:
    values = {key: value for key, value in meta.items() if key != "schema_version"}
    return IndexInfo(**values, size=path.stat().st_size)
