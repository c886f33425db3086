"""A few calls of one window, as they were: what a figure is made of, for people who look into it.

Texts of users and values of columns, never protected attributes. Files are read from the newest
back, and no further than a bound: of an old window there may be no example any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proa.events.event import Event
from proa.profile.bins import NumberBins
from proa.profile.column import category_names, number_column
from proa.profile.observed import answer_values
from proa.profile.reference import WatchedFeature
from proa_monitor.store import EventStore
from proa_monitor.windows import Track

__all__ = ["examples_of"]

MOST: Final = 8
_READ: Final = 50_000
"""Events looked at, at most."""
_CHARACTERS: Final = 4000
"""Of a question or an answer."""


def examples_of(
    store: EventStore, track: Track, window: str, feature: str | None
) -> dict[str, Any]:
    """Calls of a window; with a feature those whose value lies in the bin that grew most.

    Reads files: not for the event loop.

    Args:
        window: one that `track` holds.
        feature: its name; one that is not watched counts as none.
    """
    watched = _watched(track, feature)
    bin_name = None if watched is None else _grown(track, window, watched)
    found: list[dict[str, Any]] = []
    seen = 0
    for events in store.newest(track.key.model):
        seen += len(events)
        for event in events:
            row = _row(event, watched, bin_name) if _belongs(event, track, window) else None
            if row is not None and len(found) < MOST:
                found.append(_example(event, row, watched))
        if len(found) >= MOST or seen > _READ:
            break
    return {
        "window": window,
        "feature": None if watched is None else watched.name,
        "bin": bin_name,
        "why": _why(watched, bin_name),
        "examples": found,
    }


def _why(watched: WatchedFeature | None, bin_name: str | None) -> str:
    if watched is None or bin_name is None:
        return "The newest calls of this window."
    return f"Calls whose {watched.name} lies in the bin that grew most, {bin_name}."


def _watched(track: Track, name: str | None) -> WatchedFeature | None:
    profile = track.reference.profile
    features = () if profile is None else profile.features
    return next((one for one in features if one.name == name), None)


def _grown(track: Track, window: str, feature: WatchedFeature) -> str | None:
    """The bin with the largest gain in share; None without values on one side."""
    state = track.windows[window].counts
    if state is None:
        return None
    now, then = list(state.counts[feature.name]), list(feature.counts)
    if not sum(now) or not sum(then):
        return None
    gains = [a / sum(now) - b / sum(then) for a, b in zip(now, then, strict=True)]
    return feature.bins.names[gains.index(max(gains))]


def _belongs(event: Event, track: Track, window: str) -> bool:
    return bool(
        event["type"] in ("prediction", "answer")
        and event["release"] == track.key.release
        and (event["track"] or "") == track.key.track
        and event["time"].startswith(window)
        and event["purpose"] not in ("gate", "judge", "shadow")
    )


def _row(event: Event, feature: WatchedFeature | None, bin_name: str | None) -> int | None:
    """The row of a call to show: the first that has a value in that bin; None when none has."""
    if feature is None or bin_name is None:
        return 0
    if event["status"] >= 400:
        return None
    if event["type"] == "answer":
        values = [answer_values(event).get(feature.column)]
    else:
        values = (event[feature.source] or {}).get(feature.column) or [None] * event["rows"]
    place, bins = feature.bins.names.index(bin_name), feature.bins
    if isinstance(bins, NumberBins):
        places = bins.codes(number_column(values)).tolist()
    else:
        places = bins.codes(category_names(values)).tolist()
    return places.index(place) if place in places else None


def _example(event: Event, row: int, feature: WatchedFeature | None) -> dict[str, Any]:
    common = {"request": event["request"], "time": event["time"], "status": event["status"]}
    if event["type"] == "answer":
        value = None if feature is None else answer_values(event).get(feature.column)
        said = None if feature is None else f"{feature.name}: {value}"
        texts = {key: (event[key] or "")[:_CHARACTERS] for key in ("question", "answer")}
        return {**common, **texts, "value": said, "inputs": {}, "outputs": {}}
    return {
        **common,
        "question": None,
        "answer": None,
        "value": None,
        "inputs": _values(event["inputs"], row),
        "outputs": _values(event["outputs"], row),
    }


def _values(columns: Mapping[str, Any], row: int) -> dict[str, Any]:
    """One row, every value short enough to be looked at."""
    found = {}
    for name, values in columns.items():
        value = values[row] if row < len(values) else None
        known = value is None or isinstance(value, bool | int | float)
        found[name] = value if known else str(value)[:200]
    return found
