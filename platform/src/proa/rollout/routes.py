"""The routes: which track of which model answers where, with what weight.

One document for all models, written by the controller and watched by every gateway (a ConfigMap;
a file when embedded). Its generation rises with every change, so that a gateway can report what
it has loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proa.release.reference import ReleaseRef


@dataclass(frozen=True, slots=True)
class Backend:
    """One track of a model: its release, where it answers, whether it is ready, weight in %."""

    release: ReleaseRef
    url: str
    ready: bool
    weight: int


def model_routes(
    kind: str,
    *,
    champion: Backend | None,
    challenger: Backend | None,
    unit: str | None = None,
    shadow: bool = False,
) -> dict[str, Any]:
    """The routes of one model; a track that is not there is left out.

    Args:
        unit: the input column that names who is served, so that a canary's shares stick to it.
        shadow: the challenger gets copies of the champion's calls; its answers serve nobody.
    """
    tracks = {"champion": champion, "challenger": challenger}
    return {
        "kind": kind,
        **({} if unit is None else {"unit": unit}),
        "tracks": {
            track: {
                "release": str(backend.release),
                "url": backend.url,
                "ready": backend.ready,
                "weight": backend.weight,
                **({"shadow": True} if shadow and track == "challenger" else {}),
            }
            for track, backend in tracks.items()
            if backend is not None
        },
    }


def next_routes(
    previous: Mapping[str, Any] | None, models: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The document to write: the next generation, or None when nothing changed."""
    if previous is not None and previous.get("models") == models:
        return None
    generation = int(previous["generation"]) + 1 if previous else 1
    return {"schema_version": 1, "generation": generation, "models": dict(models)}


def shares(models: Mapping[str, Any], model: str) -> dict[str, float]:
    """The share of traffic each release of a model gets; tracks that are not ready get none."""
    tracks = models.get(model, {}).get("tracks", {})
    ready = {
        track["release"]: track["weight"]
        for track in tracks.values()
        if track["ready"] and track["weight"] > 0
    }
    total = sum(ready.values())
    return {release: weight / total for release, weight in ready.items()} if total else {}
