"""How far two counts of the same bins are apart, for many features at once.

Arrays are features x bins; features with fewer bins than others end in zeros, which are in no use.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Counts",
    "Floats",
    "chi_square_quantile",
    "corrected_psi",
    "wasserstein",
]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_PRIOR: Final = 0.5
"""Added to every bin in use, so that an empty one has a logarithm (Jeffreys' prior)."""


def corrected_psi(reference: Counts, window: Counts) -> tuple[Floats, Floats, Floats]:
    """The population stability index, less what it would be on average had nothing changed.

    Sum over bins of (q - p) ln(q / p), with half a count added to every bin in use. Under no
    change it is (bins in use - 1) (1/n + 1/m) on average, which is taken off: without that, 200
    rows in 15 bins show 0.07 from sampling alone.

    Args:
        reference, window: … x features x bins; leading axes broadcast.

    Returns:
        Of … x features: the corrected index (may be below 0; NaN when a side has no rows), its
        degrees of freedom (bins in use - 1), and 1/n + 1/m.
    """
    used = (reference > 0) | (window > 0)
    bins = used.sum(axis=-1)
    half = _PRIOR * used
    m, n = reference.sum(axis=-1), window.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (reference + half) / (m + _PRIOR * bins)[..., None]
        q = (window + half) / (n + _PRIOR * bins)[..., None]
        terms = np.where(used, (q - p) * np.log(q / p), 0.0)
        scale = 1 / n + 1 / m
        index = terms.sum(axis=-1) - (bins - 1) * scale
    empty = (m == 0) | (n == 0)
    return np.where(empty, np.nan, index), np.maximum(bins - 1, 0).astype(float), scale


def wasserstein(
    reference: Counts, window: Counts, positions: Floats, sigma: Floats
) -> tuple[Floats, Floats]:
    """The distance that mass moved and the shift of the mean, both in sigmas of the reference.

    Bins stand for a position each, so an outlier moves its count to the outermost position and no
    further (the 1-Wasserstein distance of the binned distributions).

    Args:
        positions: of each bin, ascending, features x bins; padding repeats the last one.
        sigma: per feature; 0 or NaN where there is none.

    Returns:
        Per feature, NaN where there is no sigma or a side has no rows.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p = reference / reference.sum(axis=-1, keepdims=True)
        q = window / window.sum(axis=-1, keepdims=True)
        behind = np.cumsum(q - p, axis=-1)[..., :-1]
        gaps = np.diff(positions, axis=-1)
        scale = np.where(sigma > 0, sigma, np.nan)
        return (np.abs(behind) * gaps).sum(axis=-1) / scale, -(behind * gaps).sum(axis=-1) / scale


def chi_square_quantile(freedom: Any, level: Any) -> Any:
    """What a chi-square of `freedom` exceeds with probability `level`; both broadcast.

    Wilson and Hilferty's cube root (1931): within 1 % for 3 degrees of freedom and more, above the
    truth for fewer.
    """
    part = 2 / (9 * np.maximum(freedom, 1e-9))
    z = np.vectorize(_upper, otypes=[float])(level)
    return freedom * np.maximum(1 - part + z * np.sqrt(part), 0.0) ** 3


@lru_cache(maxsize=4096)
def _upper(level: float) -> float:
    return -NormalDist().inv_cdf(level)
