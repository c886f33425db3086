"""The controller's loop: see, advance, journal, store, act; and what people may ask of it.

One lock per process: a wish and a tick never interleave. Order matters for crashes: the journal
line is written before the state that follows from it, the state before the world is touched.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from proa.errors import Conflict, NotFound, ProaError, Refused
from proa.exam.verdict import Verdict, judge
from proa.http.clock import Clock, rfc3339
from proa.http.ids import new_id
from proa.ledger.journal import Journal, Line
from proa.release.bundle import BundleStore
from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.admission import admit
from proa.rollout.policy import Policy
from proa.rollout.state import Request, Rollout, desired
from proa_controller.states import States
from proa_controller.world import World

log = logging.getLogger("proa.controller")


@dataclass(frozen=True, slots=True)
class Slot:
    """The challenger slot as a gate got it."""

    id: str
    candidate: ReleaseRef
    champion: ReleaseRef | None
    runtime: str


class Controller:
    """All models of one platform. Every public method is safe to call from any thread."""

    def __init__(
        self, *, states: States, journal: Journal, bundles: BundleStore, world: World, clock: Clock
    ) -> None:
        self._states = states
        self._journal = journal
        self._bundles = bundles
        self._world = world
        self._clock = clock
        self._lock = threading.RLock()

    # The loop

    def tick(self) -> None:
        """One turn for every model; a fault in one model never stops the others."""
        with self._lock:
            for name in self._states.names():
                try:
                    self._turn(self._states.get(name))
                except ProaError as error:
                    log.warning("%s: %s", name, error)
                except Exception:
                    log.exception("%s: this turn failed and is tried again", name)
            self._world.publish([self._states.get(name) for name in self._states.names()])

    def _turn(self, state: Rollout) -> None:
        after, entries = machine.advance(state, self._world.see(state, self._now()))
        self._commit(state, after, entries)
        self._world.act(after)

    def _commit(self, before: Rollout, after: Rollout, entries: list[machine.Entry]) -> list[Line]:
        lines = [
            self._journal.append(
                key=f"{after.model}:{after.sequence}:{number}",
                time=rfc3339(self._clock.now()),
                model=after.model,
                action=entry.action,
                release=None if entry.release is None else str(entry.release),
                who=entry.who,
                reason=entry.reason,
                details=entry.details,
            )
            for number, entry in enumerate(entries)
        ]
        if after != before:
            self._states.put(after)
        return lines

    # Wishes

    def announce(self, release: ReleaseRef, who: str, reason: str) -> None:
        """Record that a release was created; the first one makes the model known."""
        with self._lock:
            self._world.check_name(release.name)
            manifest = self._bundles.manifest(release.digest)
            if self._states.find(release.name) is None:
                self._states.put(Rollout(release.name, manifest.kind))
            self._journal.append(
                key=f"{release.name}:created:{release.version}:{release.digest}",
                time=rfc3339(self._clock.now()),
                model=release.name,
                action="created",
                release=str(release),
                who=who,
                reason=reason,
                details={"kind": manifest.kind},
            )

    def take_slot(self, release: ReleaseRef) -> Slot:
        """Give the challenger slot to a gate at weight 0; it is ready later (`slot_ready`).

        Raises:
            Conflict: the slot is taken.  NotFound: the release's bundle is not there.
            Refused: its engine is not running.
        """
        with self._lock:
            state = self._state(release.name)
            manifest = self._bundles.manifest(release.digest)
            self._world.require_engine(manifest)
            slot = Slot(new_id(), release, state.champion, manifest.runtime.fingerprint())
            after = machine.take_slot(state, release, slot.id, self._now())
            self._commit(state, after, [])
            self._world.act(after)
            return slot

    def slot_ready(self, slot: Slot) -> bool:
        """Whether the candidate answers in the slot and every gateway knows the way to it.

        Raises:
            Conflict: the slot was lost.  Refused: the release does not start.
        """
        with self._lock:
            state = self._state(slot.candidate.name)
            if state.slot != slot.id:
                raise Conflict(f"the slot of {slot.candidate.short} was lost to a rollback or undo")
            seen = self._world.see(state, self._now())
            if seen.challenger.failed:
                self.release_slot(slot.candidate.name, slot.id)
                raise Refused(
                    f"{slot.candidate.short} does not start: {seen.challenger.failed}",
                    code="ReleaseBroken",
                )
            ready = seen.challenger.ready and seen.challenger.release == slot.candidate
            return ready and seen.routed

    def release_slot(self, name: str, slot: str) -> None:
        """End a gate; harmless when the slot is no longer held."""
        with self._lock:
            state = self._state(name)
            self._commit(state, machine.release_slot(state, slot), [])

    def record_verdict(
        self, name: str, slot: str, evidence: Mapping[str, Any], who: str
    ) -> Verdict:
        """Recompute the verdict from its evidence and write it into the journal.

        Raises:
            Conflict: the slot is not held, or the evidence is about other releases.
        """
        verdict = judge(evidence)
        with self._lock:
            state = self._state(name)
            self._check_evidence(state, slot, verdict)
            self._states.keep_evidence(verdict.evidence, evidence)
            self._journal.append(
                key=f"{name}:judged:{slot}",
                time=rfc3339(self._clock.now()),
                model=name,
                action="judged",
                release=str(state.candidate),
                who=who,
                reason=verdict.reason,
                details=verdict.to_json(),
            )
            return verdict

    def _check_evidence(self, state: Rollout, slot: str, verdict: Verdict) -> None:
        if state.phase != "gating" or state.slot != slot or state.candidate is None:
            raise Conflict(f"{state.model}: this gate no longer holds the slot", code="slot_lost")
        manifest = self._bundles.manifest(state.candidate.digest)
        expected = {
            "model": state.model,
            "candidate": state.candidate.digest,
            "champion": state.champion.digest if state.champion else None,
            "runtime": manifest.runtime.fingerprint(),
        }
        for key, value in expected.items():
            if getattr(verdict, key) != value:
                raise Conflict(
                    f"evidence: {key} = {getattr(verdict, key)!r}, but the slot holds {value!r}",
                    code="evidence_mismatch",
                    param=key,
                )

    def promote(
        self, release: ReleaseRef, *, who: str, reason: str, policy: Policy, dry_run: bool = False
    ) -> Rollout:
        """Admit a release and begin its rollout; a refusal is journaled too.

        Raises:
            Refused: no passing verdict fits.  Conflict: something is under way.
        """
        with self._lock:
            state = self._state(release.name)
            try:
                self._admit(state, release)
            except Refused as refusal:
                if not dry_run:
                    self._note_refusal(state, release, who, refusal)
                raise
            seen = self._world.see(state, self._now())
            request = Request(release, who, reason)
            after, entries = machine.promote(state, request, policy, seen)
            if not dry_run:
                self._commit(state, after, entries)
            return after

    def _admit(self, state: Rollout, release: ReleaseRef) -> None:
        manifest = self._bundles.manifest(release.digest)
        admit(
            release,
            champion=state.champion,
            runtime=manifest.runtime.fingerprint(),
            journal=[line.to_json() for line in self._journal.lines(release.name)],
            missing_engine=self._world.missing_engine(manifest),
        )

    def _note_refusal(
        self, state: Rollout, release: ReleaseRef, who: str, refusal: Refused
    ) -> None:
        after = replace(state, sequence=state.sequence + 1, held=release.version)
        entry = machine.Entry(
            "refused", release, who, refusal.message, {"code": refusal.code, "hint": refusal.hint}
        )
        self._commit(state, after, [entry])

    def rollback(self, name: str, *, who: str, reason: str) -> Rollout:
        """Return to the previous release."""
        with self._lock:
            state = self._state(name)
            seen = self._world.see(state, self._now())
            after, entries = machine.rollback(state, who, reason, seen)
            self._commit(state, after, entries)
            self._world.act(after)
            self.tick()
            return after

    def undo(self, name: str, *, who: str, reason: str) -> None:
        """What `kubectl rollout undo` does to the champion's workload; the loop follows it."""
        with self._lock:
            state = self._state(name)
            self._world.undo(name)
            self._journal.append(
                key=f"{name}:undo:{new_id()}",
                time=rfc3339(self._clock.now()),
                model=name,
                action="undo_requested",
                release=None if state.champion is None else str(state.champion),
                who=who,
                reason=reason,
                details={},
            )

    def abort(self, name: str, *, who: str, reason: str) -> Rollout:
        """Stop a canary."""
        with self._lock:
            state = self._state(name)
            after, entries = machine.abort(state, who, reason)
            self._commit(state, after, entries)
            return after

    def pause(self, name: str, *, who: str, paused: bool) -> Rollout:
        """Hold or resume a canary."""
        with self._lock:
            state = self._state(name)
            after, entries = machine.pause(state, who, paused=paused)
            self._commit(state, after, entries)
            return after

    # Aliases (called by the registry watcher)

    def wished(self, release: ReleaseRef, who: str) -> None:
        """An alias asks for a release: promote it, once; a refusal waits for the next change."""
        with self._lock:
            state = self._states.find(release.name)
            if state is None or state.phase != "idle" or release == state.applied:
                return
            if state.held == release.version:
                return
            try:
                self.promote(release, who=who, reason="requested by alias", policy=state.policy)
            except ProaError as error:
                log.warning("%s: request by alias: %s", release.short, error)

    def reported(self, name: str) -> ReleaseRef | None:
        """The release the alias `champion` should point to."""
        with self._lock:
            state = self._states.find(name)
            return state.champion if state is not None and state.phase == "idle" else None

    # Reading

    def names(self) -> list[str]:
        """Every known model."""
        return self._states.names()

    def status(self, name: str) -> dict[str, Any]:
        """What runs, what is under way, and what share of traffic each release gets."""
        with self._lock:
            state = self._state(name)
            seen = self._world.see(state, self._now())
            want = desired(state)
            return {
                "model": state.model,
                "kind": state.kind,
                "phase": state.phase,
                "champion": _text(state.champion),
                "candidate": _text(state.candidate),
                "previous": _text(state.previous),
                "warm": state.warm_until is not None
                and seen.challenger.ready
                and seen.challenger.release == state.previous,
                "warm_seconds_left": max(0.0, state.warm_until - self._now())
                if state.warm_until
                else 0.0,
                "paused": state.paused,
                "weight": want.weight,
                "traffic": self._world.shares(name),
                "routed": self._world.routed(state),
                "ready": {
                    "champion": seen.champion.ready,
                    "challenger": seen.challenger.ready,
                },
                "message": seen.champion.failed or seen.challenger.failed or state.message,
                "sequence": state.sequence,
            }

    def history(self, name: str | None, after: int = 0) -> list[Line]:
        """The journal, of one model or all."""
        return self._journal.lines(name, after=after)

    def _state(self, name: str) -> Rollout:
        state = self._states.find(name)
        if state is None:
            known = ", ".join(self._states.names()) or "none yet"
            raise NotFound(
                f"model {name!r} is not known here; known: {known}", code="unknown_model"
            )
        return state

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _text(release: ReleaseRef | None) -> str | None:
    return None if release is None else str(release)
