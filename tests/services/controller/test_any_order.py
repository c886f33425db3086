"""The real controller core against a model of what it promises: any order of wishes, turns, kills
at any write, undos, hands in the registry, broken releases and set clocks.

Faked: see plant.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proa.errors import ProaError
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION
from proa.rollout.machine import advance
from proa.rollout.state import Rollout, desired
from proa_controller import verdicts
from tests.services.controller.plant import (
    FAIL,
    MODEL,
    PASS,
    UNSURE,
    Plant,
    remembered_judge,
    stock,
)

numbers = st.integers(1, 5)
crashes = st.one_of(st.none(), st.integers(0, 12))
"""None, or at which write from now on the controller is killed."""


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.judge, verdicts.judge = verdicts.judge, remembered_judge
        self.plant = Plant()
        self.passed: set[str] = set()
        self.by_hand: set[str] = set()
        self.slot: str | None = None

    @initialize(champion=st.booleans())
    def begin(self, champion: bool) -> None:
        if champion:
            self.plant.first()
            self.passed.add(stock()[1].digest)

    def ask(self, act: Callable[[], object], crash: int | None = None) -> object:
        """A person's wish; a refusal is an answer, and a kill is none."""
        points = self.plant.points
        points.at = None if crash is None else len(points.passed) + crash
        try:
            return self.plant.guarded(act)
        except (ProaError, OSError) as error:  # OSError: a verdict while the journal is down
            return error
        finally:
            points.at = None

    # People

    @rule(number=numbers, good=st.booleans(), crash=crashes)
    def gate(self, number: int, good: bool, crash: int | None) -> None:
        ref = stock()[number]
        before = len(self.judged(ref))
        self.ask(lambda: self.plant.judge(ref, good=good), crash)
        if len(self.judged(ref)) > before:  # it entered the journal, whatever came after
            (self.passed.add if good else self.passed.discard)(ref.digest)

    def judged(self, ref: ReleaseRef) -> list[object]:
        lines = self.plant.lines()
        return [x for x in lines if x.action == "judged" and x.release == str(ref)]

    @rule(number=numbers)
    def hold_the_slot(self, number: int) -> None:
        taken = self.ask(lambda: self.plant.controller.take_slot(stock()[number]))
        if not isinstance(taken, Exception):
            self.slot = taken.id

    @precondition(lambda self: self.slot is not None)
    @rule()
    def give_the_slot_back(self) -> None:
        self.ask(lambda: self.plant.controller.release_slot(MODEL, self.slot))
        self.slot = None

    @rule(number=numbers, steps=st.sampled_from([[], [10], [10, 50]]), crash=crashes)
    def promote(self, number: int, steps: list[int], crash: int | None) -> None:
        self.ask(lambda: self.plant.promote(stock()[number], steps=steps), crash)

    @rule(crash=crashes)
    def rollback(self, crash: int | None) -> None:
        self.ask(self.plant.rollback, crash)

    @rule()
    def abort(self) -> None:
        self.ask(lambda: self.plant.controller.abort(MODEL, who="ann", reason="enough"))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.ask(lambda: self.plant.controller.pause(MODEL, who="ann", paused=paused))

    @rule(crash=crashes, kubectl=st.booleans())
    def undo(self, crash: int | None, kubectl: bool) -> None:
        def act() -> None:
            if kubectl:
                self.plant.sheds.undo(MODEL)
            else:
                self.plant.controller.undo(MODEL, who="bob", reason="I say so")

        before = self.plant.sheds.shed(MODEL).template
        self.ask(act, crash)
        after = self.plant.sheds.shed(MODEL).template
        if after not in (None, before):
            self.by_hand.add(after.digest)

    # The registry, by hand

    @rule(alias=st.sampled_from([CHALLENGER, CHAMPION]), number=numbers)
    def point(self, alias: str, number: int) -> None:
        if number in self.plant.registry.tags:
            self.plant.registry.aliases[alias] = number

    @rule(alias=st.sampled_from([CHALLENGER, CHAMPION]))
    def unpoint(self, alias: str) -> None:
        self.plant.registry.aliases.pop(alias, None)

    @rule(number=numbers, other=numbers)
    def retag(self, number: int, other: int) -> None:
        """Tags edited by hand, or a model deleted and created again: another digest."""
        if number in self.plant.registry.tags:
            self.plant.registry.tags[number] = stock()[other].digest

    @rule(number=numbers)
    def delete_version(self, number: int) -> None:
        self.plant.registry.delete(number)

    @rule(down=st.booleans())
    def mlflow(self, down: bool) -> None:
        self.plant.registry.down = down

    # The world

    @rule(analysis=st.sampled_from([PASS, FAIL, UNSURE, None]))
    def traffic(self, analysis: object) -> None:
        self.plant.analysis = analysis

    @rule(number=numbers, broken=st.booleans())
    def start(self, number: int, broken: bool) -> None:
        name = str(stock()[number])
        (self.plant.sheds.broken.add if broken else self.plant.sheds.broken.discard)(name)

    @rule(number=numbers, refused=st.booleans())
    def build(self, number: int, refused: bool) -> None:
        name = str(stock()[number])
        (self.plant.launcher.refused.add if refused else self.plant.launcher.refused.discard)(name)

    @rule(stuck=st.booleans())
    def gateway(self, stuck: bool) -> None:
        self.plant.gateway_stuck = stuck

    @rule(down=st.booleans())
    def journal(self, down: bool) -> None:
        self.plant.journal.down = down

    @rule(hours=st.integers(-5, 5))
    def set_clock(self, hours: int) -> None:
        self.plant.clock.set(hours)

    @rule(crash=crashes, turns=st.integers(1, 4), watched=st.booleans())
    def time_passes(self, crash: int | None, turns: int, watched: bool) -> None:
        for _ in range(turns):
            points = self.plant.points
            points.at = None if crash is None else len(points.passed) + crash
            self.as_the_machine_says()
            if watched:
                self.plant.look()
        self.plant.points.at = None

    def as_the_machine_says(self) -> None:
        """One turn, held against the pure machine: it took the transition whole or not at all."""
        plant = self.plant
        plant.clock.run(1.0)
        plant.gateway_reads()
        for name in sorted(plant.sheds.all):
            plant.sheds.turn(name, plant.routed_urls())
        before = plant.state
        expected, entries = advance(before, plant.controller._see(before))
        killed = plant.crashes
        plant.guarded(plant.controller.tick)
        if plant.crashes == killed:
            assert plant.state == expected
        else:
            assert plant.state in (before, expected)
        plant.call()
        if plant.state == expected and entries and not plant.journal.down:
            plant.turn(0.0)  # a killed one's lines are written by the next
            keys = [line.key for line in plant.lines()]
            assert f"{MODEL}:{expected.sequence}:{len(entries) - 1}" in keys

    # Promises

    @invariant()
    def nobody_was_failed(self) -> None:
        assert self.plant.failed_calls == []

    @invariant()
    def only_admitted_releases_get_traffic(self) -> None:
        ever = {x.release for x in self.plant.lines() if x.action == "requested"}
        for model in self.plant.loaded["models"].values():
            for track in model["tracks"].values():
                if track["ready"] and track["weight"] > 0:
                    digest = track["release"].partition("@")[2]
                    assert digest in self.by_hand or any(digest in (ref or "") for ref in ever)

    @invariant()
    def requests_had_a_pass(self) -> None:
        """Every `requested` line follows a passing verdict on that digest."""
        passed: set[str] = set()
        for line in self.plant.lines():
            if line.action == "judged":
                found = line.details
                change = passed.add if found["value"] == "pass" else passed.discard
                change(found["candidate"])
            elif line.action == "requested":
                assert line.release.partition("@")[2] in passed

    @invariant()
    def the_champion_is_what_was_promoted_or_chosen_by_hand(self) -> None:
        state = self.plant.state
        told = [x for x in self.plant.lines() if x.action in ("promoted", "rolled_back", "undone")]
        told += [x for x in self.waiting() if x["action"] in ("promoted", "rolled_back", "undone")]
        last = told[-1] if told else None
        release = last["release"] if isinstance(last, dict) else last and last.release
        assert release == (None if state.champion is None else str(state.champion))

    def waiting(self) -> list[dict[str, object]]:
        keys = {line.key for line in self.plant.lines()}
        stored = self.plant.controller._states.unwritten(MODEL)
        return [line for line in stored if line["key"] not in keys]

    @invariant()
    def a_slot_is_never_lost_silently(self) -> None:
        """A gate that holds the slot has it, or the journal says why not."""
        state = self.plant.state
        if self.slot is None or state.slot == self.slot:
            return
        said = {x.action for x in self.plant.lines()} | {str(x["action"]) for x in self.waiting()}
        assert said & {"slot_freed", "undone", "rollback_requested"}

    @invariant()
    def numbers_and_digests_belong_together(self) -> None:
        state = self.plant.state
        for ref in (state.champion, state.applied, state.candidate, state.previous):
            assert ref is None or ref in stock().refs

    def teardown(self) -> None:
        """Left alone, with a world that is whole, everything ends at rest with one truth."""
        plant = self.plant
        try:
            plant.analysis = PASS
            plant.registry.down = plant.gateway_stuck = plant.journal.down = False
            plant.sheds.broken.clear()
            plant.launcher.refused.clear()
            plant.registry.tags = {ref.version: ref.digest for ref in stock().refs}
            self.ask(lambda: plant.controller.pause(MODEL, who="ann", paused=False))
            for _ in range(40):
                plant.turn(60.0)
                plant.look()
            assert plant.is_settled(), plant.state
            self.ends_well(plant.state)
            plant.check_journal()
            assert plant.failed_calls == []
        finally:
            verdicts.judge = self.judge
            shutil.rmtree(plant.folder)

    def ends_well(self, state: Rollout) -> None:
        plant = self.plant
        assert state.applied == state.champion == plant.sheds.shed(MODEL).template
        assert desired(state).weight == 0
        if state.champion is not None:
            assert plant.reported == state.champion.version
            tracks = plant.loaded["models"][MODEL]["tracks"]
            assert tracks["champion"]["release"] == str(state.champion)
            assert tracks["champion"]["ready"]
            assert tracks.get("challenger", {"weight": 0})["weight"] == 0


AnyOrder.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyOrder = AnyOrder.TestCase
