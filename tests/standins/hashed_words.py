"""An embedder without weights: words hashed into a vector, so that equal words are near.

It keeps what the real one promises (unit length, a text's vector depends on that text alone) and
none of its sense: `file` and `path` are strangers to it.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

DIMENSION = 64


class HashedWords:
    """Stands in for `proa.retrieval.embedder.Embedder`."""

    name = "hashed-words"
    dimension = DIMENSION
    max_tokens = 256

    def __init__(self, digest: str = "sha256:" + "e" * 64) -> None:
        self.digest = digest
        self.embedded: list[str] = []

    def embed(self, texts: list[str], **_: object) -> NDArray[np.float32]:
        """One row of length 1 per text."""
        self.embedded += texts
        vectors = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.casefold()) or ["nothing"]:
                place = hashlib.sha256(word.encode()).digest()
                vectors[row, place[0] % DIMENSION] += 1.0 if place[1] % 2 else -1.0
            if not vectors[row].any():
                vectors[row, 0] = 1.0
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def count(self, texts: list[str]) -> list[int]:
        """Words and punctuation marks."""
        return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]
