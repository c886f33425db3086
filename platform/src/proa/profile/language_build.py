"""Makes the reference of a language release from its questions and, where known, its answers.

Runs where a release is made: clusters and words need scikit-learn, the monitor does not.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from proa.errors import InvalidInput
from proa.profile.embedding import RandomFeatures, mean_of
from proa.profile.language import LanguageState
from proa.profile.language_reference import LANGUAGE_NAME, SCHEMA_VERSION, parse_language
from proa.profile.reference import PROFILE_PATH

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedded", "build_language", "write_language"]

LEAST_ROWS: Final = 50
"""Questions below which nothing can be said about their distribution."""
_MOST_TOPICS: Final = 16
_WORDS: Final = 3
_SEED: Final = 20_260_101
_FAR: Final = 0.01
"""Share of the reference's questions that is farther from every centroid than `far`."""
_MOST_BLOCKS: Final = 100
_WORD: Final = r"(?u)\b[^\W\d]\w{2,29}\b"


@dataclass(frozen=True)
class Embedded:
    """Texts, already masked, with their vectors: float32 array [len(texts), dimension], rows of
    length 1; `blocks` names the stretch of time each belongs to, where there is one."""

    texts: Sequence[str]
    vectors: NDArray[np.float32]
    blocks: Sequence[str] | None = None


def write_language(folder: Path, **parts: Any) -> None:
    """Build (`build_language`) and write it beside the profile below a release's folder."""
    path = (folder / PROFILE_PATH).with_name(LANGUAGE_NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = orjson.dumps(build_language(**parts))
    parse_language(data)
    path.write_bytes(data)


def build_language(
    *,
    questions: Embedded,
    embedder: str,
    embedder_name: str,
    answers: Embedded | None = None,
    events: Sequence[Mapping[str, Any]] = (),
    index: Mapping[str, Any] | None = None,
    index_max_age_days: float | None = None,
) -> dict[str, Any]:
    """`language.json` as a JSON object.

    Args:
        embedder, embedder_name: digest and name of the weights that made the vectors.
        events: answers of the reference as events, for what is ordinary in them; may be empty.
        index: `digest`, `documents`, `newest` of the index, where there is one.
        index_max_age_days: how old its newest document may be; None when nobody cares.

    Raises:
        InvalidInput: fewer than 50 questions, or vectors of another shape.
    """
    import numpy as np

    rows = len(questions.texts)
    if rows < LEAST_ROWS or questions.vectors.shape[:1] != (rows,):
        raise InvalidInput(
            f"language reference: {rows} questions with vectors of shape "
            f"{questions.vectors.shape}: expected at least {LEAST_ROWS}, one vector each"
        )
    vectors = np.asarray(questions.vectors, dtype=np.float32)
    centroids = _centroids(vectors)
    cosines = (vectors @ centroids.T).max(axis=1)
    far = float(np.quantile(cosines, _FAR))
    bandwidth = _bandwidth(vectors)
    features = RandomFeatures(vectors.shape[1], bandwidth, _SEED)
    near = _topics(vectors, centroids, far)
    state = LanguageState(None)
    state.add(events)
    return {
        "schema_version": SCHEMA_VERSION,
        "embedder": embedder,
        "embedder_name": embedder_name,
        "dimension": int(vectors.shape[1]),
        "seed": _SEED,
        "bandwidth": bandwidth,
        "far": far,
        "centroids": base64.b64encode(centroids.astype("<f4").tobytes()).decode("ascii"),
        "topics": _words(questions.texts, (vectors @ centroids.T).argmax(axis=1), len(centroids)),
        "questions": _side(questions, near, features, len(centroids)),
        "answers": _answers(answers, centroids, far, features),
        "values": {"rows": state.rows, "counts": state.counts, "moments": state.moments},
        "index": None if index is None else dict(index),
        "index_max_age_days": index_max_age_days,
    }


def _answers(
    answers: Embedded | None, centroids: NDArray[Any], far: float, features: RandomFeatures
) -> dict[str, Any] | None:
    if answers is None or len(answers.texts) < LEAST_ROWS:
        return None
    return _side(answers, _topics(answers.vectors, centroids, far), features, len(centroids))


def _centroids(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """About the square root of the rows, at most 16, of length 1."""
    import numpy as np
    from sklearn.cluster import KMeans

    distinct = len(np.unique(np.round(vectors, 4), axis=0))
    wanted = min(_MOST_TOPICS, distinct, max(2, round(math.sqrt(len(vectors)))))
    found = KMeans(wanted, n_init=4, random_state=0).fit(vectors).cluster_centers_
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(lengths, 1e-9), dtype=np.float32)


def _topics(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], far: float
) -> NDArray[np.int64]:
    import numpy as np

    cosines = vectors @ centroids.T
    nearest = np.asarray(cosines.argmax(axis=1), dtype=np.int64)
    nearest[cosines.max(axis=1) < far] = len(centroids)
    return nearest


def _bandwidth(vectors: NDArray[np.float32]) -> float:
    """The median distance of two texts (the usual choice of a kernel's width)."""
    import numpy as np

    step = max(1, len(vectors) // 1000)
    some = vectors[::step]
    cosines = (some @ some.T)[np.triu_indices(len(some), 1)]
    return float(max(0.1, np.sqrt(np.maximum(0.0, 2 - 2 * np.median(cosines)))))


def _side(
    given: Embedded, topics: NDArray[np.int64], features: RandomFeatures, count: int
) -> dict[str, Any]:
    import numpy as np

    sums = features.sums(given.vectors)
    each = features.of(given.vectors).astype(np.float64) / (1 << 20)
    spectrum = _spectrum(each)
    blocks, block_topics = _blocks(given, each, topics, spectrum[0], count)
    return {
        "rows": len(given.texts),
        "features": base64.b64encode(sums.astype("<i8").tobytes()).decode("ascii"),
        "topics": np.bincount(topics, minlength=count + 1).tolist(),
        "spectrum": list(spectrum),
        "reach": _reach(each, topics, mean_of(sums, len(given.texts))),
        "blocks": blocks,
        "block_topics": block_topics,
    }


def _spectrum(each: NDArray[np.float64]) -> tuple[float, float, float]:
    """Power sums of the eigenvalues of the features' covariance.

    Eigenvalues of a sample spread more than the true ones; the second and third sums are freed of
    what m rows add on average.
    """
    import numpy as np

    rows = len(each)
    values = np.linalg.eigvalsh(np.cov(each, rowvar=False))
    first, second, third = (float((values**power).sum()) for power in (1, 2, 3))
    least = first * first / min(rows, len(values))  # all eigenvalues equal
    true = max(second - first * first / rows, least)
    cubes = max(third - 3 * first * true / rows - first**3 / rows**2, true * true / first)
    return first, true, cubes


def _reach(
    each: NDArray[np.float64], topics: NDArray[np.int64], mean: NDArray[np.float64]
) -> float:
    """MMD of one topic from all, on average over topics by their rows."""
    import numpy as np

    far = total = 0.0
    for topic in np.unique(topics):
        own = each[topics == topic]
        if len(own) < 3:
            continue
        noise = own.var(axis=0, ddof=1).sum() / len(own)
        square = float(((own.mean(axis=0) - mean) ** 2).sum() - noise)
        far += len(own) * math.sqrt(max(0.0, square))
        total += len(own)
    return max(0.05, far / total) if total else 0.5


def _blocks(
    given: Embedded, each: NDArray[np.float64], topics: NDArray[np.int64], scale: float, count: int
) -> tuple[list[list[float]], list[list[int]]]:
    import numpy as np

    if given.blocks is None:
        return [], []
    names = np.asarray([str(name) for name in given.blocks])
    distinct = sorted(set(names.tolist()))
    found: list[list[float]] = []
    counted: list[list[int]] = []
    total = each.sum(axis=0)
    for name in distinct[:: max(1, math.ceil(len(distinct) / _MOST_BLOCKS))]:
        own = each[names == name]
        rows, rest = len(own), len(each) - len(own)
        if rows < LEAST_ROWS or rest < LEAST_ROWS:
            continue
        mine = own.sum(axis=0)
        square = float(((mine / rows - (total - mine) / rest) ** 2).sum())
        found.append([rows, square / (1 / rows + 1 / rest) / scale])
        counted.append(np.bincount(topics[names == name], minlength=count + 1).tolist())
    return found, counted


def _words(texts: Sequence[str], topics: NDArray[np.int64], count: int) -> list[list[str]]:
    """A few words per topic that its texts have and others have not (tf-idf).

    Only words of several texts, so that nothing of a single one shows.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=2, token_pattern=_WORD)
    try:
        weights = reader.fit_transform(texts)
    except ValueError:  # no word stands in two texts
        return [[] for _ in range(count)]
    names, overall = reader.get_feature_names_out(), np.asarray(weights.mean(axis=0)).ravel()
    found: list[list[str]] = []
    for topic in range(count):
        own = np.flatnonzero(topics == topic)
        if not len(own):
            found.append([])
            continue
        mean = np.asarray(weights[own].mean(axis=0)).ravel()
        better = mean - overall
        best = [place for place in np.argsort(-better)[:_WORDS] if better[place] > 0]
        found.append([str(names[place]) for place in best])
    return found
