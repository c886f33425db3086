"""Whether the data are what they should be: findings of their own, each column by itself.

Limits are such that people can follow them: the reference's share, and twice what its worst blocks
exceeded it by (the worst hundredth aside: a reference has bad days too), at least a floor. Values
outside the reference's range are what drift looks like, a spring after a winter; but when most lie
further off than that range is wide, or ten times off, they are in another unit. No drift test is
mixed in, so one broken column neither hides others nor passes for drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from proa.findings.observation import Observation
from proa.profile.ages import AgeCounts
from proa.profile.bins import CategoryBins, NumberBins
from proa.profile.column import KINDS
from proa.profile.feature_state import FeatureState
from proa.profile.reference import WatchedFeature
from proa.profile.window import WindowState

__all__ = ["BrokenData", "stale_features", "unknown_columns"]

_ENOUGH_ROWS: Final = 30
_NULLS: Final = 0.05
_INVALID: Final = 0.01
_MISSING: Final = 0.01
_NEW: Final = 0.01
_FAR_OFF: Final = 0.5
_ASIDE: Final = 0.01
_TYPE: Final = 0.05
_STALE: Final = 0.05
_FEWEST: Final = 3
"""So many rows are never a burst, however few rows there are in all."""
_SIGMAS: Final = 4.0


class BrokenData:
    """The limits of one feature, made once."""

    def __init__(self, feature: WatchedFeature) -> None:
        self.feature = feature
        null = feature.bins.null
        self._null_place = null
        # of numbers: non-finite and of another type; of categories: what could not be read
        self._invalid_places = range(null + 1, len(feature.counts))
        self._nulls, self._worst_nulls = self._shares(range(null, null + 1))
        invalid, worst = self._shares(self._invalid_places)
        self._invalid_limit = max(_INVALID, 2 * worst - invalid)
        self._distinct_limit = self._flood_limit()

    def observe(self, counts: list[int], state: FeatureState) -> list[Observation]:
        """Everything that may be wrong with the column in one window.

        Args:
            counts: of the feature's bins.
        """
        rows = sum(counts)
        if rows < _ENOUGH_ROWS:
            return self._too_few(rows)
        least = _FEWEST / rows
        found: list[Observation] = [
            self._null_burst(counts[self._null_place] - state.missing, rows),
            self._invalid(counts, rows, least, state),
            self._schema(state, rows, least),
        ]
        bins = self.feature.bins
        if isinstance(bins, CategoryBins):
            found += [self._new_category(counts[bins.new], rows, least, state), self._flood(state)]
        return found

    def _null_burst(self, nulls: int, rows: int) -> Observation:
        usual, share = self._nulls, nulls / rows
        noise = _SIGMAS * math.sqrt(max(usual * (1 - usual), 1e-6) / rows)
        worst = max(usual, self._worst_nulls)
        limit = max(usual + _NULLS, 2 * worst - usual, usual + noise)
        limit = max(limit, _FEWEST / rows)
        name = self.feature.name
        holds = share > limit
        message = f"{name} is missing in {share:.1%} of rows; in the reference in {usual:.1%}"
        return Observation(
            "null_burst", name, holds, share, limit, "share", message,
            "critical" if holds and share > 0.5 else "warning",
            {"rows": rows, "nulls": nulls, "reference": usual, "worst_block": worst},
        )  # fmt: skip

    def _invalid(
        self, counts: list[int], rows: int, least: float, state: FeatureState
    ) -> Observation:
        name, bins = self.feature.name, self.feature.bins
        invalid = sum(counts[place] for place in self._invalid_places)
        share, limit = invalid / rows, max(self._invalid_limit, least)
        message = f"{name} cannot be read in {share:.1%} of rows"
        if isinstance(bins, NumberBins):
            message = f"{name} is no finite number in {share:.1%} of rows"
        off = self._far_off(counts, state) / rows
        if off / _FAR_OFF > share / limit:
            share, limit = off, _FAR_OFF
            message = f"{name} is far off everything the reference has seen in {off:.1%} of rows"
        return Observation(
            "invalid_values", name, share > limit, share, limit, "share", message,
            "critical" if invalid / rows > 0.5 else "warning",
            {"rows": rows, "invalid": invalid, "far_off": off},
        )  # fmt: skip

    def _far_off(self, counts: list[int], state: FeatureState) -> float:
        """Rows whose number is off the reference's range by more than its width, or ten times."""
        bins, positions, numbers = self.feature.bins, self.feature.positions, state.numbers
        if not isinstance(bins, NumberBins) or positions is None or numbers is None:
            return 0.0
        low, high = positions[0], positions[-1]
        if 2 * (counts[0] + counts[bins.ordinary - 1]) <= sum(counts) or low == high:
            return 0.0
        lowest, highest = 2 * low - high, 2 * high - low
        if low > 0:
            lowest, highest = max(lowest, low / 10), min(highest, high * 10)
        share = numbers.get_rank(lowest) + 1 - numbers.get_rank(highest, True)
        return float(share * numbers.n)

    def _schema(self, state: FeatureState, rows: int, least: float) -> Observation:
        """Whether the column is there and of the type it had."""
        name, expected = self.feature.name, self.feature.json_type
        missing, other = state.missing / rows, 0.0
        usual = None
        if expected is not None and any(state.kinds):
            usual = KINDS[max(range(len(KINDS)), key=lambda kind: state.kinds[kind])]
            other = 1 - state.kinds[KINDS.index(expected)] / sum(state.kinds)
        if missing / _MISSING >= other / _TYPE:
            share, limit = missing, max(_MISSING, least)
            message = f"the column {name} is not there in {missing:.1%} of rows"
        else:
            share, limit = other, max(_TYPE, least)
            message = f"{name} is no {expected} in {other:.1%} of rows; most often a {usual}"
        types = dict(zip(KINDS, state.kinds, strict=True))
        evidence = {"rows": rows, "missing": state.missing, "expected": expected, "types": types}
        return Observation(
            "schema", name, share > limit, share, limit, "share", message,
            "critical" if share > max(limit, 0.5) else "warning", evidence,
        )  # fmt: skip

    def _new_category(self, new: int, rows: int, least: float, state: FeatureState) -> Observation:
        name, share, limit = self.feature.name, new / rows, max(_NEW, least)
        some = ", ".join(sorted(state.fresh, key=lambda n: -state.fresh[n])[:3])
        message = f"{name} has categories that the reference lacks in {share:.1%} of rows"
        return Observation(
            "new_category", name, share > limit, share, limit, "share",
            f"{message}: {some}" if new else message,
            evidence={"rows": rows, "new": new, "some": state.fresh} if new else {"rows": rows},
        )  # fmt: skip

    def _flood(self, state: FeatureState) -> Observation:
        name, limit = self.feature.name, self._distinct_limit
        if limit is None or state.distinct is None:
            return Observation(
                "category_flood", name, None, None, limit, "categories",
                f"how many categories {name} has is not known",
            )  # fmt: skip
        distinct = float(round(state.distinct.get_estimate()))
        return Observation(
            "category_flood", name, distinct > limit, distinct, limit, "categories",
            f"{name} has about {distinct:,.0f} categories; the reference has "
            f"{self.feature.distinct:,}",
            evidence={"distinct": distinct, "reference": self.feature.distinct},
        )  # fmt: skip

    def _too_few(self, rows: int) -> list[Observation]:
        name = self.feature.name
        types = ["null_burst", "invalid_values", "schema"]
        if isinstance(self.feature.bins, CategoryBins):
            types += ["new_category", "category_flood"]
        message = f"{rows} rows: at least {_ENOUGH_ROWS} are needed to say anything of {name}"
        return [Observation(kind, name, None, None, None, "", message) for kind in types]

    def _shares(self, places: range) -> tuple[float, float]:
        """Share of such values in the reference, and in the worst of its usual blocks."""
        feature = self.feature
        usual = sum(feature.counts[p] for p in places) / max(1, sum(feature.counts))
        shares = sorted(
            sum(counts[p] for p in places) / sum(counts)
            for counts in feature.block_counts or ()
            if sum(counts) >= _ENOUGH_ROWS
        )
        return usual, shares[-1 - int(_ASIDE * len(shares))] if shares else usual

    def _flood_limit(self) -> float | None:
        """Twice the reference's categories; None for what is more of an id than a category."""
        distinct, rows = self.feature.distinct, sum(self.feature.counts)
        if distinct is None or distinct > rows / 5:
            return None
        return max(2.0 * distinct, distinct + 20.0)


def unknown_columns(window: WindowState) -> Observation:
    """Columns that the release does not know, of the whole model."""
    rows, unknown = window.rows, window.unknown
    most = max(unknown.values(), default=0)
    share = most / rows if rows else None
    holds = None if rows < _ENOUGH_ROWS else most / rows > max(_MISSING, _FEWEST / rows)
    names = ", ".join(sorted(name[:64] for name in unknown)[:5])
    message = f"columns that the release does not know: {names}" if unknown else "no other columns"
    return Observation(
        "schema", "", holds, share, _MISSING, "share", message,
        evidence={"rows": rows, "unknown": {name[:64]: n for name, n in unknown.items()}},
    )  # fmt: skip


def stale_features(
    window: WindowState, max_age: Mapping[str, float], past: list[WindowState]
) -> list[Observation]:
    """One for each feature view: the age that one row in twenty exceeds.

    Args:
        max_age: view to the seconds that are allowed, where that is known.
        past: windows of the same hours before; without `max_age`, four of them say what is usual,
            and four times their largest is the limit.
    """
    found = []
    for view, ages in sorted(window.ages.items()):
        before = [w.ages[view] for w in past if view in w.ages]
        found.append(_stale(view, ages, max_age.get(view), before))
    return found


def _stale(
    view: str, ages: AgeCounts, allowed: float | None, before: list[AgeCounts]
) -> Observation:
    age = ages.quantile(1 - _STALE)
    limit = allowed
    if limit is None:
        usual = [q for a in before if (q := a.quantile(1 - _STALE)) is not None]
        limit = 4 * max(usual) if len(usual) >= 4 else None
    nowhere = ages.unknown / max(1, ages.rows)
    holds: bool | None
    if ages.rows < _ENOUGH_ROWS or limit is None:
        holds, message = None, f"how old {view} may be is not known"
    else:
        holds = ages.older_than(limit) > _STALE
        message = f"{view}: one row in twenty is older than {_words(age)}; {_words(limit)} is usual"
    evidence = {"rows": ages.rows, "unknown": nowhere, "oldest": ages.oldest, "p95": age}
    return Observation("stale_feature", view, holds, age, limit, "seconds", message,
                       "critical" if holds else "warning", evidence)  # fmt: skip


def _words(seconds: float | None) -> str:
    if seconds is None:
        return "anything known"
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
