"""What every part of the controller works with, and the loop: see, advance, journal, store, act.

One lock per process: a wish and a tick never interleave. Order matters for crashes: a state is
stored together with the journal lines that tell of it, in one file; then the lines enter the
journal, then the world is touched. A crash anywhere loses neither and doubles neither, and nothing
is ever journaled that did not happen. While the journal cannot be written the lines wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from proa.errors import Conflict, InvalidInput, NotFound, ProaError, Refused, Unavailable
from proa.http.clock import Clock, SteadyClock, rfc3339
from proa.ledger.evidence import EvidenceStore
from proa.ledger.journal import Journal
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.state import Rollout
from proa_controller.states import States
from proa_controller.world import Sight, World

log = logging.getLogger("proa.controller")

_REST: Final = 10
"""Parts of rest after one part of waiting in vain for the ledger."""

Tell = Callable[[str, machine.Entry], None]
"""Told of each entry of a model once it is stored; must return at once and raise nothing."""


class Desk:
    """The parts, and how a transition is written down.

    Args:
        tell: for people who look at the workloads and not into the journal.
    """

    def __init__(
        self,
        *,
        states: States,
        journal: Journal,
        evidence: EvidenceStore,
        bundles: BundleStore,
        world: World,
        clock: Clock,
        tell: Tell = lambda _, __: None,
    ) -> None:
        self._states = states
        self._journal = journal
        self._evidence = evidence
        self._tell = tell
        self._bundles = bundles
        self._world = world
        self._clock = clock
        self._steady = SteadyClock(clock)
        self._lock = threading.RLock()
        self._lines: dict[str, list[dict[str, Any]]] = {}
        self._silent: set[str] = set()
        self._rest_until = float("-inf")
        self._faults: dict[str, str | None] = {}

    # The loop

    def tick(self) -> None:
        """One turn for every model; a fault in one model never stops the others."""
        with self._lock:
            turns: dict[str, tuple[Rollout, Sight] | None] = {}
            for name in self._states.names():
                turns[name] = None
                try:
                    turns[name] = self._turn(self._state(name))
                except ProaError as error:
                    log.warning("%s: %s", name, error)
                except Exception:
                    log.exception("%s: this turn failed and is tried again", name)
            self._world.publish(turns)

    def _turn(self, state: Rollout) -> tuple[Rollout, Sight]:
        self._flush(state.model)
        sight = self._world.look(state.model)
        seen = self._see(state, sight)
        after, entries = self._enforce(state, seen) or machine.advance(state, seen)
        self._commit(state, after, entries)
        self._world.act(after, sight)
        return after, sight

    def _enforce(self, state: Rollout, seen: machine.Seen) -> machine.Step | None:
        """A transition that comes before the machine's own; see `Admission`."""
        return None

    def _see(self, state: Rollout, sight: Sight | None = None) -> machine.Seen:
        sight = sight or self._world.look(state.model)
        wall = self._clock.now().timestamp()
        return self._world.see(state, sight, now=self._now(), wall=wall)

    def _caught_up(self, name: str) -> Rollout:
        """A model's state once a person's change of the template is followed."""
        state = self._state(name)
        after, entries = machine.catch_up(state, self._see(state))
        self._commit(state, after, entries)
        return after

    # Writing down

    def _commit(self, before: Rollout, after: Rollout, entries: list[machine.Entry]) -> None:
        lines = {f"{after.model}:{after.sequence}:{n}": entry for n, entry in enumerate(entries)}
        if after != before or lines:
            self._write_down(after, lines)

    def _write_down(self, state: Rollout, entries: Mapping[str, machine.Entry]) -> None:
        """Store a state with its journal lines, by key."""
        lines = [
            {
                "key": key,
                "time": rfc3339(self._clock.now()),
                "model": state.model,
                "action": entry.action,
                "release": None if entry.release is None else str(entry.release),
                "who": entry.who,
                "reason": entry.reason,
                "details": dict(entry.details),
            }
            for key, entry in entries.items()
        ]
        waiting = [*self._waiting(state.model), *lines]
        self._states.put(state, waiting)
        self._lines[state.model] = waiting
        for entry in entries.values():
            self._tell(state.model, entry)
        self._flush(state.model)

    def _waiting(self, model: str) -> list[dict[str, Any]]:
        """Lines not yet known to be in the journal: those a crash left behind, to begin with."""
        if model not in self._lines:
            self._lines[model] = self._states.unwritten(model)
        return self._lines[model]

    def _flush(self, model: str) -> None:
        waiting = self._waiting(model)
        while waiting and not self._rests():
            began = time.monotonic()
            try:
                self._journal.append(**waiting[0])
            except (Unavailable, OSError) as error:
                if model not in self._silent:
                    log.error("%s: the journal cannot be written, its lines wait: %s", model, error)
                self._silent.add(model)
                self._rest_after(began)
                return
            waiting.pop(0)
            self._silent.discard(model)

    def _rests(self) -> bool:
        """Whether the ledger did not answer a moment ago: turns must not wait for it each time."""
        return time.monotonic() < self._rest_until

    def _rest_after(self, began: float) -> None:
        now = time.monotonic()
        self._rest_until = now + _REST * (now - began)

    def _whole(self, release: ReleaseRef) -> Manifest:
        """A release's manifest from the store, verified.

        Raises:
            Refused: it is not there, or its bytes have another digest.
        """
        try:
            return self._bundles.manifest(release.digest)
        except (NotFound, Conflict, InvalidInput) as error:
            raise Refused(
                f"{release.short} cannot be served: {error.message}",
                hint=f"restore the bundle, or create {release.name} again",
                code="BundleBroken",
            ) from error

    def _state(self, name: str) -> Rollout:
        state = self._states.find(name)
        if state is None:
            known = ", ".join(self._states.names()) or "none yet"
            raise NotFound(
                f"model {name!r} is not known here; known: {known}", code="unknown_model"
            )
        return state

    def _now(self) -> float:
        """For waits: it runs on evenly, however the machine's clock is set meanwhile."""
        return self._steady.now().timestamp()
