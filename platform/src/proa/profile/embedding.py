"""Embeddings in events, and random features of them whose sums can be merged exactly.

The mean of random Fourier features (Rahimi and Recht 2007) stands for a whole distribution: the
squared distance of two means is the kernel two-sample statistic MMD² (Gretton et al. 2012), here
for a Gaussian kernel. Features are rounded to integers, so sums can be added in any order and
grouping with the same result to the last bit.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEATURES", "RandomFeatures", "decode_vectors", "encode_vector", "mean_of"]

FEATURES: Final = 512
_ONE: Final = 1 << 20
"""What 1.0 is as an integer."""
_ROWS: Final = 256
"""Rows transformed at once: the buffers stay below 1 MiB."""


def encode_vector(vector: Sequence[float] | NDArray[Any]) -> str:
    """A vector as base64 of little-endian float16: 1,024 characters for 384 numbers."""
    import numpy as np

    return base64.b64encode(np.asarray(vector, dtype="<f2").tobytes()).decode("ascii")


def decode_vectors(texts: Sequence[str], dimension: int) -> NDArray[np.float32]:
    """Vectors of length 1; texts that hold none are left out.

    Returns:
        float32 array of shape [at most len(texts), dimension].
    """
    import numpy as np

    found = []
    for text in texts:
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(raw) == 2 * dimension:
            found.append(raw)
    vectors = np.frombuffer(b"".join(found), dtype="<f2").reshape(len(found), dimension)
    vectors = vectors.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.sqrt((vectors * vectors).sum(axis=1))
        sound = np.isfinite(lengths) & (lengths > 1e-3)
    return np.asarray(vectors[sound] / lengths[sound, None], dtype=np.float32)


class RandomFeatures:
    """`FEATURES` random Fourier features of a Gaussian kernel.

    Args:
        dimension: numbers in a vector.
        bandwidth: the kernel's, in units of distance.
        seed: decides the features; the same on every machine and with every numpy.
    """

    def __init__(self, dimension: int, bandwidth: float, seed: int) -> None:
        self._weights, self._phases = _drawn(dimension, seed)
        self._bandwidth = bandwidth

    def sums(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """The sum over rows, as integers; shape [FEATURES]."""
        import numpy as np

        total = np.zeros(FEATURES, dtype=np.int64)
        for start in range(0, len(vectors), _ROWS):
            total += self.of(vectors[start : start + _ROWS]).sum(axis=0)
        return total

    def of(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Each row's features as integers; shape [rows, FEATURES]."""
        import numpy as np

        angles = vectors @ self._weights
        values = np.cos(angles / self._bandwidth + self._phases) * np.sqrt(2 / FEATURES)
        return np.asarray(np.rint(values * _ONE), dtype=np.int64)


def mean_of(sums: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """The mean of features from their integer sums."""
    import numpy as np

    return np.asarray(sums, dtype=np.float64) / (_ONE * max(1, rows))


@lru_cache(maxsize=8)
def _drawn(dimension: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    import numpy as np

    # RandomState's streams are frozen for good; those of newer generators may change.
    draw = np.random.RandomState(seed)
    weights = draw.standard_normal((dimension, FEATURES)).astype(np.float32)
    phases = draw.uniform(0.0, 2 * np.pi, FEATURES).astype(np.float32)
    return weights, phases
