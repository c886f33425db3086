"""Questions of twelve made-up topics as vectors, and the reference of 1,500 of them.

Faked: the embedder. A topic is a direction, a question lies somewhere around it; that is all that
the tests of embeddings need, and it is drawn in milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from proa.events.event import answer_event
from proa.profile.embedding import encode_vector
from proa.profile.language_build import Embedded, build_language
from proa.profile.language_reference import LanguageReference, parse_language

DIMENSION = 48
TOPICS = 12
EMBEDDER = "sha256:" + "e" * 64
RELEASE = "python-help/2@sha256:" + "0a" * 32
_CENTRES = np.random.default_rng(7).normal(size=(TOPICS, DIMENSION))


def ask(seed: int, rows: int, *, share: float | None = None) -> NDArray[np.float32]:
    """Vectors of `rows` questions; `share` of them in topic 0, all topics alike without."""
    pick = np.random.default_rng(seed)
    first = 1 / TOPICS if share is None else share
    chances = [first, *[(1 - first) / (TOPICS - 1)] * (TOPICS - 1)]
    topics = pick.choice(TOPICS, size=rows, p=chances)
    found = _CENTRES[topics] + pick.normal(size=(rows, DIMENSION)) * 0.8
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


@lru_cache(maxsize=2)
def reference(*, blocks: bool = False) -> LanguageReference:
    """Of 1,500 questions, in 30 blocks if asked for."""
    rows = 1500
    vectors = ask(0, rows)
    nearest = (vectors @ _CENTRES.T).argmax(axis=1)
    value = build_language(
        questions=Embedded(
            [f"how does topic{k} word{k} work" for k in nearest],
            vectors,
            [f"2013-03-{k // 50:02}" for k in range(rows)] if blocks else None,
        ),
        embedder=EMBEDDER,
        embedder_name="made-up",
        index={"digest": "sha256:i", "documents": 3, "newest": "2013-03-25T00:00:00Z"},
        index_max_age_days=30,
    )
    return parse_language(orjson.dumps(value))


def answer(number: int = 0, *, vector: Any = None, embedder: str = EMBEDDER, **more: Any) -> Any:
    """An answer event; with the vector of its question, if given."""
    given: dict[str, Any] = {
        "request": f"{number:026d}",
        "model": "python-help",
        "release": RELEASE,
        "track": "champion",
        "question": "What is a slice?",
        "answer": "A slice is a part of a sequence." + "." * (number % 7),
        "latency_ms": 100.0,
        "tokens_in": 300 + number % 11,
        "tokens_out": 40 + number % 5,
        "finish_reason": "stop",
        "retrieved": [{"id": "a", "title": "A", "score": 0.6 + 0.01 * (number % 9)}],
        "time": f"2013-04-01T{number // 60 % 24:02}:{number % 60:02}:00.000000Z",
    }
    if vector is not None:
        given["embeddings"] = {
            "embedder": embedder, "name": "made-up", "question": encode_vector(vector),
            "answer": None,
        }  # fmt: skip
    return answer_event(**(given | more))
