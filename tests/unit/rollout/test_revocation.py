"""What a revocation changes at every phase: the rule with the real machine, and no world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proa.release.reference import ReleaseRef
from proa.rollout import machine
from proa.rollout.machine import Seen, Track
from proa.rollout.policy import Policy
from proa.rollout.revocation import enforce, must_decide
from proa.rollout.state import Request, Rollout, desired

ONE, TWO, THREE = (ReleaseRef("m", number, f"sha256:{number:064x}") for number in (1, 2, 3))
POLICY = Policy(steps=(10, 50), warm_seconds=600)


def seen(running: ReleaseRef | None, generation: int = 5, **changes: object) -> Seen:
    found = Seen(
        now=100.0,
        wall=100.0,
        running=running,
        generation=generation,
        champion=Track(running, True),
        challenger=Track(),
        routed=True,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def at_rest(champion: ReleaseRef = TWO, previous: ReleaseRef | None = ONE) -> Rollout:
    return Rollout("m", "classic", champion=champion, applied=champion, previous=previous)


def settle(state: Rollout, revoked: set[str], good: list[ReleaseRef]) -> Rollout:
    """Turns of the controller, the world doing at once what is desired."""
    running, generation = state.applied, 5
    for _ in range(12):
        now = seen(running, generation)
        step = enforce(state, now, revoked=revoked, good=good) or machine.advance(state, now)
        state = step[0]
        if state.applying == generation and desired(state).champion != running:
            running, generation = desired(state).champion, generation + 1
    return state


def in_canary(champion: ReleaseRef, candidate: ReleaseRef) -> Rollout:
    request = Request(candidate, "ann", "better")
    return machine.promote(at_rest(champion, ONE), request, POLICY, seen(champion))[0]


def test_nothing_revoked_nothing_done() -> None:
    for state in (at_rest(), in_canary(TWO, THREE)):
        assert enforce(state, seen(TWO), revoked=set(), good=[TWO, ONE]) is None


@pytest.mark.parametrize("warm", [None, 500.0])
def test_a_champion_at_rest_goes_back_at_once(warm: float | None) -> None:
    state = replace(at_rest(), warm_until=warm)
    after, entries = enforce(state, seen(TWO), revoked={TWO.digest}, good=[ONE]) or (state, [])
    assert (after.phase, after.applied) == ("returning", ONE)
    assert [entry.action for entry in entries] == ["rollback_requested"]
    assert entries[0].reason == "m/2 was revoked"
    assert desired(after).weight == (100 if warm else 0)
    end = settle(state, {TWO.digest}, [ONE])
    assert (end.phase, end.champion, end.previous) == ("idle", ONE, None)


def test_it_goes_past_a_previous_release_that_is_revoked_too() -> None:
    state = at_rest(champion=THREE, previous=TWO)
    end = settle(state, {THREE.digest, TWO.digest}, [ONE])
    assert (end.phase, end.champion, end.previous) == ("idle", ONE, None)


def test_without_a_good_release_it_serves_on_and_asks_for_a_decision() -> None:
    state = at_rest(champion=ONE, previous=None)
    assert enforce(state, seen(ONE), revoked={ONE.digest}, good=[]) is None
    told = must_decide(state, revoked={ONE.digest})
    assert told is not None
    assert "m/1 still serves" in told
    assert must_decide(state, revoked=set()) is None


def test_a_challenger_loses_its_slot_and_its_weight() -> None:
    state = in_canary(TWO, THREE)
    assert desired(state).challenger == THREE
    after, entries = enforce(state, seen(TWO), revoked={THREE.digest}, good=[TWO]) or (state, [])
    assert (after.phase, desired(after).challenger, desired(after).weight) == ("idle", None, 0)
    assert entries[0].action == "aborted"
    gate = machine.take_slot(at_rest(), THREE, "slot", 0.0)
    after, entries = enforce(gate, seen(TWO), revoked={THREE.digest}, good=[TWO]) or (gate, [])
    assert (after.phase, after.slot, after.candidate) == ("idle", None, None)
    assert entries[0].action == "slot_freed"


def test_a_champion_revoked_in_a_canary_stops_it_and_goes_back() -> None:
    end = settle(in_canary(TWO, THREE), {TWO.digest}, [ONE])
    assert (end.phase, end.champion) == ("idle", ONE)


def test_a_release_revoked_while_it_is_promoted_is_put_back() -> None:
    request = Request(THREE, "ann", "better")
    quick = replace(POLICY, steps=())
    state = machine.promote(at_rest(), request, quick, seen(TWO))[0]
    assert state.phase == "promoting"
    end = settle(replace(state, applying=None), {THREE.digest}, [TWO, ONE])
    assert (end.phase, end.champion) == ("idle", TWO)


def test_a_release_revoked_while_a_rollback_goes_to_it() -> None:
    state = machine.rollback(at_rest(champion=THREE, previous=TWO), "ann", "back", seen(THREE))[0]
    end = settle(replace(state, applying=None), {TWO.digest}, [THREE, ONE])
    assert end.phase == "idle"
    assert end.champion in (THREE, ONE)


def test_a_hand_on_the_template_is_put_back_once() -> None:
    state = at_rest()
    now = seen(ONE, generation=8)  # kubectl rollout undo wrote it
    after, entries = enforce(state, now, revoked={ONE.digest}, good=[TWO]) or (state, [])
    assert (after.applying, after.applied) == (8, TWO)
    assert (entries[0].action, entries[0].details["code"]) == ("put_back", "Revoked")
    assert enforce(after, now, revoked={ONE.digest}, good=[TWO]) is None
    assert machine.advance(after, now)[0].champion == TWO


def test_a_previous_release_that_is_revoked_is_not_kept_warm() -> None:
    state = replace(at_rest(champion=THREE, previous=TWO), warm_until=500.0)
    after, entries = enforce(state, seen(THREE), revoked={TWO.digest}, good=[THREE, ONE]) or (
        state,
        [],
    )
    assert (after.previous, after.warm_until, entries) == (ONE, None, [])
    assert desired(after).challenger is None
