"""The reference of a language release: which questions it was made for, as numbers alone.

`language.json`, version 1, beside `profile.json`:

    {"schema_version": 1, "embedder": digest, "embedder_name", "dimension", "seed", "bandwidth",
     "far": least cosine to a centroid, "centroids": base64 float32 [K, dimension],
     "topics": [[word, …], …], "questions": SIDE, "answers": SIDE | null,
     "values": {"rows": n, "counts": {…}, "moments": {…}},
     "index": {"digest", "documents", "newest"} | null, "index_max_age_days": n | null}
    SIDE = {"rows", "features": base64 int64 [512], "topics": [K + 1 counts],
            "spectrum": [a, b, c], "reach", "blocks": [[rows, ratio], …],
            "block_topics": [[K + 1 counts], …]}

No text of a question is in it, only words that several questions of a topic share.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import orjson

from proa.errors import InvalidInput
from proa.profile.embedding import FEATURES, RandomFeatures
from proa.release.canonical import digest_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LANGUAGE_NAME",
    "LanguageReference",
    "Side",
    "Topic",
    "parse_language",
]

SCHEMA_VERSION: Final = 1
LANGUAGE_NAME: Final = "language.json"
"""Its name beside the profile."""
NO_TOPIC: Final = "none of them"


@dataclass(frozen=True, slots=True)
class Topic:
    """A cluster of the reference's questions; `share` of them lie in it."""

    name: str
    share: float


@dataclass(frozen=True)
class Side:
    """Questions, or answers, of the reference.

    Attributes:
        features: integer sums of random features; see `proa.profile.embedding`.
        topics: rows per topic; the last entry is those near to none.
        spectrum: sums of the first, second and third powers of the features' covariance's
            eigenvalues: the null distribution of MMD² in three numbers.
        reach: MMD between one topic and all: how far all rows turning to one topic would go.
        blocks: per stretch of the reference its rows, and its statistic in units of the mean that
            independent rows have.
        block_topics: per stretch its rows per topic.
    """

    rows: int
    features: NDArray[np.int64]
    topics: tuple[int, ...]
    spectrum: tuple[float, float, float]
    reach: float
    blocks: tuple[tuple[int, float], ...]
    block_topics: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LanguageReference:
    """A parsed `language.json`.

    Attributes:
        digest: of embedder, centroids and features: states of equal digest can be merged, and
            nothing else is compared.
        counts, moments: of the reference's records, as `LanguageState` counts them.
    """

    digest: str
    embedder: str
    embedder_name: str
    dimension: int
    seed: int
    bandwidth: float
    far: float
    centroids: NDArray[np.float32]
    topics: tuple[Topic, ...]
    questions: Side
    answers: Side | None
    rows: int
    counts: Mapping[str, int]
    moments: Mapping[str, Sequence[int]]
    index: Mapping[str, Any] | None
    index_max_age_days: float | None

    @cached_property
    def random_features(self) -> RandomFeatures:
        """Made on first use: 0.8 MB."""
        return RandomFeatures(self.dimension, self.bandwidth, self.seed)

    def topics_of(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """The topic of each row: the nearest centroid's number, or K for none."""
        import numpy as np

        if not len(vectors):
            return np.empty(0, dtype=np.int64)
        cosines = vectors @ self.centroids.T
        nearest = np.asarray(cosines.argmax(axis=1), dtype=np.int64)
        nearest[cosines.max(axis=1) < self.far] = len(self.centroids)
        return nearest


def parse_language(data: bytes) -> LanguageReference:
    """Read `language.json`.

    Raises:
        InvalidInput: another form or version; the message names what is wrong.
    """
    try:
        value = orjson.loads(data)
        if value["schema_version"] != SCHEMA_VERSION:
            raise InvalidInput(
                f"{LANGUAGE_NAME}: schema_version = {value['schema_version']!r}: "
                f"expected {SCHEMA_VERSION}"
            )
        return _parsed(value)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(f"{LANGUAGE_NAME} is no language reference: {error!r}") from error


def _parsed(value: Mapping[str, Any]) -> LanguageReference:
    centroids = _array(value["centroids"], "<f4").reshape(-1, value["dimension"])
    sides = {name: _side(value[name], len(centroids) + 1) for name in ("questions", "answers")}
    questions = sides["questions"]
    if questions is None or len(value["topics"]) != len(centroids):
        raise InvalidInput(f"{LANGUAGE_NAME}: expected questions, and words for each centroid")
    key = {name: value[name] for name in ("embedder", "dimension", "seed", "bandwidth", "far")}
    return LanguageReference(
        digest=digest_json(key | {"centroids": value["centroids"]}),
        embedder=value["embedder"],
        embedder_name=value["embedder_name"],
        dimension=value["dimension"],
        seed=value["seed"],
        bandwidth=value["bandwidth"],
        far=value["far"],
        centroids=centroids,
        topics=_named(value["topics"], questions),
        questions=questions,
        answers=sides["answers"],
        rows=value["values"]["rows"],
        counts=value["values"]["counts"],
        moments=value["values"]["moments"],
        index=value["index"],
        index_max_age_days=value["index_max_age_days"],
    )


def _side(value: Mapping[str, Any] | None, topics: int) -> Side | None:
    if value is None:
        return None
    features = _array(value["features"], "<i8")
    counts = [value["topics"], *value["block_topics"]]
    if len(features) != FEATURES or any(len(one) != topics for one in counts):
        raise InvalidInput(f"{LANGUAGE_NAME}: expected {FEATURES} features and {topics} topics")
    first, second, third = value["spectrum"]
    return Side(
        rows=value["rows"],
        features=features,
        topics=tuple(value["topics"]),
        spectrum=(first, second, third),
        reach=value["reach"],
        blocks=tuple((rows, ratio) for rows, ratio in value["blocks"]),
        block_topics=tuple(tuple(counts) for counts in value["block_topics"]),
    )


def _named(words: Sequence[Sequence[str]], side: Side) -> tuple[Topic, ...]:
    """Topics by their words; a name that is taken gets a number."""
    topics: list[Topic] = []
    taken: dict[str, int] = {}
    for given, rows in zip([*words, [NO_TOPIC]], side.topics, strict=True):
        name = ", ".join(given) or "unnamed"
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            name = f"{name} ({taken[name]})"
        topics.append(Topic(name, rows / max(1, side.rows)))
    return tuple(topics)


def _array(text: str, kind: str) -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(base64.b64decode(text), dtype=kind)
