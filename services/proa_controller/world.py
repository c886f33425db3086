"""The world as the controller sees and moves it: workloads, routes, gateways, engines.

The machine's rules never touch anything; this is where they meet what runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from proa.embedded.files import read_json, write_json
from proa.embedded.parts import RESERVED
from proa.errors import InvalidInput, ProaError, Refused
from proa.http.clock import rfc3339
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Analysis, Counts, analyse
from proa.rollout.machine import Seen, Track
from proa.rollout.routes import Backend, model_routes, next_routes, shares
from proa.rollout.state import Rollout, desired
from proa.rollout.workloads import Deployed, Workloads
from proa_controller.gateways import Gateways

log = logging.getLogger("proa.controller")
_NONE = Counts(calls=0, errors=0, p95_ms=None)


class Launcher(Protocol):
    """Turns a release into the template of a workload, building its runtime first."""

    def template(self, ref: ReleaseRef, manifest: Manifest, track: str) -> Any | None:
        """The template, or None while the release's runtime is still being built.

        Raises:
            Refused: the runtime cannot be built.
        """


class World:
    """One platform's workloads, routes and gateways."""

    def __init__(
        self,
        *,
        workloads: Workloads,
        launcher: Launcher,
        routes: Path,
        gateways: Gateways,
        bundles: BundleStore,
        engines: Callable[[], frozenset[str]],
    ) -> None:
        self._workloads = workloads
        self._launcher = launcher
        self._routes = routes
        self._gateways = gateways
        self._bundles = bundles
        self._engines = engines
        self._failed: dict[str, str] = {}
        self._units: dict[str, str | None] = {}

    def see(self, state: Rollout, now: float) -> Seen:
        """What the machine needs to know about one model at this moment."""
        champion = self._workloads.status(state.model)
        challenger = self._workloads.status(_challenger(state.model))
        return Seen(
            now=now,
            running=champion.template_release,
            generation=champion.generation,
            champion=self._track(champion, state.applied),
            challenger=self._track(challenger, desired(state).challenger),
            routed=self._routed(state),
            analysis=self._analyse(state),
        )

    def _track(self, deployed: Deployed, wanted: ReleaseRef | None) -> Track:
        failed = deployed.failed
        if wanted is not None and wanted.digest in self._failed:
            failed = self._failed[wanted.digest]
        return Track(deployed.release, deployed.ready, failed)

    def act(self, state: Rollout) -> None:
        """Make the workloads of one model as they should be."""
        want = desired(state)
        champion = self._workloads.status(state.model)
        intended = state.applying == champion.generation
        if want.champion not in (None, champion.template_release) and (
            intended or champion.template_release is None
        ):
            self._write(state.model, want.champion, "champion")
        challenger = self._workloads.status(_challenger(state.model))
        if want.challenger is None:
            if challenger.template_release is not None:
                self._workloads.delete(_challenger(state.model))
        elif challenger.template_release != want.challenger:
            self._write(_challenger(state.model), want.challenger, "challenger")

    def _write(self, name: str, release: ReleaseRef | None, track: str) -> None:
        if release is None:
            return
        try:
            manifest = self._bundles.manifest(release.digest)
            template = self._launcher.template(release, manifest, track)
            self._failed.pop(release.digest, None)
        except ProaError as error:
            self._failed[release.digest] = error.message
            log.warning("%s: %s", release.short, error)
            return
        if template is not None:
            self._workloads.apply(name, template)

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

    def publish(self, states: Sequence[Rollout]) -> None:
        """Write the routes of all models when they changed."""
        models = {}
        for state in states:
            want = desired(state)
            models[state.model] = model_routes(
                state.kind,
                champion=self._backend(state.model, 100 - want.weight),
                challenger=self._backend(_challenger(state.model), want.weight),
                unit=self._unit(state.champion),
            )
        document = next_routes(self._read_routes(), models)
        if document is not None:
            write_json(self._routes, document)

    def _unit(self, champion: ReleaseRef | None) -> str | None:
        if champion is None:
            return None
        if champion.digest not in self._units:
            classic = self._bundles.manifest(champion.digest).classic
            self._units[champion.digest] = None if classic is None else classic.entity
        return self._units[champion.digest]

    def _backend(self, workload: str, weight: int) -> Backend | None:
        deployed = self._workloads.status(workload)
        if deployed.release is None or deployed.url is None:
            return None
        return Backend(deployed.release, deployed.url, deployed.ready, weight)

    def _read_routes(self) -> Mapping[str, Any] | None:
        return read_json(self._routes) if self._routes.exists() else None

    def _routed(self, state: Rollout) -> bool:
        # At rest nothing waits for the gateways: they are not asked at every tick.
        return state.phase == "idle" or self.routed(state)

    def routed(self, state: Rollout) -> bool:
        """Whether the routes are as this state wants them, on every gateway."""
        want, routes = desired(state), self._read_routes()
        if routes is None:
            return False
        tracks = routes["models"].get(state.model, {}).get("tracks", {})
        champion, track = tracks.get("champion"), tracks.get("challenger")
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
        routes = self._read_routes()
        return {} if routes is None else shares(routes["models"], model)

    # Analysis and engines

    def _analyse(self, state: Rollout) -> Analysis | None:
        if state.phase != "canary" or state.step_since is None:
            return None
        since = rfc3339(datetime.fromtimestamp(state.step_since, UTC))
        counts = self._gateways.counts(state.model, since)
        if counts is None or state.candidate is None or state.champion is None:
            return analyse(None, None, state.policy)
        return analyse(
            counts.get(state.candidate, _NONE), counts.get(state.champion, _NONE), state.policy
        )

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


def _challenger(model: str) -> str:
    if model.endswith("-challenger"):
        raise InvalidInput(
            f"a model cannot be named {model!r}: the ending -challenger is a track", param="name"
        )
    return f"{model}-challenger"
