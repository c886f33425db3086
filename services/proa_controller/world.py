"""The world as the controller sees and moves it: workloads, routes, gateways, engines.

The machine's rules never touch anything; this is where they meet what runs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from proa.embedded.parts import RESERVED
from proa.errors import InvalidInput, ProaError, Refused, Unavailable
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.rollout.machine import Seen, Track
from proa.rollout.routes import Backend, model_routes, next_routes, shares
from proa.rollout.state import Rollout, desired
from proa.rollout.workloads import Deployed, Workloads
from proa_controller.canary import Canaries, Truths
from proa_controller.gateways import Gateways
from proa_controller.routes import Routes

log = logging.getLogger("proa.controller")


class Launcher(Protocol):
    """Turns a release into the template of a workload, building its runtime first."""

    def template(self, ref: ReleaseRef, manifest: Manifest, track: str) -> Any | None:
        """The template, or None while the release's runtime is still being built.

        Raises:
            Refused: the runtime cannot be built.
        """

    def progress(self, ref: ReleaseRef) -> str | None:
        """How far that build is, for people; None when none is under way."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A model's two workloads at one moment; a turn decides and acts on one sight."""

    champion: Deployed
    challenger: Deployed


class World:
    """One platform's workloads, routes and gateways."""

    def __init__(
        self,
        *,
        workloads: Workloads,
        launcher: Launcher,
        routes: Routes,
        gateways: Gateways,
        bundles: BundleStore,
        engines: Callable[[], frozenset[str]],
        truths: Truths | None = None,
    ) -> None:
        self._workloads = workloads
        self._launcher = launcher
        self._routes = routes
        self._gateways = gateways
        self._canaries = Canaries(gateways, truths)
        self._bundles = bundles
        self._engines = engines
        self._refused: dict[str, tuple[ReleaseRef, str]] = {}
        self._units: dict[str, str | None] = {}

    def look(self, model: str) -> Sight:
        """Both workloads of a model as they are now."""
        return Sight(self._workloads.status(model), self._workloads.status(_challenger(model)))

    def see(self, state: Rollout, sight: Sight, *, now: float, wall: float) -> Seen:
        """What the machine needs to know about one model; for the times see `Seen`."""
        champion, challenger = sight.champion, sight.challenger
        return Seen(
            now=now,
            wall=wall,
            running=champion.template_release,
            generation=champion.generation,
            champion=self._track(state.model, champion, state.applied),
            challenger=self._track(_challenger(state.model), challenger, desired(state).challenger),
            routed=self._routed(state),
            analysis=self._canaries.analysis(state, wall),
        )

    def _track(self, name: str, deployed: Deployed, wanted: ReleaseRef | None) -> Track:
        release, why = self._refused.get(name, (None, ""))
        refused = why if wanted is not None and release == wanted else None
        return Track(deployed.release, deployed.ready, deployed.failed, refused, deployed.stale)

    def act(self, state: Rollout, sight: Sight) -> None:
        """Make the workloads of one model as they should be."""
        want = desired(state)
        present = sight.champion
        intended = state.applying == present.generation
        if want.champion is None:
            if intended and present.template_release is not None:
                self._workloads.delete(state.model)
        elif want.champion == present.template_release:
            if present.stale:
                self._write(state, state.model, want.champion, "champion", present)
        elif intended or present.template_release is None:
            self._write(state, state.model, want.champion, "champion", present)
        name, present = _challenger(state.model), sight.challenger
        if present.template_release != want.challenger and self._carries(state.model, present):
            # Routes first: whoever dies between the two must leave nobody on the way to nothing.
            return
        if want.challenger is None:
            self._refused.pop(name, None)
            if present.template_release is not None or present.stale:
                self._workloads.delete(name)
        elif (
            present.template_release != want.challenger
            or present.stale
            or present.replicas != self._needed(state, sight)
        ):
            self._write(state, name, want.challenger, "challenger", present, sight)

    def _carries(self, model: str, present: Deployed) -> bool:
        """Whether the routes last written send calls to what runs in the slot."""
        routes = self._routes.read() or {"models": {}}
        track = routes["models"].get(model, {}).get("tracks", {}).get("challenger")
        if track is None or present.release is None:
            return False
        return bool(track["weight"] > 0 and track["release"] == str(present.release))

    def _needed(self, state: Rollout, sight: Sight) -> int | None:
        """How many processes a challenger needs for its share of the traffic; None: always one.

        One that is kept warm must be able to take all of it.
        """
        total = sight.champion.replicas
        if total is None:
            return None
        share = 100 if state.phase in ("idle", "returning") else desired(state).weight
        return max(1, math.ceil(total * share / 100))

    def _write(
        self,
        state: Rollout,
        name: str,
        release: ReleaseRef,
        track: str,
        present: Deployed,
        sight: Sight | None = None,
    ) -> None:
        """Write a template, unless somebody else wrote one since `present` was seen."""
        try:
            manifest = self._bundles.manifest(release.digest)
            template = self._launcher.template(release, manifest, track)
            if template is not None:
                self._workloads.apply(
                    name,
                    template,
                    after=present.generation,
                    replicas=None if sight is None else self._needed(state, sight),
                    cause=_cause(state, release),
                )
        except ProaError as error:
            if error.code == "template_changed":
                log.info("%s: %s", name, error)  # a person was quicker: the next turn follows them
                return
            if isinstance(error, Unavailable):
                raise  # not the release's fault: this turn is tried again
            if self._refused.get(name) != (release, error.message):
                log.warning("%s: %s", release.short, error)
            self._refused[name] = (release, error.message)
            return
        self._refused.pop(name, None)

    def building(self, state: Rollout) -> str | None:
        """How far the build of a runtime is that this model waits for."""
        want = desired(state)
        for release in (want.challenger, want.champion):
            told = None if release is None else self._launcher.progress(release)
            if told is not None:
                return told
        return None

    def forget(self, model: str) -> None:
        """A person asks again: what could not be run before is tried anew."""
        self._refused.pop(model, None)
        self._refused.pop(_challenger(model), None)

    def undo(self, name: str) -> None:
        """Set a champion's workload back to the template before this one."""
        self._workloads.undo(name)

    def check_name(self, model: str) -> None:
        """Refuse a name that a part of the platform or another model's track has already.

        Raises:
            InvalidInput: the message says which.
        """
        if model in RESERVED or model.startswith("engine-"):
            raise InvalidInput(
                f"a model cannot be named {model!r}: a part of the platform is", param="name"
            )
        _challenger(model)

    # Routes

    def publish(self, turns: Mapping[str, tuple[Rollout, Sight] | None]) -> None:
        """Write the routes of all models when they changed.

        Args:
            turns: each model's state and what was seen of it; None for a model whose turn failed:
                its routes stay as they are.
        """
        previous = self._routes.read()
        before = previous["models"] if previous else {}
        models = {
            name: before.get(name) if turn is None else self._model(*turn, before.get(name, {}))
            for name, turn in turns.items()
        }
        document = next_routes(previous, {name: m for name, m in models.items() if m is not None})
        if document is not None:
            self._routes.write(document)

    def _model(self, state: Rollout, sight: Sight, before: Mapping[str, Any]) -> dict[str, Any]:
        want = desired(state)
        # Weight is for the release it was given to: what ran in the slot before gets none.
        served = sight.challenger.ready and sight.challenger.release == want.challenger
        weight = self._weight(state, sight, before) if served else 0
        return model_routes(
            state.kind,
            champion=_backend(sight.champion, 100 - weight, alone=weight == 0),
            challenger=_backend(sight.challenger, weight),
            unit=self._unit(state.champion, before.get("unit")),
            shadow=served and state.phase == "canary" and want.weight == 0,
        )

    def _weight(self, state: Rollout, sight: Sight, before: Mapping[str, Any]) -> int:
        """A step's new weight waits until there are processes enough to carry it."""
        want, capacity = desired(state), sight.challenger.capacity
        needed = self._needed(state, sight)
        if state.phase != "canary" or capacity is None or needed is None or capacity >= needed:
            return want.weight
        track = before.get("tracks", {}).get("challenger", {})
        return (
            min(want.weight, track["weight"]) if track.get("release") == str(want.challenger) else 0
        )

    def _unit(self, champion: ReleaseRef | None, before: str | None) -> str | None:
        if champion is None:
            return None
        if champion.digest not in self._units:
            try:
                classic = self._bundles.manifest(champion.digest).classic
            except ProaError as error:
                # It is loaded and answers: a bundle that broke since must not take its routes.
                log.error("%s: %s", champion.short, error)
                self._units[champion.digest] = before
            else:
                self._units[champion.digest] = None if classic is None else classic.entity
        return self._units[champion.digest]

    def _routed(self, state: Rollout) -> bool:
        # At rest nothing waits for the gateways: they are not asked at every tick.
        return state.phase == "idle" or self.routed(state)

    def routed(self, state: Rollout) -> bool:
        """Whether the routes are as this state wants them, on every gateway."""
        want, routes = desired(state), self._routes.read()
        if routes is None:
            return False
        tracks = routes["models"].get(state.model, {}).get("tracks", {})
        champion, track = tracks.get("champion"), tracks.get("challenger")
        if state.phase == "idle" and track is not None and track["weight"] > 0:
            return False
        if (
            want.champion is not None
            and state.phase == "idle"
            and (
                champion is None
                or champion["release"] != str(want.champion)
                or not champion["ready"]
            )
        ):
            return False
        if (
            want.challenger is not None
            and state.phase != "idle"
            and (
                track is None
                or track["release"] != str(want.challenger)
                or track["weight"] != want.weight
                or not track["ready"]
            )
        ):
            return False
        return self._gateways.loaded(routes["generation"])

    def shares(self, model: str) -> dict[str, float]:
        """The share of traffic per release, as the routes last written say."""
        routes = self._routes.read()
        return {} if routes is None else shares(routes["models"], model)

    def routes_generation(self) -> int:
        """Of the routes last written; 0 before the first."""
        routes = self._routes.read()
        return 0 if routes is None else int(routes["generation"])

    def gateways(self) -> list[dict[str, Any]]:
        """Every gateway: `url ready generation`."""
        return self._gateways.report()

    # Engines

    def missing_engine(self, manifest: Manifest) -> str | None:
        """The engine a language release needs and that is not configured, or None."""
        if manifest.llm is None or manifest.llm.engine.identity in self._engines():
            return None
        return manifest.llm.engine.identity

    def require_engine(self, manifest: Manifest) -> None:
        """Raise Refused (`EngineMissing`) when the release's engine is not there."""
        missing = self.missing_engine(manifest)
        if missing is not None:
            raise Refused(
                f"{manifest.name} needs the engine {missing}, which is not running",
                hint="proa status",
                code="EngineMissing",
            )


def _cause(state: Rollout, release: ReleaseRef) -> str:
    """One sentence for a workload's history: what came, and who asked for it."""
    if state.request is not None and state.request.release == release:
        why = f": {state.request.reason}" if state.request.reason else ""
        return f"{release.short} by {state.request.who}{why}"
    return f"{release.short}: {state.message}" if state.message else release.short


def _backend(deployed: Deployed, weight: int, *, alone: bool = False) -> Backend | None:
    """A track's backend.

    Of a track that has all the traffic and several processes, gateways see themselves which of
    them answer: a moment with none must not be written down, since it would outlast a controller
    that dies in it.
    """
    if deployed.release is None or deployed.url is None:
        return None
    ready = deployed.ready or (alone and deployed.capacity is not None)
    return Backend(deployed.release, deployed.url, ready, weight)


def _challenger(model: str) -> str:
    if model.endswith("-challenger"):
        raise InvalidInput(
            f"a model cannot be named {model!r}: the ending -challenger is a track", param="name"
        )
    return f"{model}-challenger"
