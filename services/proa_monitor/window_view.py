"""One window of one release for the page: what was judged, and each feature then and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from proa.findings.observation import Observation
from proa_monitor.windows import Track, window_end

__all__ = ["Look", "detail_of", "look_at"]

_DRIFT: Final = ("feature_drift", "prediction_drift", "semantic_drift")
Seen = Sequence[Observation]


@dataclass(frozen=True, slots=True)
class Look:
    """The drift of one window in a few words.

    Attributes:
        state: `drift`, `no drift`, `not enough data` or `not watched`.
        figure: the largest change in units of what is ordinary; above 1 is drift.
        subject: the feature that changed most.
        note: the same in a sentence, or why nothing can be said.
    """

    state: str
    figure: float | None
    subject: str | None
    note: str

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "figure": self.figure,
            "subject": self.subject,
            "note": self.note,
        }


def look_at(track: Track, name: str, seen: Seen) -> Look:
    """The drift of a window that `track` holds.

    Args:
        seen: what its judges saw, nothing while it is not over. Of the newest window the comparison
            with training is made now; others wait for their judges.
    """
    if track.reference.profile is None:
        return Look("not watched", None, None, track.reference.note or "not watched")
    moved = _moved(track, seen)
    if moved:
        ratios = {name: ratio for name, one in moved.items() if (ratio := _ratio(one)) is not None}
        if not ratios:
            return Look("not enough data", None, None, next(iter(moved.values())).message)
        worst = max(ratios, key=lambda name: (moved[name].holds is True, ratios[name]))
        state = "drift" if moved[worst].holds else "no drift"
        return Look(state, ratios[worst], worst, moved[worst].message)
    if name != track.newest:
        return Look("not enough data", None, None, "this window has not been judged")
    drift = track.judge(name) or {}
    state = drift.get("state", "not watched")
    figure = drift.get("figure")
    known = None if figure is None else max(0.0, figure)
    return Look(state, known, drift.get("feature"), drift.get("meaning", state))


def detail_of(track: Track, name: str, now: datetime, seen: Seen) -> dict[str, Any]:
    """A window in full: every feature with its counts then and now, the most changed first.

    Args:
        seen: as of `look_at`.
    """
    window, end = track.windows[name], window_end(name)
    return {
        "release": track.key.release,
        "track": track.key.track or None,
        "window": name,
        "over": end <= now or name != track.newest,
        "rows": window.traffic.rows,
        "calls": window.traffic.calls,
        **look_at(track, name, seen).to_json(),
        "features": _features(track, name, seen),
    }


def _moved(track: Track, seen: Seen) -> dict[str, Observation]:
    """Drift by subject; what is about a slice or about all features together is left out."""
    profile = track.reference.profile
    names = set() if profile is None else {feature.name for feature in profile.features}
    return {
        one.subject: one
        for one in seen
        if one.type in _DRIFT and (one.subject in names or one.type == "semantic_drift")
    }


def _ratio(one: Observation) -> float | None:
    """Corrected for sampling an index may lie below 0, which is no change at all."""
    return None if one.effect is None or not one.limit else max(0.0, one.effect / one.limit)


def _features(track: Track, name: str, seen: Seen) -> list[dict[str, Any]]:
    window, profile = track.windows[name], track.reference.profile
    if profile is None or window.counts is None:
        return []
    moved = _moved(track, seen)
    figures: Mapping[str, Any] = {}
    if not moved:
        figures = (track.judge(name) or {}).get("features", {})
    told = {one.subject: one.message for one in seen if one.group == "data" and one.holds}
    found = []
    for feature in profile.features:
        one = moved.get(feature.name)
        judged = _judged(one) if one is not None else _compared(figures.get(feature.name, {}))
        counts = [int(count) for count in window.counts.counts[feature.name]]
        found.append(
            {
                "name": feature.name,
                "source": feature.source,
                "type": feature.bins.type,
                **judged,
                "rows": sum(counts),
                "message": told.get(feature.name) or (one.message if one is not None else None),
                "bins": list(feature.bins.names),
                "odd": list(feature.bins.odd),
                "reference": [int(count) for count in feature.counts],
                "counts": counts,
            }
        )
    return sorted(
        found, key=lambda row: (row["ratio"] is None, -(row["ratio"] or 0.0), row["name"])
    )


def _judged(one: Observation) -> dict[str, Any]:
    states = {True: "drift", False: "no drift", None: "not enough data"}
    return {
        "state": states[one.holds],
        "effect": one.effect,
        "limit": one.limit,
        "unit": one.unit,
        "ratio": _ratio(one),
    }


def _compared(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison with training, before the window is over."""
    return {
        "state": figures.get("state", "not enough data"),
        "effect": figures.get("psi"),
        "limit": figures.get("ordinary"),
        "unit": "psi",
        "ratio": None if (ratio := figures.get("ratio")) is None else max(0.0, ratio),
    }
