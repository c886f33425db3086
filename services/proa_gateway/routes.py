"""Which release answers: routes.json, version 1, and the choice of a track.

A unit is hashed into [0, 1); a model's tracks divide that interval by their weights, the champion
last, so that a growing challenger only ever wins units over and none flips back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.http.bodies import decode_object

__all__ = ["Model", "RouteTable", "Track", "fraction_of", "parse_routes"]

ROUTES_VERSION: Final = 1
CHAMPION: Final = "champion"
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Track:
    """One place a model's requests can go."""

    name: str
    release: str
    url: str
    ready: bool
    weight: float
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One model's tracks.

    Attributes:
        unit: the input column that says who is served, when the project names one.
        shares: upper bounds in [0, 1] and the track of each; empty when nothing is ready.
        shadow: the track that gets copies of the calls others answer.
    """

    name: str
    kind: str
    tracks: Mapping[str, Track]
    unit: str | None
    shares: tuple[tuple[float, Track], ...]
    shadow: Track | None = None

    def choose(self, unit: str, pinned: str | None = None) -> Track:
        """The track of a unit, or the pinned one.

        Raises:
            NotFound: the pinned track does not exist.
            Unavailable: the model has no release yet, or none that is ready.
        """
        if pinned is not None:
            return self._pinned(pinned)
        if len(self.shares) == 1:
            return self.shares[0][1]
        if not self.shares:
            raise self._nothing_ready()
        point = fraction_of(self.name, unit)
        return next(track for bound, track in self.shares if point < bound)

    def _pinned(self, name: str) -> Track:
        track = self.tracks.get(name)
        if track is None:
            there = ", ".join(sorted(self.tracks)) or "none"
            raise NotFound(
                f"model {self.name!r} has no track {name!r}; it has {there}", code="unknown_track"
            )
        if not track.ready:
            raise Unavailable(
                f"the {name} of {self.name!r}, {track.release}, is not ready", code="not_ready"
            )
        return track

    def _nothing_ready(self) -> Unavailable:
        if CHAMPION not in self.tracks:
            return Unavailable(f"model {self.name!r} has no release yet", code="no_release")
        release = self.tracks[CHAMPION].release
        return Unavailable(
            f"no release of {self.name!r} is ready: its champion is {release}", code="not_ready"
        )


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Every model, as of one generation."""

    generation: int
    models: Mapping[str, Model]

    def urls(self) -> set[str]:
        """Every address calls may go to."""
        return {
            track.url
            for model in self.models.values()
            for track in model.tracks.values()
            if track.url
        }

    def model(self, name: str) -> Model:
        """Raises NotFound when there is no such model."""
        model = self.models.get(name)
        if model is None:
            there = ", ".join(sorted(self.models)) or "none yet"
            raise NotFound(
                f"there is no model {name[:80]!r}; the models are: {there}",
                code="unknown_model",
                param="model",
            )
        return model


def fraction_of(model: str, unit: str) -> float:
    """A unit's fixed point in [0, 1), different for each model."""
    digest = hashlib.blake2b(f"{model}\0{unit}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def parse_routes(data: bytes) -> RouteTable:
    """Read routes.json.

    Raises:
        InvalidInput: what is wrong, with its path in the file.
    """
    value = decode_object(data, what="routes.json")
    if value.get("schema_version") != ROUTES_VERSION:
        raise InvalidInput(
            f"schema_version = {value.get('schema_version')!r}: expected {ROUTES_VERSION}"
        )
    generation = _field(value, "generation", int, "routes")
    models = _field(value, "models", dict, "routes")
    return RouteTable(generation, {name: _model(name, spec) for name, spec in models.items()})


def _model(name: str, spec: object) -> Model:
    where = f"models.{name}"
    kind = _field(spec, "kind", str, where)
    if kind not in ("classic", "llm"):
        raise InvalidInput(f"{where}.kind = {kind!r}: expected classic or llm")
    unit = _field(spec, "unit", (str, type(None)), where, None)
    named = _field(spec, "tracks", dict, where)
    tracks = {
        track: _track(track, value, f"{where}.tracks.{track}") for track, value in named.items()
    }
    shadow = next((track for track in tracks.values() if track.shadow and track.ready), None)
    return Model(name, kind, tracks, unit, _shares(tracks), shadow)


def _track(name: str, spec: object, where: str) -> Track:
    weight = _field(spec, "weight", (int, float), where)
    if not 0 <= weight < float("inf"):
        raise InvalidInput(f"{where}.weight = {weight!r}: expected 0 or more")
    url = _field(spec, "url", (str, type(None)), where)
    ready = _field(spec, "ready", bool, where)
    release = _field(spec, "release", str, where)
    shadow = _field(spec, "shadow", bool, where, False)
    # No address yet means nothing could answer there.
    return Track(name, release, (url or "").rstrip("/"), ready and bool(url), float(weight), shadow)


def _shares(tracks: Mapping[str, Track]) -> tuple[tuple[float, Track], ...]:
    order = sorted(tracks.values(), key=lambda track: (track.name == CHAMPION, track.name))
    usable = [track for track in order if track.ready and track.weight > 0]
    total = sum(track.weight for track in usable)
    shares, upper = [], 0.0
    for track in usable:
        upper += track.weight
        shares.append((upper / total, track))
    if shares:  # rounding must leave no gap below 1
        shares[-1] = (1.0, shares[-1][1])
    return tuple(shares)


def _field(value: object, name: str, kind: Any, where: str, default: Any = _MISSING) -> Any:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} = {value!r}: expected an object")
    found = value.get(name, default)
    if found is _MISSING:
        raise InvalidInput(f"{where}.{name} is missing")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
        wanted = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise InvalidInput(f"{where}.{name} = {found!r}: expected {wanted}")
    return found
