"""What scoring needs besides answers, from what lies on this machine: embedder, passages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from proa.exam.exam import Exam
from proa.exam.scorers import Embed, Passages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from proa.retrieval.embedder import Embedder

EMBEDDER: Final = "all-minilm-l6-v2"
"""The embedder of `similarity`, `grounded` and `consistent`; thresholds hold for this one only."""


class Embeddings:
    """The scorers' embedder, loaded when the first text needs it.

    Args:
        weights: the cache of weights folders on this machine.
    """

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._loading = Lock()

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Texts to rows of length 1.

        Raises:
            NotFound: the weights are not on this machine.
        """
        with self._loading:
            embedder = self._embedder
        return embedder.embed(texts)

    @cached_property
    def _embedder(self) -> Embedder:
        from proa.retrieval.embedder import Embedder, find_named

        return Embedder.load(find_named(self._weights, EMBEDDER))


def embed_for(exam: Exam, weights: Path | None) -> Embed | None:
    """The embedder when the exam has a task for it and its weights are here."""
    from proa.errors import NotFound
    from proa.retrieval.embedder import find_named

    wanted = any(
        task.expect.similarity is not None
        or task.expect.grounded is not None
        or task.expect.consistent
        for task in exam.tasks
    )
    if weights is None or not wanted:
        return None
    try:
        find_named(weights, EMBEDDER)
    except NotFound:
        return None
    return Embeddings(weights).embed


def passages_of(index: Path) -> Passages:
    """The texts of one release's passages, by their ids; unknown ids are left out."""
    from proa.retrieval.index import Index

    with Index.open(index) as opened:
        texts = {chunk.id: f"{chunk.heading}\n{chunk.text}" for chunk in opened.all_chunks()}

    def passages(ids: Sequence[str]) -> list[str]:
        return [texts[key] for key in ids if key in texts]

    return passages
