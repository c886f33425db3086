"""What a revoked digest changes in a rollout under way: a pure rule, asked at every turn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.machine import Entry, Seen, Step
from proa.rollout.state import Rollout, settle

_CONTROLLER = "proa-controller"


def enforce(
    state: Rollout, seen: Seen, *, revoked: Collection[str], good: Sequence[ReleaseRef]
) -> Step | None:
    """The transition that takes a revoked release away, or None when there is nothing to do.

    Args:
        revoked: digests.
        good: what served before, is not revoked and can still be served; latest first.

    A revoked champion gives way to the latest good release. Without one it goes on serving: an
    outage is a decision for people (`must_decide`).
    """
    if _is(seen.running, revoked) and seen.running != state.applied:
        return _put_back(state, seen, revoked)
    if state.candidate is not None and state.candidate.digest in revoked:
        return _take_out(state, state.candidate)
    if _is(state.applied, revoked):
        return _leave(state, seen, good)
    if _is(state.previous, revoked) and state.phase in ("idle", "gating", "canary"):
        others = [release for release in good if release != state.champion]
        return settle(state, previous=others[0] if others else None, warm_until=None), []
    return None


def must_decide(state: Rollout, *, revoked: Collection[str]) -> str | None:
    """What a person must decide: a revoked release serves and nothing good is left."""
    if state.applied is None or state.applied.digest not in revoked or state.phase != "idle":
        return None
    return (
        f"REVOKED: {state.applied.short} still serves, there is no good release to return to; "
        "promote another, or take it out of service"
    )


def _is(release: ReleaseRef | None, revoked: Collection[str]) -> bool:
    return release is not None and release.digest in revoked


def _put_back(state: Rollout, seen: Seen, revoked: Collection[str]) -> Step | None:
    """Somebody set the template to a revoked release: it is written anew."""
    if state.applied is None or _is(state.applied, revoked) or state.applying == seen.generation:
        return None
    assert seen.running is not None
    reason = (
        f"the template was set to {seen.running.short}, which is revoked: "
        f"{state.applied.short} is put back"
    )
    entry = Entry("put_back", state.applied, _CONTROLLER, reason, {"code": "Revoked"})
    return settle(state, applying=seen.generation, message=reason), [entry]


def _take_out(state: Rollout, candidate: ReleaseRef) -> Step:
    reason = f"{candidate.short} was revoked"
    if state.phase == "canary":
        return machine.abort(state, _CONTROLLER, reason)
    freed = machine.release_slot(state, state.slot or "")
    if state.phase == "gating":
        return freed, [Entry("slot_freed", candidate, _CONTROLLER, reason)]
    return settle(state, candidate=None), []


def _leave(state: Rollout, seen: Seen, good: Sequence[ReleaseRef]) -> Step | None:
    """The release in the template is revoked: stop what is under way, then go back."""
    assert state.applied is not None
    reason = f"{state.applied.short} was revoked"
    if state.phase == "canary":
        return machine.abort(state, _CONTROLLER, f"the champion {reason}")
    if state.phase == "promoting" and state.champion in good:
        return machine.rollback(state, _CONTROLLER, reason, seen)
    others = [release for release in good if release != state.applied]
    if not others:
        return None
    rested = replace(
        machine.release_slot(state, state.slot or ""),
        phase="idle",
        request=None,
        previous=others[0],
        warm_until=state.warm_until if state.previous == others[0] else None,
    )
    return machine.rollback(rested, _CONTROLLER, reason, seen)
