"""One window against everything known before it: an observation for each thing looked at.

Drift of a feature is judged against what the release was trained on and against the same hour of
the last four weeks; either may show it, and the evidence says which did: what holds against
training but not against the last weeks came slowly, as a season does. The anchor, the profile of
the model's first release, is no cause for alarm but the measure that no retraining moves.

Whether data are broken is judged apart (`proa.profile.broken`), on other counts: drift looks at
ordinary values alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from proa.findings.observation import Observation
from proa.profile.baseline import (
    FALSE_ALARMS,
    FLOOR_WITHOUT_BLOCKS,
    Baseline,
    Compared,
    compare_with_past,
)
from proa.profile.broken import BrokenData, stale_features, unknown_columns
from proa.profile.divergence import Counts, wasserstein
from proa.profile.layout import Layout
from proa.profile.null import ENOUGH_ROWS
from proa.profile.reference import Profile, WatchedFeature
from proa.profile.volume import volume
from proa.profile.window import WindowState

__all__ = ["WindowJudge"]

_NAMED: Final = 10
"""Features named in the evidence of the anchor."""
Past = Sequence[tuple[str, WindowState]]


class WindowJudge:
    """What is ordinary for one release; made once, then asked for every window.

    Args:
        profile: of the release.
        anchor: of the model's first release; the same one is not looked at.
        max_age: feature view to the age in seconds that its rows may have.
    """

    def __init__(
        self,
        profile: Profile,
        anchor: Profile | None = None,
        *,
        max_age: Mapping[str, float] | None = None,
    ) -> None:
        self._profile = profile
        self._layout = Layout.of(profile, [f for f in profile.features if _drifts(f)])
        self._baseline = Baseline(self._layout, profile.blocks)
        self._broken = [BrokenData(feature) for feature in profile.features]
        self._max_age = dict(max_age or {})
        self._anchor: tuple[Layout, Baseline] | None = None
        if anchor is not None and anchor.digest != profile.digest:
            own = {f.name for f in self._layout.features}
            layout = Layout.of(anchor, [f for f in anchor.features if f.name in own])
            self._anchor = layout, Baseline(layout, anchor.blocks, floor=FLOOR_WITHOUT_BLOCKS)

    def observe(
        self, name: str, window: WindowState, past: Past = (), *, release: str
    ) -> list[Observation]:
        """Everything that can be said of one window; raises nothing for odd data.

        Args:
            name: of the window (`proa.profile.baseline`), which says how long it is.
            window: in the profile's bins; empty when nothing came.
            past: windows of the same hour of past weeks, the oldest first; in other bins, they
                only count for the volume.
            release: the release's short name, for messages.
        """
        before = [state for _, state in past if state.digest == window.digest]
        found = self._drift(name, window, before, release)
        counts, features = window.counts, window.features
        for broken in self._broken:
            feature = broken.feature.name
            found += broken.observe(counts[feature], features[feature])
        found.append(unknown_columns(window))
        found += stale_features(window, self._max_age, before)
        found.append(volume(window.rows, [state.rows for _, state in past]))
        return found

    def observe_segment(
        self, name: str, window: WindowState, past: Past, *, release: str, segment: str
    ) -> list[Observation]:
        """Drift of one segment against its own past: the whole profile is not like any segment.

        Args:
            past: windows of the segment, the oldest first; with fewer than twenty nothing is said.
            segment: `carrier=UA`; subjects are `carrier=UA/wind`.
        """
        before = [state for _, state in past if state.digest == window.digest]
        if not before or not self._layout.features:
            return []
        counts, all_past = (
            self._layout.window(window),
            np.stack(list(map(self._layout.window, before))),
        )
        compared = compare_with_past(counts, all_past, rows=window.rows, share=FALSE_ALARMS)
        if compared is None:
            return []
        reference = all_past.sum(axis=0)
        moved = {"week": self._moved(reference, counts)}
        about = f"{release}, {segment}"
        return self._observations(
            {"week": compared}, moved, window.rows, about, prefix=f"{segment}/"
        )

    def figures(self, name: str, window: WindowState) -> dict[str, Any]:
        """The comparison with training alone, for tables: per feature and for the whole window.

        Returns:
            `state` (`drift`, `no drift`, `not enough data`), `rows`, `figure` (the largest ratio of
            a PSI to what is ordinary; above 1 is drift), `feature`, `blocks`, `meaning`, and
            `features`: name to `state`, `rows`, `psi`, `ratio`, `ordinary`, `odd` (shares of values
            that are no ordinary ones).
        """
        compared = self._against_training(name, window, FALSE_ALARMS)
        numbers: dict[str, tuple[float, float]] = {}
        if compared is not None:
            pairs = zip(compared.psi.tolist(), compared.limit.tolist(), strict=True)
            names = (f.name for f in self._layout.features)
            numbers = {n: pair for n, pair in zip(names, pairs, strict=True) if pair[0] == pair[0]}
        counts = window.counts
        features = {
            f.name: _feature_figures(f, counts[f.name], numbers.get(f.name))
            for f in self._profile.features
        }
        judged = {n: f["ratio"] for n, f in features.items() if f["ratio"] is not None}
        worst = max(judged, key=lambda n: judged[n], default=None)
        figure = None if worst is None else judged[worst]
        blocks = 0 if compared is None else compared.blocks
        return {
            "state": "not enough data" if worst is None else features[worst]["state"],
            "rows": window.rows,
            "figure": figure,
            "feature": worst,
            "blocks": blocks if worst is not None else 0,
            "meaning": _meaning(worst, figure, blocks, window.rows),
            "features": features,
        }

    def _against_training(self, name: str, window: WindowState, share: float) -> Compared | None:
        if not self._layout.features:
            return None
        counts = self._layout.window(window)
        return self._baseline.compare(counts, name=name, rows=window.rows, share=share)

    def _drift(
        self, name: str, window: WindowState, before: list[WindowState], release: str
    ) -> list[Observation]:
        if not self._layout.features:
            return []
        counts = self._layout.window(window)
        past = [self._layout.window(state) for state in before]
        rows, share = window.rows, FALSE_ALARMS / 2
        compared: dict[str, Compared] = {}
        moved: dict[str, tuple[list[float], list[float]]] = {}
        weeks = self._baseline.compare_weeks(counts, past, name=name, rows=rows, share=share)
        if weeks is not None:
            compared["week"] = weeks
            moved["week"] = self._moved(np.sum(past[-4:], axis=0), counts)
        else:
            share = FALSE_ALARMS
        training = self._baseline.compare(counts, name=name, rows=rows, share=share)
        if training is not None:
            compared = {"training": training} | compared
            moved["training"] = self._moved(self._layout.reference(), counts)
        anchor = self._against_anchor(name, window)
        found = self._observations(compared, moved, rows, release, anchor=anchor)
        if self._anchor is not None:
            found.append(_anchored(anchor, rows))
        return found

    def _against_anchor(self, name: str, window: WindowState) -> dict[str, dict[str, Any]]:
        """Per feature that the anchor has: what it differs by."""
        if self._anchor is None:
            return {}
        layout, baseline = self._anchor
        counts = layout.rebased(window, self._profile)
        compared = baseline.compare(counts, name=name, rows=window.rows, share=FALSE_ALARMS)
        if compared is None:
            return {}
        distance, shift = wasserstein(layout.reference(), counts, layout.positions, layout.sigma)
        numbers = _numbers(compared, (distance.tolist(), shift.tolist()))
        holds = compared.holds.tolist()
        return {
            feature.name: numbers[row] | {"holds": holds[row]}
            for row, feature in enumerate(layout.features)
            if numbers[row]["psi"] is not None
        }

    def _moved(self, reference: Counts, counts: Counts) -> tuple[list[float], list[float]]:
        layout = self._layout
        distance, shift = wasserstein(reference, counts, layout.positions, layout.sigma)
        return distance.tolist(), shift.tolist()

    def _observations(
        self,
        compared: Mapping[str, Compared],
        moved: Mapping[str, tuple[list[float], list[float]]],
        rows: int,
        release: str,
        *,
        anchor: Mapping[str, dict[str, Any]] | None = None,
        prefix: str = "",
    ) -> list[Observation]:
        holding = {kind: each.holds.tolist() for kind, each in compared.items()}
        numbers = {kind: _numbers(each, moved[kind]) for kind, each in compared.items()}
        found = []
        for row, feature in enumerate(self._layout.features):
            against = {kind: each[row] for kind, each in numbers.items()}
            holds: dict[str, bool | None] = {"training": None, "week": None, "anchor": None}
            for kind, each in against.items():
                if each["psi"] is not None:
                    holds[kind] = holding[kind][row]
            if anchor and feature.name in anchor:
                holds["anchor"] = anchor[feature.name]["holds"]
                evidence = against | {"anchor": anchor[feature.name]}
            else:
                evidence = against
            found.append(_drift_of(feature, prefix, against, holds, evidence, rows, release))
        return found


def _drifts(feature: WatchedFeature) -> bool:
    """Answers of language models are judged by `proa.profile.language`, their questions here."""
    return feature.source != "answer" or feature.column == "question_characters"


def _drift_of(
    feature: WatchedFeature,
    prefix: str,
    against: Mapping[str, dict[str, Any]],
    holds: Mapping[str, bool | None],
    evidence: Mapping[str, Any],
    rows: int,
    release: str,
) -> Observation:
    kind = "prediction_drift" if feature.source == "outputs" else "feature_drift"
    subject = prefix + feature.name
    known = [name for name, each in against.items() if each["psi"] is not None]
    if not known:
        few = rows < ENOUGH_ROWS
        message = (
            f"{rows} rows: at least {ENOUGH_ROWS} values are needed to say anything"
            if few or against
            else "the reference says nothing of windows of this length"
        )
        return Observation(kind, subject, None, None, None, "psi", message, "warning",
                           {"rows": rows, "holds": dict(holds)})  # fmt: skip
    worst = max(
        known, key=lambda name: (holds[name], against[name]["psi"] / against[name]["limit"])
    )
    each = against[worst]
    return Observation(
        kind, subject, bool(holds[worst]), each["psi"], each["limit"], "psi",
        _sentence(subject, worst, each, release), "warning",
        {"rows": rows, "holds": dict(holds), "against": dict(evidence)},
    )  # fmt: skip


def _sentence(subject: str, worst: str, each: Mapping[str, Any], release: str) -> str:
    since = {"training": f"{release} was trained", "week": "the last weeks"}[worst]
    if each["psi"] <= each["limit"]:
        return f"{subject} is as it was when {since}" if worst == "training" else (
            f"{subject} is as it was in {since}"
        )  # fmt: skip
    shift = each.get("shift")
    moved = "" if shift is None else f", its mean by {shift:+.2g} standard deviations"
    ordinary = f"{each['blocks']} comparisons of unchanged data" if each["blocks"] else "chance"
    return (
        f"{subject} has changed against {'the last weeks' if worst == 'week' else 'training'}: "
        f"{each['psi'] / each['limit']:.2g} times what {ordinary} allow{moved}"
    )


def _numbers(
    compared: Compared, moved: tuple[Sequence[float], Sequence[float]]
) -> list[dict[str, Any]]:
    """Evidence per feature; None for what is not known."""
    columns = zip(
        compared.psi.tolist(), compared.limit.tolist(), compared.p.tolist(), *moved, strict=True
    )
    blocks = compared.blocks
    return [
        {"psi": _known(psi), "limit": _known(limit), "p": _known(p), "sigmas": _known(distance),
         "shift": _known(shift), "blocks": blocks}
        for psi, limit, p, distance, shift in columns
    ]  # fmt: skip


def _known(value: float) -> float | None:
    return value if value == value else None


def _anchored(anchor: Mapping[str, dict[str, Any]], rows: int) -> Observation:
    """How far the model's world has moved since its first release, in one line."""
    if not anchor:
        return Observation("feature_drift", "anchor", None, None, None, "psi",
                           "too few rows to compare with the first release", "info",
                           {"rows": rows})  # fmt: skip
    worst = max(anchor, key=lambda name: anchor[name]["psi"] / anchor[name]["limit"])
    moved = sorted(
        (name for name, each in anchor.items() if each["holds"]),
        key=lambda name: -anchor[name]["psi"] / anchor[name]["limit"],
    )
    each = anchor[worst]
    said = f"have changed since the first release: {', '.join(moved[:3])}"
    message = f"{len(moved)} of {len(anchor)} features {said}" if moved else (
        "nothing has changed since the first release"
    )  # fmt: skip
    return Observation(
        "feature_drift", "anchor", bool(each["holds"]), each["psi"], each["limit"], "psi", message,
        "info", {"rows": rows, "features": {name: anchor[name] for name in moved[:_NAMED]}},
    )  # fmt: skip


def _feature_figures(
    feature: WatchedFeature, counts: list[int], pair: tuple[float, float] | None
) -> dict[str, Any]:
    rows = sum(counts)
    shares = zip(feature.bins.names, counts, strict=True)
    odd = {name: n / rows for name, n in shares if n and name in feature.bins.odd}
    if pair is None:
        return {"state": "not enough data", "rows": rows, "psi": None, "ratio": None,
                "ordinary": None, "odd": odd}  # fmt: skip
    psi, limit = max(0.0, pair[0]), pair[1]
    return {
        "state": "drift" if psi > limit else "no drift",
        "rows": rows,
        "psi": psi,
        "ratio": psi / limit,
        "ordinary": limit,
        "odd": odd,
    }


def _meaning(feature: str | None, figure: float | None, blocks: int, rows: int) -> str:
    if feature is None or figure is None:
        return f"{rows} rows: at least {ENOUGH_ROWS} are needed to say anything"
    against = (
        f"is ordinary among the reference's {blocks} blocks"
        if blocks
        else f"counts (sampling noise and a PSI of {FLOOR_WITHOUT_BLOCKS:g}; "
        "the reference has too few blocks)"
    )
    return f"{feature} changed {figure:.2f} times as much as {against}"
