"""A question becomes passages: full text and vectors are searched, their rankings fused."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from proa.errors import Conflict
from proa.retrieval.chunks import Chunk
from proa.retrieval.fusion import fuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from proa.release.manifest import Retrieval
    from proa.retrieval.index import Index

MAX_TERMS: Final = 32
"""Terms of a question that are searched; a pasted file does not become a query of 10,000 terms."""
_TERM = re.compile(r"\w+(?:[._-]+\w+)*")
# Words of questions, which tell no two passages apart; Python's own words (if, with, in) stay.
_STOP: Final = frozenset(
    re.findall(
        r"\w+",
        "a an the what which who whom whose when where why how do does did can could should would "
        "are was were be been i me my we you your it its there that this of to please tell explain",
    )
)


class Embeds(Protocol):
    """What a search needs of an embedder."""

    @property
    def digest(self) -> str: ...

    def embed(self, texts: list[str], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a question.

    Attributes:
        chunk: the passage.
        score: of the fused ranking; orders the hits of one question, says nothing across questions.
        cosine: of passage and question, in [-1, 1]; comparable across questions.
        lexical_rank: its rank by full text, from 1; None when not among the candidates.
        vector_rank: its rank by vectors.
    """

    chunk: Chunk
    score: float
    cosine: float
    lexical_rank: int | None
    vector_rank: int | None

    @property
    def id(self) -> str:
        """The chunk's id."""
        return self.chunk.id

    @property
    def document(self) -> str:
        """The document's id."""
        return self.chunk.document

    @property
    def title(self) -> str:
        """The document's title."""
        return self.chunk.title

    @property
    def heading(self) -> str:
        """The headings above the passage."""
        return self.chunk.heading

    @property
    def text(self) -> str:
        """The passage."""
        return self.chunk.text

    @property
    def source(self) -> str:
        """The document's source."""
        return self.chunk.source

    def citation(self) -> dict[str, Any]:
        """As it stands in an answer and in an event."""
        name = f"{self.title}: {self.heading}" if self.heading else self.title
        return {"id": self.id, "title": name, "source": self.source, "score": self.cosine}


@dataclass(frozen=True)
class Found:
    """Hits, best first, and the vector they were found by: None when nothing was searched for."""

    hits: list[Hit]
    vector: NDArray[np.float32] | None


class Searcher:
    """Searches one index with the embedder that made it. Safe to use from several threads."""

    def __init__(
        self,
        index: Index,
        embedder: Embeds,
        *,
        top_k: int = 4,
        candidates: int = 30,
        rrf_k: int = 60,
        lexical_weight: float = 1.0,
        vector_weight: float = 1.0,
    ) -> None:
        if index.info.embedder_digest != embedder.digest:
            raise Conflict(
                f"the index was made with embedder {index.info.embedder_digest}, "
                f"given is {embedder.digest}",
                code="embedder_mismatch",
            )
        self.index = index
        self._embedder = embedder
        self._top_k = top_k
        self._candidates = candidates
        self._rrf_k = rrf_k
        self._weights = (lexical_weight, vector_weight)

    @classmethod
    def from_manifest(
        cls, retrieval: Retrieval, *, folder: Path, weights: Path, threads: int = 1
    ) -> Searcher:
        """Open what a release pins.

        Args:
            retrieval: the manifest's section.
            folder: the release's folder.
            weights: the cache of weights folders on this machine.
            threads: texts embedded at once.

        Raises:
            NotFound: the index or weights with the pinned digest are not there.
            Conflict: the weights' files were changed, or the index was made with others.
        """
        from proa.retrieval.embedder import Embedder, find_weights
        from proa.retrieval.index import Index

        embedder = Embedder.load(find_weights(weights, retrieval.embedder_digest), threads=threads)
        index = Index.open(folder / retrieval.index)
        try:
            return cls(
                index,
                embedder,
                top_k=retrieval.top_k,
                candidates=retrieval.candidates,
                rrf_k=retrieval.rrf_k,
                lexical_weight=retrieval.lexical_weight,
                vector_weight=retrieval.vector_weight,
            )
        except Conflict:
            index.close()
            raise

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors of the embedder that made the index; float32 [len(texts), dimension]."""
        return self._embedder.embed(texts)

    def search(
        self, question: str, *, top_k: int | None = None, exclude: Collection[str] = ()
    ) -> list[Hit]:
        """The passages for a question, best first; see `find`."""
        return self.find(question, top_k=top_k, exclude=exclude).hits

    def find(
        self, question: str, *, top_k: int | None = None, exclude: Collection[str] = ()
    ) -> Found:
        """The passages for a question, best first, and the question's vector.

        Args:
            question: any text.
            top_k: passages at most; the release's setting when None.
            exclude: ids of documents that must not be found: tombstones, access lists.
        """
        if not question.strip():
            return Found([], None)
        limit = self._top_k if top_k is None else top_k
        depth = max(self._candidates, limit)
        vector = self._embedder.embed([question])[0]
        near = self.index.nearest(vector, limit=depth, exclude=exclude)
        lexical = self.index.lexical(fts_expression(question), limit=depth, exclude=exclude)
        fused = fuse([lexical, [row for row, _ in near]], weights=self._weights, k=self._rrf_k)[
            :limit
        ]
        cosines = dict(near)
        chunks = self.index.chunks([place.item for place in fused])
        hits = [
            Hit(
                chunk=chunk,
                score=place.score,
                cosine=cosines[place.item]
                if place.item in cosines
                else self.index.cosine(place.item, vector),
                lexical_rank=place.ranks[0],
                vector_rank=place.ranks[1],
            )
            for place, chunk in zip(fused, chunks, strict=True)
        ]
        return Found(hits, vector)


def fts_expression(question: str) -> str:
    """An FTS5 expression that finds any of a question's terms; safe for any text.

    Every term is a quoted string, so no character of it is an operator; `os.path.join` and
    `read_text` become phrases. Empty when the text holds no word.
    """
    terms: dict[str, str] = {}
    for match in _TERM.finditer(question):
        term = match[0]
        if term.casefold() not in _STOP:
            terms.setdefault(term.casefold(), term)
        if len(terms) == MAX_TERMS:
            break
    if not terms:
        terms = {match[0]: match[0] for match in list(_TERM.finditer(question))[:MAX_TERMS]}
    return " OR ".join('"' + term.replace('"', '""') + '"' for term in terms.values())
