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

from proa.errors import Conflict, InvalidInput, Refused
from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Analysis
from proa.rollout.decide import decide
from proa.rollout.policy import Policy
from proa.rollout.state import Request, Rollout, settle

SLOT_SECONDS = 120.0
"""How long a gate keeps the slot without a sign of life."""


@dataclass(frozen=True, slots=True)
class Track:
    """What a workload's status says.

    Attributes:
        release: the release that answers now.
        ready: whether it answers.
        failed: why the release in the template does not start.
        refused: why the release wanted here cannot be written into the template.
        stale: it is about to be replaced by the same release with other settings.
    """

    release: ReleaseRef | None = None
    ready: bool = False
    failed: str | None = None
    refused: str | None = None
    stale: bool = False

    @property
    def fault(self) -> str | None:
        """Why the release wanted here will not serve."""
        return self.refused or self.failed


@dataclass(frozen=True, slots=True)
class Seen:
    """What the controller sees at one tick.

    Attributes:
        now: epoch seconds of a clock that only ever runs on: what is waited for is held against it.
        wall: epoch seconds as everybody else has them: the gateways' counts go by it.
        running: the release in the champion's template.
        generation: that template's generation.
        champion, challenger: the two workloads' status.
        routed: every ready gateway has loaded the routes last written.
        analysis: the judgement of the present canary step, when one is due.
    """

    now: float
    wall: float
    running: ReleaseRef | None
    generation: int
    champion: Track
    challenger: Track
    routed: bool
    analysis: Analysis | None = None


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
            if seen.champion.refused and state.phase in ("promoting", "returning"):
                return _put_back(state, seen, f"it cannot be run: {seen.champion.refused}")
            return state, []  # the intent is recorded; the controller writes the template next
    elif seen.running is None and state.applied is not None:
        emptied = settle(state, applying=seen.generation)
        reason = "its template had been emptied: put back"
        return emptied, [Entry("put_back", state.applied, _CONTROLLER, reason)]
    decision = decide(None, seen.running, state.applied)
    if decision.kind == "follow" and decision.release is not None:
        return _follow(state, seen, decision.release)
    return _PHASES[state.phase](state, seen)


def catch_up(state: Rollout, seen: Seen) -> Step:
    """Follow a person who changed the template since the last turn; do it before every wish."""
    written = seen.running == state.applied or seen.generation == state.applying
    if state.applying is not None and written:
        return state, []
    decision = decide(None, seen.running, state.applied)
    if decision.kind == "follow" and decision.release is not None:
        return _follow(state, seen, decision.release)
    return state, []


def _follow(state: Rollout, seen: Seen, release: ReleaseRef) -> Step:
    """A human changed the template (kubectl rollout undo): their choice is the champion now."""
    was = state.champion if state.champion != release else state.previous
    followed = settle(
        state,
        phase="idle",
        champion=release,
        applied=release,
        applying=None,
        candidate=None,
        slot=None,
        slot_until=None,
        previous=was,
        warm_until=None,
        step=0,
        step_since=None,
        step_until=None,
        paused=False,
        aliases=state.aliases.held(),
        request=None,
        message=f"undone to {release.short} by hand",
    )
    reason = f"the template was set back from {_short(state.applied)} to {release.short}"
    return followed, [Entry("undone", release, "kubectl", reason)]


def _idle(state: Rollout, seen: Seen) -> Step:
    state = replace(
        state, warm_until=_at_most(state.warm_until, seen.now + state.policy.warm_seconds)
    )
    if state.warm_until is not None and seen.now >= state.warm_until:
        return settle(state, warm_until=None, message="the previous release is no longer warm"), []
    return state, []


def _gating(state: Rollout, seen: Seen) -> Step:
    state = replace(state, slot_until=_at_most(state.slot_until, seen.now + SLOT_SECONDS))
    if state.slot_until is not None and seen.now >= state.slot_until:
        freed = release_slot(state, state.slot or "")
        return freed, [
            Entry("slot_freed", state.candidate, _CONTROLLER, "the gate did not come back")
        ]
    return state, []


def _canary(state: Rollout, seen: Seen) -> Step:
    candidate = state.candidate
    if seen.challenger.fault:
        return _stop(state, "aborted", f"the challenger failed: {seen.challenger.fault}")
    if seen.challenger.stale and state.step_since is not None:
        begun = settle(state, step_since=None, step_until=None, message="the settings changed")
        reason = "settings of the model's pods changed: the step is analysed anew"
        return begun, [Entry("step_restarted", candidate, _CONTROLLER, reason)]
    if seen.challenger.release != candidate or not seen.challenger.ready or not seen.routed:
        return state, []
    if seen.challenger.stale:
        return state, []
    if state.step_since is not None and seen.wall < state.step_since:
        # The clock was set back: counts since then would miss what is served from now on.
        return replace(state, step_since=None, step_until=None), []
    if state.step_since is None:
        weight = state.policy.weights[state.step]
        begun = settle(
            state,
            step_since=seen.wall,
            step_until=seen.now + state.policy.max_seconds,
            baseline_until=seen.wall if state.step == 0 else state.baseline_until,
            message=f"canary at {weight} %" if weight else "shadow: answers are only recorded",
        )
        return begun, [_entry(state, "step", f"weight {weight} % in force")]
    if seen.analysis is None:
        return state, []
    if seen.analysis.value == "fail":
        return _stop(state, "aborted", f"analysis failed: {seen.analysis.reason}")
    if state.paused:
        return state, []
    # None after a pause, and too far away after the machine's clock was set back: it begins anew.
    latest = seen.now + state.policy.max_seconds
    state = replace(state, step_until=min(latest, state.step_until or latest))
    if seen.analysis.value == "inconclusive":
        return _inconclusive(state, seen, seen.analysis.reason)
    passed = [_entry(state, "step_passed", seen.analysis.reason)]
    if state.step + 1 < len(state.policy.weights):
        return settle(state, step=state.step + 1, step_since=None, step_until=None), passed
    promoting = settle(
        state,
        phase="promoting",
        applied=candidate,
        applying=seen.generation,
        message=f"promoting {_short(candidate)}",
    )
    return promoting, passed


def _inconclusive(state: Rollout, seen: Seen, reason: str) -> Step:
    """Wait; after `max_seconds` give up, or hold the weight and say so once more each time."""
    policy, since = state.policy, state.step_since or seen.wall
    late = seen.wall - since > policy.max_seconds
    message = f"canary: {reason}"
    if policy.on_inconclusive == "hold" and late:
        weight, command = policy.weights[state.step], f"proa abort {state.model}"
        message = f"held at {weight} % until more is seen ({command} ends it): {reason}"
    if state.step_until is None or seen.now < state.step_until:
        return replace(state, message=message), []
    if policy.on_inconclusive == "abort":
        return _stop(state, "aborted", f"inconclusive for too long: {reason}")
    held = settle(state, step_until=seen.now + policy.max_seconds, message=message)
    return held, [_entry(state, "held", reason)]


def _promoting(state: Rollout, seen: Seen) -> Step:
    if seen.champion.fault and seen.champion.release != state.applied:
        return _put_back(state, seen, f"the new pods failed: {seen.champion.fault}")
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
        request=None,
        message=f"{_short(state.applied)} is champion",
    )
    reason = state.request.reason if state.request else ""
    details = {"previous": None if state.champion is None else str(state.champion)}
    return promoted, [_entry(state, "promoted", reason, details)]


def _put_back(state: Rollout, seen: Seen, reason: str, who: str = _CONTROLLER) -> Step:
    """Give a movement up: the champion's template again, or none when there was no champion."""
    back = settle(
        state,
        phase="idle",
        applied=state.champion,
        applying=seen.generation,
        candidate=None,
        step=0,
        step_since=None,
        step_until=None,
        request=None,
        message=reason,
    )
    return back, [Entry("aborted", state.applied, who, reason)]


def _returning(state: Rollout, seen: Seen) -> Step:
    if seen.champion.fault and seen.champion.release != state.applied:
        return _put_back(state, seen, f"the rollback's pods failed: {seen.champion.fault}")
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


def _stop(state: Rollout, action: str, reason: str, who: str = _CONTROLLER) -> Step:
    stopped = settle(
        state,
        phase="idle",
        candidate=None,
        step=0,
        step_since=None,
        step_until=None,
        paused=False,
        request=None,
        message=reason,
    )
    return stopped, [Entry(action, state.candidate, who, reason)]


def _entry(
    state: Rollout, action: str, reason: str, details: Mapping[str, Any] | None = None
) -> Entry:
    who = state.request.who if state.request else _CONTROLLER
    release = state.candidate if state.phase == "canary" else state.applied
    return Entry(action, release, who, reason, details or {})


def _at_most(until: float | None, latest: float) -> float | None:
    """A deadline further away than its wait is long was written before the clock was set back."""
    return None if until is None else min(until, latest)


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


def keep_slot(state: Rollout, slot: str, now: float) -> Rollout:
    """A gate's sign of life: the slot is its own for another while.

    Raises:
        Conflict: it does not hold the slot any more.
    """
    if state.phase != "gating" or state.slot != slot:
        raise Conflict(f"{state.model}: this gate no longer holds the slot", code="slot_lost")
    if state.slot_until is not None and state.slot_until > now + SLOT_SECONDS / 2:
        return state  # a write every minute is enough
    return replace(state, slot_until=now + SLOT_SECONDS)


def release_slot(state: Rollout, slot: str) -> Rollout:
    """Free the slot if that gate still holds it; asking twice is fine."""
    if state.phase != "gating" or state.slot != slot:
        return state
    return settle(state, phase="idle", candidate=None, slot=None, slot_until=None, message="")


def promote(state: Rollout, request: Request, policy: Policy, seen: Seen) -> Step:
    """Begin a rollout that was admitted.

    Raises:
        Conflict: something is under way, or the release is champion already.
        InvalidInput: a shadow for a language model.
    """
    _require_idle(state, f"promote {request.release.short}")
    if request.release == state.champion:
        raise Conflict(f"{request.release.short} is the champion already", code="already_champion")
    if policy.shadow is not None and state.kind != "classic":
        raise InvalidInput(
            f"{state.model} is a language model: shadow is for classic models", param="shadow"
        )
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
            aliases=state.aliases.answered(request.release),
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
            step_until=None,
            paused=False,
            aliases=state.aliases.answered(request.release),
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
        stopped, entries = _stop(state, "aborted", f"rolled back by {who}: {reason}", who)
        return replace(stopped, aliases=state.aliases.held()), entries
    if state.phase == "promoting" and state.champion is not None:
        back, entries = _put_back(state, seen, f"rolled back by {who}: {reason}", who)
        return replace(back, aliases=state.aliases.held()), entries
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
        aliases=state.aliases.held(),
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
    return _stop(state, "aborted", f"by {who}: {reason}", who)


def pause(state: Rollout, who: str, *, paused: bool) -> Step:
    """Hold a canary at its step, or let it go on.

    Raises:
        Conflict: no canary is under way.
    """
    if state.phase != "canary":
        raise Conflict(f"{state.model}: no canary to pause or resume (phase {state.phase})")
    action = "paused" if paused else "resumed"
    return settle(state, paused=paused, step_until=None), [Entry(action, state.candidate, who, "")]


def _require_idle(state: Rollout, wish: str) -> None:
    if state.phase == "idle":
        return
    busy = state.candidate if state.phase in ("gating", "canary") else state.applied
    raise Conflict(
        f"cannot {wish}: {state.model} is {state.phase} with {_short(busy)}",
        hint=f"proa status {state.model}",
        code="busy",
    )
