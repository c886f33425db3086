"""What the monitor knows of models, as JSON for people, the command line and tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from proa.http.clock import rfc3339
from proa_monitor.traffic import Traffic
from proa_monitor.windows import Length, Track, Windows, window_end

__all__ = ["fleet_view", "model_view"]


def fleet_view(windows: Windows, now: datetime) -> dict[str, Any]:
    """Every model, its traffic, and the newest window of each of its releases."""
    names = sorted({track.key.model for track in windows})
    return {
        "window": windows.length,
        "models": [
            {
                "name": name,
                "kind": windows.of_model(name)[0].kind,
                **_traffic(_sum(track.total for track in windows.of_model(name))),
                "releases": [_release(track, now, count=1) for track in windows.of_model(name)],
            }
            for name in names
        ],
    }


def model_view(
    name: str, tracks: list[Track], length: Length, now: datetime, *, count: int
) -> dict[str, Any]:
    """One model: per release and track its last `count` windows, the newest first."""
    return {
        "name": name,
        "kind": tracks[0].kind,
        "window": length,
        **_traffic(_sum(track.total for track in tracks)),
        "releases": [_release(track, now, count=count, features=True) for track in tracks],
    }


def _release(track: Track, now: datetime, *, count: int, features: bool = False) -> dict[str, Any]:
    reference = track.reference
    names = sorted(track.windows, reverse=True)[:count]
    return {
        "release": track.key.release,
        "track": track.key.track or None,
        "watched": reference.profile is not None,
        "note": reference.note,
        **_traffic(track.total),
        "windows_held": len(track.windows),
        "windows_dropped": track.dropped,
        "windows": [_window(track, name, now, features=features) for name in names],
    }


def _window(track: Track, name: str, now: datetime, *, features: bool) -> dict[str, Any]:
    window, end = track.windows[name], window_end(name)
    judged = track.judge(name)
    if judged is not None and features and window.counts is not None:
        watched = track.reference.profile.features if track.reference.profile else ()
        counted = {
            feature.name: {
                "bins": list(feature.bins.names),
                "counts": list(window.counts.counts[feature.name]),
                "reference": list(feature.counts),
            }
            for feature in watched
        }
        found = judged["features"]
        judged = judged | {"features": {n: found.get(n, {}) | c for n, c in counted.items()}}
    elif judged is not None:
        judged = {key: value for key, value in judged.items() if key != "features"}
    return {
        "name": name,
        "end": rfc3339(end),
        "over": end <= now or name != track.newest,
        **_traffic(window.traffic),
        "drift": judged,
    }


def _traffic(traffic: Traffic) -> dict[str, Any]:
    return {
        "calls": traffic.calls,
        "errors": traffic.errors,
        "rows": traffic.rows,
        "refused": traffic.refused,
        "tokens_in": traffic.tokens_in,
        "tokens_out": traffic.tokens_out,
        "latency_seconds": {
            "p50": traffic.quantile(0.5),
            "p99": traffic.quantile(0.99),
        },
        "first": traffic.first or None,
        "last": traffic.last or None,
    }


def _sum(parts: Iterable[Traffic]) -> Traffic:
    total = Traffic()
    for part in parts:
        total = total.merge(part)
    return total
