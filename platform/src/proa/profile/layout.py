"""A profile's bins as arrays: features x bins, so that all features are compared at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proa.profile.bins import NumberBins
from proa.profile.divergence import Counts, Floats
from proa.profile.reference import Profile, WatchedFeature
from proa.profile.window import WindowState

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the ordinary values of features are in a window's counts.

    Attributes:
        features: those of the rows, in the profile's order.
        positions, sigma: for `divergence.wasserstein`; NaN for categories.
    """

    features: tuple[WatchedFeature, ...]
    positions: Floats
    sigma: Floats
    _places: npt.NDArray[np.int64]
    _total: int

    @classmethod
    def of(cls, profile: Profile, features: Sequence[WatchedFeature]) -> Layout:
        """The layout of some features of a profile."""
        starts, start = {}, 0
        for feature in profile.features:
            starts[feature.name] = start
            start += len(feature.counts)
        bins = max((f.bins.ordinary for f in features), default=1)
        places = np.full((len(features), bins), start, dtype=np.int64)
        positions = np.full((len(features), bins), np.nan)
        sigma = np.full(len(features), np.nan)
        for row, feature in enumerate(features):
            own = feature.bins.ordinary
            places[row, :own] = starts[feature.name] + np.arange(own)
            if feature.positions is not None and feature.sigma is not None:
                positions[row, :own] = feature.positions
                positions[row, own:] = feature.positions[-1]
                sigma[row] = feature.sigma
        return cls(tuple(features), positions, sigma, places, start)

    def window(self, window: WindowState) -> Counts:
        """Counts of ordinary values, features x bins; 0 beyond a feature's own bins."""
        return self._matrix(window.flat)

    def reference(self) -> Counts:
        """The same of the whole reference."""
        return self._padded([feature.counts for feature in self.features])

    def blocks(self) -> Counts | None:
        """The same of each block, blocks x features x bins; None without blocks."""
        each = [feature.block_counts for feature in self.features]
        if not each or each[0] is None:
            return None
        return np.stack(
            [
                self._padded([counts[block] for counts in each if counts is not None])
                for block in range(len(each[0]))
            ]
        )

    def rebased(self, window: WindowState, counted_in: Profile) -> Counts:
        """Counts of a window that was counted in the bins of another profile.

        Numbers come from the window's quantile sketch (rank error 1.3 %); categories by name, and
        what the other profile called rare is rare here.
        """
        matrix = np.zeros_like(self._places)
        own = {feature.name: feature for feature in counted_in.features}
        counts = window.counts
        for row, feature in enumerate(self.features):
            source = own.get(feature.name)
            if source is None or type(source.bins) is not type(feature.bins):
                continue
            if isinstance(feature.bins, NumberBins):
                numbers = window.features[feature.name].numbers
                if numbers is None or numbers.is_empty() or not feature.bins.edges:
                    continue
                masses = np.array(numbers.get_pmf(list(feature.bins.edges)))
                matrix[row, : len(masses)] = np.rint(masses * numbers.n)
            elif not isinstance(source.bins, NumberBins):
                names = [*source.bins.categories, None, None]
                for name, count in zip(names, counts[feature.name], strict=False):
                    place = feature.bins.new - 1 if name is None else feature.bins.place(name)
                    matrix[row, place] += count
        return matrix

    def _matrix(self, flat: Counts) -> Counts:
        padded: Counts = np.append(flat, 0)[self._places]
        return padded

    def _padded(self, rows: Sequence[Sequence[int]]) -> Counts:
        matrix = np.zeros_like(self._places)
        for row, (feature, counts) in enumerate(zip(self.features, rows, strict=True)):
            matrix[row, : feature.bins.ordinary] = counts[: feature.bins.ordinary]
        return matrix
