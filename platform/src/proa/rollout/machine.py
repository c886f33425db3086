"""The state machine of a rollout: one function per phase, pure, a table of them at the end.

    idle ──gate──▶ gating ──verdict or release of the slot──▶ idle
    idle ──promote──▶ canary (or promoting when there is no champion) ──steps──▶ promoting ──▶ idle
    canary ──fail, inconclusive too long, abort──▶ idle
    idle ──rollback──▶ returning ──▶ idle
    any ──a human's undo──▶ idle, on the release they chose

The controller calls `advance` at every tick with what it sees, appends the entries to the journal,
stores the state, then makes the world like `desired`. Each call makes at most one transition, and
an entry's key is the transition's number, so a crash between journal and state repeats nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from proa.errors import Conflict, Refused
from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Analysis
from proa.rollout.decide import decide
from proa.rollout.policy import Policy
from proa.rollout.state import Request, Rollout, settle

SLOT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Track:
    """What a workload's status says: the release it serves and whether it is ready."""

    release: ReleaseRef | None = None
    ready: bool = False
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the controller sees at one tick.

    Attributes:
        now: epoch seconds.
        running: the release in the champion's template.
        generation: that template's generation.
        champion, challenger: the two workloads' status.
        routed: every ready gateway has loaded the routes last written.
        analysis: the judgement of the present canary step, when one is due.
        alias: what the alias `challenger` asks for.
    """

    now: float
    running: ReleaseRef | None
    generation: int
    champion: Track
    challenger: Track
    routed: bool
    analysis: Analysis | None = None
    alias: ReleaseRef | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line for the journal: what happened, to which release, by whom, why."""

    action: str
    release: ReleaseRef | None
    who: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


Step = tuple[Rollout, list[Entry]]
_CONTROLLER = "proa-controller"


def advance(state: Rollout, seen: Seen) -> Step:
    """Move by at most one transition."""
    if state.applying is not None:
        if seen.running == state.applied:
            return replace(state, applying=None), []
        if seen.generation == state.applying:
            return state, []  # the intent is recorded; the controller writes the template next
    decision = decide(None, seen.running, state.applied)
    if decision.kind == "follow" and decision.release is not None:
        return _follow(state, seen, decision.release)
    return _PHASES[state.phase](state, seen)


def _follow(state: Rollout, seen: Seen, release: ReleaseRef) -> Step:
    """A human changed the template (kubectl rollout undo): their choice is the champion now."""
    held = seen.alias.version if seen.alias is not None else state.held
    followed = settle(
        state,
        phase="idle",
        champion=release,
        applied=release,
        applying=None,
        candidate=None,
        slot=None,
        slot_until=None,
        previous=state.applied,
        warm_until=None,
        held=held,
        request=None,
        message=f"undone to {release.short} by hand",
    )
    reason = f"the template was set back from {_short(state.applied)} to {release.short}"
    return followed, [Entry("undone", release, "kubectl", reason)]


def _idle(state: Rollout, seen: Seen) -> Step:
    if state.warm_until is not None and seen.now >= state.warm_until:
        return settle(state, warm_until=None, message="the previous release is no longer warm"), []
    return state, []


def _gating(state: Rollout, seen: Seen) -> Step:
    if state.slot_until is not None and seen.now >= state.slot_until:
        freed = release_slot(state, state.slot or "")
        return freed, [
            Entry("slot_freed", state.candidate, _CONTROLLER, "the gate did not come back")
        ]
    return state, []


def _canary(state: Rollout, seen: Seen) -> Step:
    candidate = state.candidate
    if seen.challenger.failed:
        return _stop(state, "aborted", f"the challenger failed: {seen.challenger.failed}")
    if seen.challenger.release != candidate or not seen.challenger.ready or not seen.routed:
        return state, []
    if state.step_since is None:
        weight = state.policy.steps[state.step]
        begun = settle(state, step_since=seen.now, message=f"canary at {weight} %")
        return begun, [_entry(state, "step", f"weight {weight} % in force")]
    if state.paused or seen.analysis is None:
        return state, []
    if seen.analysis.value == "fail":
        return _stop(state, "aborted", f"analysis failed: {seen.analysis.reason}")
    if seen.analysis.value == "inconclusive":
        if seen.now - state.step_since > state.policy.max_seconds:
            return _stop(state, "held", f"inconclusive for too long: {seen.analysis.reason}")
        return replace(state, message=f"canary: {seen.analysis.reason}"), []
    passed = [_entry(state, "step_passed", seen.analysis.reason)]
    if state.step + 1 < len(state.policy.steps):
        return settle(state, step=state.step + 1, step_since=None), passed
    promoting = settle(
        state,
        phase="promoting",
        applied=candidate,
        applying=seen.generation,
        message=f"promoting {_short(candidate)}",
    )
    return promoting, passed


def _promoting(state: Rollout, seen: Seen) -> Step:
    if seen.champion.failed and seen.champion.release != state.applied:
        return _put_back(state, seen, f"the new pods failed: {seen.champion.failed}")
    if seen.champion.release != state.applied or not seen.champion.ready:
        return state, []
    warm = state.champion is not None and state.policy.warm_seconds > 0
    promoted = settle(
        state,
        phase="idle",
        champion=state.applied,
        previous=state.champion,
        candidate=None,
        warm_until=seen.now + state.policy.warm_seconds if warm else None,
        held=None,
        request=None,
        message=f"{_short(state.applied)} is champion",
    )
    reason = state.request.reason if state.request else ""
    details = {"previous": None if state.champion is None else str(state.champion)}
    return promoted, [_entry(state, "promoted", reason, details)]


def _put_back(state: Rollout, seen: Seen, reason: str) -> Step:
    back = settle(
        state,
        phase="idle",
        applied=state.champion,
        applying=seen.generation if state.champion is not None else None,
        candidate=None,
        held=state.request.release.version if state.request else state.held,
        request=None,
        message=reason,
    )
    return back, [_entry(state, "aborted", reason)]


def _returning(state: Rollout, seen: Seen) -> Step:
    if seen.champion.failed and seen.champion.release != state.applied:
        return _put_back(state, seen, f"the rollback's pods failed: {seen.champion.failed}")
    if seen.champion.release != state.applied or not seen.champion.ready:
        return state, []
    returned = settle(
        state,
        phase="idle",
        champion=state.applied,
        previous=state.champion,
        candidate=None,
        warm_until=None,
        request=None,
        message=f"rolled back to {_short(state.applied)}",
    )
    reason = state.request.reason if state.request else ""
    details = {"from": None if state.champion is None else str(state.champion)}
    return returned, [_entry(state, "rolled_back", reason, details)]


def _stop(state: Rollout, action: str, reason: str) -> Step:
    stopped = settle(
        state,
        phase="idle",
        candidate=None,
        step=0,
        step_since=None,
        paused=False,
        held=state.candidate.version if state.candidate else state.held,
        request=None,
        message=reason,
    )
    return stopped, [_entry(state, action, reason)]


def _entry(
    state: Rollout, action: str, reason: str, details: Mapping[str, Any] | None = None
) -> Entry:
    who = state.request.who if state.request else _CONTROLLER
    release = state.candidate if state.phase == "canary" else state.applied
    return Entry(action, release, who, reason, details or {})


def _short(release: ReleaseRef | None) -> str:
    return "nothing" if release is None else release.short


_PHASES: Mapping[str, Callable[[Rollout, Seen], Step]] = {
    "idle": _idle,
    "gating": _gating,
    "canary": _canary,
    "promoting": _promoting,
    "returning": _returning,
}


# What people ask for. Each refuses what the present phase does not allow.


def take_slot(state: Rollout, release: ReleaseRef, slot: str, now: float) -> Rollout:
    """Give the challenger slot to a gate; a warm previous release makes room.

    Raises:
        Conflict: the slot is taken by another gate or a rollout.
    """
    _require_idle(state, f"gate {release.short}")
    return settle(
        state,
        phase="gating",
        candidate=release,
        slot=slot,
        slot_until=now + SLOT_SECONDS,
        warm_until=None,
        message=f"{release.short} sits its exam",
    )


def release_slot(state: Rollout, slot: str) -> Rollout:
    """Free the slot if that gate still holds it; asking twice is fine."""
    if state.phase != "gating" or state.slot != slot:
        return state
    return settle(state, phase="idle", candidate=None, slot=None, slot_until=None, message="")


def promote(state: Rollout, request: Request, policy: Policy, seen: Seen) -> Step:
    """Begin a rollout that was admitted.

    Raises:
        Conflict: something is under way, or the release is champion already.
    """
    _require_idle(state, f"promote {request.release.short}")
    if request.release == state.champion:
        raise Conflict(f"{request.release.short} is the champion already", code="already_champion")
    if state.champion is None or not policy.steps:
        begun = settle(
            state,
            phase="promoting",
            request=request,
            policy=policy,
            candidate=None,
            warm_until=None,
            applied=request.release,
            applying=seen.generation,
            message=f"promoting {request.release.short}",
        )
    else:
        begun = settle(
            state,
            phase="canary",
            request=request,
            policy=policy,
            candidate=request.release,
            warm_until=None,
            step=0,
            step_since=None,
            paused=False,
            message=f"starting the canary of {request.release.short}",
        )
    entry = Entry("requested", request.release, request.who, request.reason, policy.to_json())
    return begun, [entry]


def rollback(state: Rollout, who: str, reason: str, seen: Seen) -> Step:
    """Return to the previous release: a weight flip when it is warm, else a rolling update.

    Going back is never refused for being busy: a canary is stopped, a promotion under way is put
    back to the champion, a gate loses its slot.

    Raises:
        Refused: there is nothing to return to.  Conflict: a rollback is under way already.
    """
    if state.phase == "canary":
        return _stop(state, "aborted", f"rolled back by {who}: {reason}")
    if state.phase == "promoting" and state.champion is not None:
        return _put_back(state, seen, f"rolled back by {who}: {reason}")
    state = release_slot(state, state.slot or "")
    _require_idle(state, "roll back")
    if state.previous is None:
        raise Refused(
            f"{state.model} has no previous release to return to",
            hint=f"proa history {state.model}",
            code="no_previous",
        )
    request = Request(state.previous, who, reason)
    begun = settle(
        state,
        phase="returning",
        request=request,
        applied=state.previous,
        applying=seen.generation,
        held=seen.alias.version if seen.alias is not None else state.held,
        message=f"returning to {state.previous.short}",
    )
    return begun, [Entry("rollback_requested", state.previous, who, reason)]


def abort(state: Rollout, who: str, reason: str) -> Step:
    """Stop a canary: its weight goes to 0 at the next tick.

    Raises:
        Conflict: no canary is under way.
    """
    if state.phase != "canary":
        raise Conflict(f"{state.model}: no canary to abort (phase {state.phase})")
    return _stop(state, "aborted", f"by {who}: {reason}")


def pause(state: Rollout, who: str, *, paused: bool) -> Step:
    """Hold a canary at its step, or let it go on.

    Raises:
        Conflict: no canary is under way.
    """
    if state.phase != "canary":
        raise Conflict(f"{state.model}: no canary to pause or resume (phase {state.phase})")
    action = "paused" if paused else "resumed"
    return settle(state, paused=paused), [Entry(action, state.candidate, who, "")]


def _require_idle(state: Rollout, wish: str) -> None:
    if state.phase == "idle":
        return
    busy = state.candidate if state.phase in ("gating", "canary") else state.applied
    raise Conflict(
        f"cannot {wish}: {state.model} is {state.phase} with {_short(busy)}",
        hint=f"proa status {state.model}",
        code="busy",
    )
