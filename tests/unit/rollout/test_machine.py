"""The rollout machine against a simulated world: workloads that become ready later, crashes at
any tick (the state last stored is what counts), undo by hand at any time.

Faked: Kubernetes and the supervisor, as three fields with their semantics (a template with a
generation, the release that is ready). Why: the machine is pure, and thousands of orders of
events fit in a second.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proa.errors import Conflict, ProaError, Refused
from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Analysis
from proa.rollout.machine import (
    Entry,
    Seen,
    Track,
    abort,
    advance,
    pause,
    promote,
    release_slot,
    rollback,
    take_slot,
)
from proa.rollout.policy import Policy
from proa.rollout.state import Request, Rollout, desired, parse_rollout

PASS, FAIL = Analysis("pass", "fine"), Analysis("fail", "worse")
UNSURE = Analysis("inconclusive", "few calls")
NO_TRACK, TWO_STEPS = Track(), Policy(steps=(10, 50))


def ref(version: int) -> ReleaseRef:
    return ReleaseRef("m", version, f"sha256:{version:064x}")


@dataclass
class World:
    """Two workloads and a clock."""

    state: Rollout = field(default_factory=lambda: Rollout("m", "classic"))
    now: float = 0.0
    template: ReleaseRef | None = None
    generation: int = 0
    history: list[ReleaseRef] = field(default_factory=list)
    champion: Track = NO_TRACK
    challenger: Track = NO_TRACK
    analysis: Analysis | None = PASS
    entries: list[Entry] = field(default_factory=list)
    routed: bool = True

    def seen(self) -> Seen:
        return Seen(
            now=self.now,
            wall=self.now,
            running=self.template,
            generation=self.generation,
            champion=self.champion,
            challenger=self.challenger,
            routed=self.routed,
            analysis=self.analysis,
        )

    def tick(self, *, crash_before_save: bool = False, crash_before_act: bool = False) -> None:
        """One turn of the controller; a crash loses what was not stored, never more."""
        state, entries = advance(self.state, self.seen())
        if crash_before_save:
            return
        self.state = parse_rollout(json.loads(json.dumps(state.to_json())))
        self.entries += entries
        if not crash_before_act:
            self.converge()

    def converge(self) -> None:
        want = desired(self.state)
        intent = self.state.applying == self.generation
        if want.champion is None:
            if intent:
                self.template, self.champion = None, NO_TRACK
        elif want.champion != self.template and (intent or self.template is None):
            self.write(want.champion)
        if self.challenger.release != want.challenger:
            self.challenger = Track(want.challenger, ready=False)

    def write(self, release: ReleaseRef) -> None:
        if self.template is not None:
            self.history.append(self.template)
        self.template = release
        self.generation += 1

    def pods_get_ready(self) -> None:
        if self.template is not None:
            self.champion = Track(self.template, ready=True)
        if self.challenger.release is not None:
            self.challenger = Track(self.challenger.release, ready=True)

    def run(self, ticks: int = 30) -> None:
        for _ in range(ticks):
            self.now += 1
            self.tick()
            self.pods_get_ready()

    def ask(self, version: int, policy: Policy = TWO_STEPS) -> None:
        request = Request(ref(version), "ann", "because")
        self.state, entries = promote(self.state, request, policy, self.seen())
        self.entries += entries

    def actions(self) -> list[str]:
        return [entry.action for entry in self.entries]


def with_champion(version: int = 1) -> World:
    world = World()
    world.ask(version)
    world.run()
    assert world.state.champion == ref(version)
    return world


def test_first_release_needs_no_canary() -> None:
    world = with_champion()
    assert world.actions() == ["requested", "promoted"]
    assert world.template == ref(1)


def test_good_release_goes_through_every_step_and_keeps_the_old_one_warm() -> None:
    world = with_champion()
    world.ask(2)
    world.run()
    assert world.state.champion == ref(2)
    assert world.actions()[2:] == [
        "requested",
        "step",
        "step_passed",
        "step",
        "step_passed",
        "promoted",
    ]
    assert desired(world.state).challenger == ref(1)
    assert desired(world.state).weight == 0


def test_bad_release_is_stopped_and_the_champion_is_never_touched() -> None:
    world = with_champion()
    generation = world.generation
    world.analysis = FAIL
    world.ask(2)
    world.run()
    assert world.state.champion == ref(1)
    assert world.generation == generation
    assert world.actions()[-1] == "aborted"
    assert world.state.aliases.asked == ref(2)


def test_inconclusive_holds_then_takes_the_weight_back() -> None:
    world = with_champion()
    world.analysis = UNSURE
    world.ask(2, Policy(steps=(10,), max_seconds=5))
    world.run(5)
    assert world.state.phase == "canary"
    world.run(10)
    assert world.state.phase == "idle"
    assert world.actions()[-1] == "aborted"


def test_step_begins_only_when_every_gateway_has_the_routes() -> None:
    world = with_champion()
    world.routed = False
    world.ask(2)
    world.run()
    assert world.state.step_since is None
    assert "step" not in world.actions()


def test_rollback_inside_the_warm_window_flips_the_weight_first() -> None:
    world = with_champion()
    world.ask(2)
    world.run()
    world.state, _ = rollback(world.state, "ann", "wrong", world.seen())
    assert desired(world.state).weight == 100
    assert desired(world.state).challenger == ref(1)
    world.run()
    assert world.state.champion == ref(1)
    assert world.template == ref(1)
    assert world.state.warm_until is None


def test_rollback_without_a_previous_release_is_refused_by_name() -> None:
    world = with_champion()
    with pytest.raises(Refused, match="no previous release"):
        rollback(world.state, "ann", "", world.seen())


def test_undo_by_hand_is_followed_and_the_alias_is_no_request_again() -> None:
    world = with_champion()
    world.ask(2)
    world.run()
    world.write(ref(1))
    world.run(3)
    assert world.state.champion == ref(1)
    assert world.actions()[-1] == "undone"
    assert world.state.phase == "idle"


def test_pods_that_never_start_put_the_champion_back() -> None:
    world = with_champion()
    world.ask(2, Policy(steps=()))
    world.tick()
    world.tick()
    world.champion = replace(world.champion, failed="exit 78")
    world.tick()
    world.champion = replace(world.champion, failed=None)
    world.run(3)
    assert world.state.champion == ref(1)
    assert world.template == ref(1)
    assert world.actions()[-1] == "aborted"


def test_a_first_release_that_never_starts_leaves_no_champion() -> None:
    world = World()
    world.ask(1)
    world.tick()
    world.tick()
    world.champion = Track(failed="exit 78")
    for _ in range(3):
        world.tick()
    assert world.state.champion is None
    assert world.template is None
    assert world.actions() == ["requested", "aborted"]


def test_a_release_that_cannot_be_written_puts_the_champion_back() -> None:
    world = with_champion()
    world.ask(2, Policy(steps=()))
    world.champion = replace(world.champion, refused="its bundle is damaged")
    world.state, entries = advance(world.state, world.seen())
    assert [entry.action for entry in entries] == ["aborted"]
    assert world.state.applied == world.state.champion == ref(1)


def test_a_person_who_stops_a_canary_is_named() -> None:
    world = with_champion()
    world.ask(2)
    stopped = abort(world.state, "bob", "why"), rollback(world.state, "bob", "why", world.seen())
    assert [[entry.who for entry in entries] for _, entries in stopped] == [["bob"], ["bob"]]


def test_a_fail_stops_a_paused_canary_and_the_wait_begins_anew_after_it() -> None:
    world = with_champion()
    world.analysis = UNSURE
    world.ask(2, Policy(steps=(10,), max_seconds=50))
    world.run(5)
    world.state, _ = pause(world.state, "ann", paused=True)
    world.run(100)
    assert world.state.phase == "canary"
    world.state, _ = pause(world.state, "ann", paused=False)
    world.run(30)
    assert world.state.phase == "canary"
    world.state, _ = pause(world.state, "ann", paused=True)
    world.analysis = FAIL
    world.run(2)
    assert world.state.phase == "idle"


def test_an_undo_in_the_middle_of_a_promotion_does_not_make_it_the_previous_release() -> None:
    world = with_champion()
    world.ask(2, Policy(steps=()))
    world.tick()
    world.tick()
    assert (world.state.phase, world.template) == ("promoting", ref(2))
    world.write(ref(1))
    world.run(3)
    assert world.state.champion == ref(1)
    assert world.state.previous is None


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_is_set_while_the_controller_is_down_stretches_no_wait(jump: float) -> None:
    world = with_champion()
    world.state = take_slot(world.state, ref(2), "slot-1", world.now)
    world.now += jump
    world.tick()
    world.now += 1801
    world.tick()
    assert world.state.phase == "idle"


def test_a_wall_clock_set_back_begins_the_step_again() -> None:
    world = with_champion()
    world.analysis = UNSURE
    world.ask(2)
    world.run(5)
    world.now -= 3600
    world.run(3)
    assert world.state.step_since is not None
    assert world.state.step_since <= world.now
    assert world.actions().count("step") == 2


def test_two_promotes_at_once_the_second_is_told_who_is_first() -> None:
    world = with_champion()
    world.ask(2)
    with pytest.raises(Conflict, match="m is canary with m/2"):
        world.ask(3)


def test_a_gate_holds_the_slot_until_released_or_forgotten() -> None:
    world = with_champion()
    world.state = take_slot(world.state, ref(2), "slot-1", world.now)
    with pytest.raises(Conflict):
        take_slot(world.state, ref(3), "slot-2", world.now)
    assert release_slot(world.state, "slot-2") == world.state
    world.now += 10_000
    world.tick()
    assert world.state.phase == "idle"
    assert world.actions()[-1] == "slot_freed"


versions = st.integers(1, 4)


class AnyOrder(RuleBasedStateMachine):
    """Any order of wishes, ticks, crashes and undos keeps the promises below."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(version=versions, steps=st.sampled_from([(), (10,), (10, 50)]))
    def promote(self, version: int, steps: tuple[int, ...]) -> None:
        try:
            self.world.ask(version, Policy(steps=steps, max_seconds=5, warm_seconds=7))
        except ProaError:
            return

    @rule()
    def rollback(self) -> None:
        try:
            self.world.state, _ = rollback(self.world.state, "ann", "", self.world.seen())
        except ProaError:
            return

    @rule(version=versions)
    def gate(self, version: int) -> None:
        try:
            self.world.state = take_slot(self.world.state, ref(version), "s", self.world.now)
        except Conflict:
            return

    @rule()
    def abort(self) -> None:
        try:
            self.world.state, _ = abort(self.world.state, "ann", "")
        except Conflict:
            return

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        try:
            self.world.state, _ = pause(self.world.state, "ann", paused=paused)
        except Conflict:
            return

    @rule(save=st.booleans(), act=st.booleans())
    def tick(self, save: bool, act: bool) -> None:
        self.world.now += 1
        self.world.tick(crash_before_save=save, crash_before_act=act)

    @rule(analysis=st.sampled_from([None, PASS, FAIL, UNSURE]))
    def traffic(self, analysis: Analysis | None) -> None:
        self.world.analysis = analysis

    @rule()
    def ready(self) -> None:
        self.world.pods_get_ready()

    @precondition(lambda self: self.world.history)
    @rule()
    def undo_by_hand(self) -> None:
        self.world.write(self.world.history[-1])

    @invariant()
    def state_survives_its_file(self) -> None:
        text = json.dumps(self.world.state.to_json())
        assert parse_rollout(json.loads(text)) == self.world.state

    @invariant()
    def no_weight_without_a_release_in_the_slot(self) -> None:
        want = desired(self.world.state)
        assert 0 <= want.weight <= 100
        assert want.weight == 0 or want.challenger is not None

    @invariant()
    def the_champion_is_never_taken_away(self) -> None:
        if self.world.state.champion is not None:
            assert desired(self.world.state).champion is not None

    def teardown(self) -> None:
        """Left alone, with pods that start, every order ends idle with one truth."""
        self.world.analysis = PASS
        if self.world.state.phase == "canary":
            self.world.state = replace(self.world.state, paused=False)
        for _ in range(80):
            self.world.now += 50
            self.world.tick()
            self.world.pods_get_ready()
        state = self.world.state
        assert state.phase == "idle"
        assert state.applying is None
        assert state.applied == state.champion == self.world.template


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
