"""One request from finding to champion, and what must hold in any order of events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proa.http.clock import parse_time, rfc3339
from proa.project.retrain import RetrainSection
from proa.retraining.request import BREAKER, Past
from proa.retraining.step import next_step
from tests.unit.retraining.world import START, World, finding, release

AUTO = RetrainSection(promote="auto", fresh_days=14)


def calibrated_badly(section: RetrainSection = AUTO) -> World:
    world = World(section, findings=[finding()])
    world.turn()
    return world


def running(section: RetrainSection = AUTO) -> World:
    world = calibrated_badly(section)
    world.pass_days(11)
    world.turn()
    assert world.past.open is not None
    assert world.past.open.state == "running"
    return world


def test_a_finding_becomes_one_request_a_run_an_exam_a_champion() -> None:
    world = calibrated_badly()
    request = world.past.open
    assert request is not None
    assert (request.id, request.state, request.cause) == (
        f"1-{finding().id[:8]}",
        "asked",
        "calibration",
    )
    assert world.lines[0]["details"]["findings"][0]["effect"] == 0.1
    assert "14 fresh days are there when they reach 2013-04-15 00:00 UTC" in world.waits
    world.pass_days(11)
    world.turn()
    request = world.past.open
    assert request is not None
    assert request.windows == {
        "trained": "2013-04-01T00:00:00+00:00",
        "until": "2013-04-15T00:00:00+00:00",
    }
    world.finish_run("pass")
    world.turn()
    world.finish_rollout("promoted")
    world.turn()
    assert world.actions() == [
        "retraining_asked",
        "retraining_started",
        "retraining_judged",
        "retraining_promoting",
        "retraining_done",
    ]
    assert world.started == 1
    assert world.champion == release(2)


def test_the_exam_lies_in_the_days_that_the_finding_is_about() -> None:
    # It opened on 1 April; the days it looked at, and found bad, began on 20 March.
    world = World(AUTO, findings=[finding(evidence={"since": "2013-03-20"})])
    world.turn()
    assert world.past.open is not None
    assert world.past.open.windows == {
        "trained": "2013-03-21T00:00:00+00:00",
        "until": "2013-04-04T00:00:00+00:00",
    }


def test_a_candidate_learns_from_days_that_the_champion_has_not_seen() -> None:
    world = World(AUTO, findings=[finding(evidence={"since": "2013-03-01"})], trained=START)
    world.turn()
    assert world.started == 0
    # a week to learn from, fourteen days to be examined on
    assert "14 fresh days are there when they reach 2013-04-22 00:00 UTC" in world.waits


def test_an_inconclusive_exam_is_sat_again_and_is_no_failure() -> None:
    world = running()
    for attempt in (1, 2):
        world.finish_run("inconclusive")
        world.turn()
        assert world.past.open is not None
        assert world.past.open.attempt == attempt, world.waits
        world.pass_days(6)
        world.turn()
        assert world.past.open.attempt == attempt
        world.pass_days(1)
        world.turn()
    assert world.past.open is not None
    assert world.past.open.windows["until"].startswith("2013-04-29")
    world.finish_run("inconclusive")
    world.turn()
    last = world.past.requests[-1]
    assert (last.state, last.reason) == ("failed", "3 exams, none conclusive")
    assert world.past.failed_in_a_row == 0


def test_two_failed_candidates_stop_it_until_a_person_resets_it() -> None:
    section = AUTO.model_copy(update={"budget": 100})
    world = running(section)
    world.finish_run("fail")
    world.turn()
    assert world.past.failed_in_a_row == 1
    world.pass_days(section.cooldown_days)
    world.turn()
    world.finish_run("pass")
    world.turn()
    world.finish_rollout("aborted")
    world.turn()
    assert world.past.stopped
    world.pass_days(365)
    world.turn()
    assert len(world.past.requests) == 2
    assert "2 candidates failed in a row" in world.waits
    world.person("retraining_reset")
    world.turn()
    assert len(world.past.requests) == 3


def test_a_run_that_ends_without_a_verdict_is_a_failed_candidate() -> None:
    world = running()
    world.finish_run(None)
    world.turn()
    assert world.past.requests[-1].candidate_failed


def test_a_finding_that_merely_closes_leaves_its_request_to_the_exam() -> None:
    world = calibrated_badly()
    world.findings = [replace(world.findings[0], until=rfc3339(world.now))]
    world.turn()
    assert world.past.open is not None
    world.pass_days(11)
    world.turn()
    assert world.past.open.state == "running"


def test_what_was_taken_back_and_another_champion_end_a_request() -> None:
    world = calibrated_badly()
    until, evidence = rfc3339(world.now), {"taken_back": True}
    world.findings = [replace(world.findings[0], until=until, evidence=evidence)]
    world.turn()
    assert world.past.requests[-1].state == "withdrawn"
    assert world.past.requests[-1].reason.startswith("what asked for it was taken back")
    other = running()
    other.champion = release(9)
    other.turn()
    assert other.past.requests[-1].state == "withdrawn"
    assert other.runs == {str(other.past.requests[-1].run): "ended"}


def test_nothing_runs_before_a_person_approves() -> None:
    world = calibrated_badly(AUTO.model_copy(update={"approval": True}))
    world.pass_days(30)
    world.turn()
    assert (world.started, world.waits) == (0, "a person must approve it")
    world.person("retraining_approved")
    world.turn()
    assert world.started == 1
    again = calibrated_badly(AUTO.model_copy(update={"approval": True}))
    again.person("retraining_refused")
    again.turn()
    assert again.past.requests[-1].state == "withdrawn"
    assert "cooldown" in again.actions()[-1] or again.actions()[-1] == "retraining_held"


def test_a_candidate_is_left_to_a_person_unless_the_project_says_auto() -> None:
    world = running(AUTO.model_copy(update={"promote": "never"}))
    world.finish_run("pass")
    world.turn()
    assert world.past.requests[-1].state == "done"
    assert "is left to a person: proa promote m/2" in world.past.requests[-1].reason
    assert "requested" not in [line["action"] for line in world.lines]


def test_broken_data_hold_back_a_run_that_was_asked_for() -> None:
    world = calibrated_badly()
    world.pass_days(11)
    world.findings.append(finding("null_burst", since=world.now, subject="wind"))
    world.turn()
    assert world.started == 0
    assert "the data are broken" in world.waits
    assert world.actions() == ["retraining_asked", "retraining_held"]


def test_a_run_waits_for_a_rollout_under_way() -> None:
    world = calibrated_badly()
    world.busy = "canary: at 10 %"
    world.pass_days(11)
    world.turn()
    assert (world.started, world.waits) == (
        0,
        "the run waits for what is under way: canary: at 10 %",
    )
    world.busy = None
    world.turn()
    assert world.started == 1


@pytest.mark.parametrize(
    "kind", ["feature_drift", "prediction_drift", "reasons_drift", "label_delay"]
)
def test_what_has_merely_moved_never_retrains(kind: str) -> None:
    world = World(AUTO, findings=[finding(kind, subject="wind")])
    for _ in range(20):
        world.pass_days(30)
        world.turn()
    assert world.lines == []


def test_a_second_open_request_is_none_even_in_a_journal_that_has_it() -> None:
    world = running()
    asked = world.lines[0]
    twice = [*world.lines, {**asked, "seq": 99, "details": {**asked["details"], "request": "2-x"}}]
    past = Past().add(twice)
    assert [request.id for request in past.requests] == [asked["details"]["request"]]
    assert past.open is not None
    assert past.open.state == "running"
    strange = {**asked, "seq": 100, "action": "retraining_done", "details": {"request": "2-x"}}
    assert past.add([strange]).open is not None


def test_a_budget_is_spent_request_by_request() -> None:
    section = AUTO.model_copy(update={"cooldown_days": 1, "budget": 2, "budget_days": 60})
    world = calibrated_badly(section)
    for _ in range(2):
        world.person("retraining_refused")
        world.pass_days(1)
        world.turn()
    assert len(world.past.requests) == 2
    assert "2 requests in 60 days is the whole budget: wait until 2013-06-03" in world.waits
    world.pass_days(57)
    world.turn()
    assert len(world.past.requests) == 2
    world.pass_days(1)
    world.turn()
    assert len(world.past.requests) == 3


class Anything(RuleBasedStateMachine):
    """Findings come and go, days pass, runs and rollouts end as they like, people decide."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            AUTO.model_copy(update={"cooldown_days": 20, "budget": 2, "budget_days": 60})
        )
        self.count = 0

    @rule(days=st.integers(0, 20))
    def days(self, days: int) -> None:
        self.world.pass_days(days)

    @rule(kind=st.sampled_from(["calibration", "quality", "feature_drift", "null_burst"]))
    def opens(self, kind: str) -> None:
        self.count += 1
        found = finding(kind, since=self.world.now, window=str(self.count))
        self.world.findings.append(replace(found, release=self.world.champion))

    @precondition(lambda self: any(f.open for f in self.world.findings))
    @rule(pick=st.integers(0, 99))
    def closes(self, pick: int) -> None:
        places = [n for n, found in enumerate(self.world.findings) if found.open]
        place = places[pick % len(places)]
        until = rfc3339(self.world.now)
        self.world.findings[place] = replace(self.world.findings[place], until=until)

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @precondition(lambda self: "running" in self.world.runs.values() and self.world.past.open)
    @rule(verdict=st.sampled_from(["pass", "fail", "inconclusive", None]))
    def run_ends(self, verdict: str | None) -> None:
        request = self.world.past.open
        assert request is not None
        if self.world.runs.get(str(request.run)) == "running":
            self.world.finish_run(verdict)

    @precondition(lambda self: self.world.past.open and self.world.past.open.state == "promoting")
    @rule(word=st.sampled_from(["promoted", "aborted"]))
    def rollout_ends(self, word: str) -> None:
        self.world.finish_rollout(word)

    @rule(action=st.sampled_from(["retraining_refused", "retraining_reset"]))
    def decides(self, action: str) -> None:
        self.world.person(action)

    @rule()
    def another_release(self) -> None:
        self.world.number += 1
        self.world.champion = release(self.world.number)

    @invariant()
    def never_two_open_requests(self) -> None:
        assert sum(request.is_open for request in self.world.past.requests) <= 1

    @invariant()
    def a_restart_and_a_replay_change_nothing(self) -> None:
        world, one = self.world, Past()
        for line in world.lines:
            one.add([line])
        assert one == world.past
        step = next_step(world.section, one, world.situation())
        assert step == next_step(world.section, world.past, world.situation())

    @invariant()
    def cooldown_budget_and_breaker_hold(self) -> None:
        world, failed = self.world, 0
        asked: list[str] = []
        ended = None
        section = world.section
        for line in world.lines:
            at = line["details"].get("at")
            match line["action"]:
                case "retraining_asked":
                    assert failed < BREAKER
                    now = parse_time(at)
                    assert ended is None or now - ended >= timedelta(days=section.cooldown_days)
                    begin = now - timedelta(days=section.budget_days)
                    assert sum(parse_time(t) > begin for t in asked) < section.budget
                    asked.append(at)
                case "retraining_failed":
                    failed += line["details"]["candidate"]
                case "retraining_done" | "retraining_reset":
                    failed = 0
            ends = ("retraining_done", "retraining_failed", "retraining_withdrawn")
            refused = line["action"] == "retraining_refused" and line["details"]["request"]
            if line["action"] in ends or refused:
                ended = parse_time(at)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_days_are_those_of_the_zone() -> None:
    section = AUTO.model_copy(update={"zone": "America/New_York"})
    world = World(section, findings=[finding(since=START + timedelta(hours=4))])
    world.turn()
    world.pass_days(11)
    world.turn()
    assert "reach 2013-04-15 04:00 UTC" in world.waits
    assert world.started == 0
    world.pass_days(0.2)
    world.turn()
    assert world.past.open is not None
    assert world.past.open.windows["until"] == "2013-04-15T00:00:00-04:00"
