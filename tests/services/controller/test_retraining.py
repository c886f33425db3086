"""Findings become releases by themselves, whatever is killed meanwhile.

Real: the controller core, the retrainer, the journal, the rule. Faked: the monitor (findings are
told), the pipeline (a runner that makes a release and lets it sit its exam when the test says so);
and see plant.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.findings.finding import Finding
from proa.http.clock import rfc3339
from proa.project.retrain import RetrainSection
from proa.release.reference import ReleaseRef
from proa.rollout.people import By
from proa_controller.findings import Seen
from proa_controller.retrainer import Retrainer
from proa_controller.runs import Look, Order
from tests.services.controller.plant import FAIL, MODEL, Plant, remembering, stock
from tests.services.controller.platform import manifest_of
from tests.unit.retraining.world import START, finding

AUTO = RetrainSection(promote="auto", set_={"train.trials": 2, "deep": True}).to_json()
ANN, BOB = By("key-a", "ann"), By("key-b", "bob")


@pytest.fixture(autouse=True)
def _judge() -> Iterator[None]:
    with remembering():
        yield


@cache
def made(number: int) -> ReleaseRef:
    """A release that a run makes."""
    digest = stock().bundles.put(manifest_of(MODEL, number), Path())
    return ReleaseRef(MODEL, number, digest)


@dataclass
class Pipelines:
    """`Runner` that outlives controllers; also the monitor's findings."""

    orders: dict[str, Order] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    starts: int = 0
    now: datetime = START + timedelta(days=3)
    found: list[Finding] = field(default_factory=list)
    away: bool = False

    def start(self, order: Order) -> None:
        if self.look(order.model, order.run).word == "absent":
            self.starts += 1
            self.orders[order.run], self.words[order.run] = order, "running"

    def look(self, model: str, run: str) -> Look:
        return Look(self.words.get(run, "absent"), "its last words")  # type: ignore[arg-type]

    def stop(self, model: str, run: str) -> None:
        self.words[run] = "ended"

    def close(self) -> None:
        pass

    def of(self, model: str) -> Seen:
        if self.away:
            raise Unavailable("the monitor did not answer")
        return Seen(tuple(self.found), self.now, self.now)


class Farm:
    """A plant, its pipelines, and a retrainer of whichever controller lives."""

    def __init__(self, *, crash_at: int | None = None, section: Any = AUTO) -> None:
        self.plant = Plant()
        self.pipelines = Pipelines()
        self.plant.first()
        self.say(section)
        self.plant.points.passed.clear()
        self.plant.points.at = crash_at
        self.number = 5

    def say(self, section: Any, *, may_loosen: bool = True, by: By = ANN) -> dict[str, Any]:
        return self.plant.controller.take_retrain(
            MODEL, section, who="ann", by=by, may_loosen=may_loosen
        )

    def look(self) -> None:
        retrainer = Retrainer(self.plant.controller, self.pipelines, self.pipelines, 1.0)
        self.plant.guarded(retrainer.look)

    def goes_wrong(self, **more: Any) -> None:
        self.pipelines.found = [replace(finding(**more), release=str(self.plant.state.champion))]

    def pass_days(self, days: int) -> None:
        self.pipelines.now += timedelta(days=days)
        seen = rfc3339(self.pipelines.now)
        self.pipelines.found = [
            replace(f, seen=seen) if f.open else f for f in self.pipelines.found
        ]

    def finish_run(self, *, good: bool = True) -> ReleaseRef:
        """What the pipeline does: create, gate."""
        run = next(name for name, word in self.pipelines.words.items() if word == "running")
        order = self.pipelines.orders[run]
        self.number += 1
        ref = made(self.number)
        self.plant.registry.tags[ref.version] = ref.digest
        reason = order.cause["cause"]
        self.twice(lambda: self.plant.controller.announce(ref, "pipelines", reason))
        self.twice(lambda: self._gate(ref, good))
        self.pipelines.words[run] = "ended"
        return ref

    def twice(self, act: Callable[[], object]) -> None:
        """Do it, and once more when the controller was killed in it: clients ask again."""
        crashes = self.plant.crashes
        self.plant.guarded(act)
        if self.plant.crashes > crashes:
            act()

    def _gate(self, ref: ReleaseRef, good: bool) -> None:
        held = self.plant.state.slot
        if held is not None:
            self.plant.controller.release_slot(MODEL, held)
        if ref.digest not in self.plant.controller._record(MODEL).verdicts:
            self.plant.judge(ref, good=good)

    def run(self, done: Any) -> None:
        for _ in range(60):
            self.plant.turn()
            self.look()
            if done():
                return
        raise AssertionError(self.told["waits"])

    @property
    def told(self) -> dict[str, Any]:
        return self.plant.controller.retraining(MODEL)

    @property
    def request(self) -> dict[str, Any]:
        return dict(self.told["requests"][0])

    def lines(self) -> list[str]:
        return [x.action for x in self.plant.lines() if x.action.startswith("retraining")]


def to_champion(farm: Farm) -> ReleaseRef:
    """From a finding to the champion that came of it."""
    farm.goes_wrong()
    farm.run(lambda: farm.lines()[-1:] == ["retraining_asked"])
    farm.pass_days(11)
    farm.run(lambda: farm.pipelines.starts > 0)
    ref = farm.finish_run()
    farm.run(lambda: farm.plant.state.champion == ref)
    farm.run(lambda: farm.lines()[-1] == "retraining_done")
    return ref


STEPS = ["asked", "started", "judged", "promoting", "done"]


def test_a_finding_ends_as_a_champion_and_its_story_is_told() -> None:
    farm = Farm()
    ref = to_champion(farm)
    assert farm.lines() == [f"retraining_{word}" for word in STEPS]
    (order,) = farm.pipelines.orders.values()
    assert order.overrides == {
        "train.trials": "2",
        "deep": "true",
        "data.train.end": "2013-04-01T00:00:00+00:00",
        "data.exam.start": "2013-04-01T00:00:00+00:00",
        "data.exam.end": "2013-04-15T00:00:00+00:00",
    }
    assert order.cause["cause"].endswith(f"[retraining {order.run}]")
    story = farm.request["story"]
    words = ("finding", "triage: real", "asked", "started", "made", "judged", "rollout was asked")
    places = [next(n for n, text in enumerate(story) if word in text) for word in words]
    assert places == sorted(places)
    assert any("became champion" in text for text in story)
    about = [line for line in farm.plant.lines() if line.release == str(ref)]
    requested = next(line for line in about if line.action == "requested")
    assert requested.who == "proa-controller"
    assert requested.details["grounds"]["overridden"] == []


def test_a_kill_at_every_write_changes_nothing() -> None:
    calm = Farm()
    to_champion(calm)
    points = list(calm.plant.points.passed)
    calm.plant.close()
    mine = [n for n, label in enumerate(points) if "line" in label or "state" in label]
    assert len(mine) > 20
    for number in mine:
        farm = Farm(crash_at=number)
        ref = to_champion(farm)
        assert farm.plant.crashes == 1, points[number]
        assert farm.lines() == [f"retraining_{word}" for word in STEPS], points[number]
        assert farm.pipelines.starts == 1
        assert farm.plant.state.champion == ref
        farm.plant.check_journal()
        farm.plant.close()


def test_a_canary_that_fails_counts_as_a_failed_candidate() -> None:
    farm = Farm()
    farm.plant.analysis = FAIL
    farm.goes_wrong()
    farm.pass_days(11)
    farm.run(lambda: farm.pipelines.starts > 0)
    farm.finish_run()
    farm.run(lambda: "retraining_failed" in farm.lines())
    assert "was stopped: analysis failed: worse" in farm.request["reason"]
    assert farm.told["failed_in_a_row"] == 1
    with pytest.raises(NotFound, match="no request waits for it"):
        farm.plant.controller.decide_retraining(
            MODEL, "refuse", who="ann", reason="not this one", by=ANN
        )
    told = farm.plant.controller.decide_retraining(
        MODEL, "reset", who="ann", reason="it was the weather", by=ANN
    )
    assert told["failed_in_a_row"] == 0


def test_a_failed_exam_is_never_promoted() -> None:
    farm = Farm()
    champion = farm.plant.state.champion
    farm.goes_wrong()
    farm.pass_days(11)
    farm.run(lambda: farm.pipelines.starts > 0)
    farm.finish_run(good=False)
    farm.run(lambda: "retraining_failed" in farm.lines())
    farm.plant.run(5)
    assert farm.plant.state.champion == champion


def test_a_person_approves_or_refuses() -> None:
    farm = Farm(section={**AUTO, "approval": True})
    farm.goes_wrong()
    farm.pass_days(11)
    farm.look()
    farm.look()
    assert (farm.request["state"], farm.pipelines.starts) == ("awaiting_approval", 0)
    (waits,) = farm.plant.controller.status(MODEL)["attention"]
    assert "proa retraining approve m --as NAME --reason TEXT" in waits
    decide = farm.plant.controller.decide_retraining
    decide(MODEL, "approve", who="bob", reason="go ahead please", by=BOB)
    farm.look()
    assert farm.request["state"] == "running"
    decide(MODEL, "refuse", who="bob", reason="on second thoughts", by=BOB)
    farm.look()
    assert farm.request["state"] == "withdrawn"
    assert set(farm.pipelines.words.values()) == {"ended"}
    assert "refused by bob" in farm.request["story"][-1]


def test_a_rollout_that_must_wait_is_asked_for_without_noise() -> None:
    """An approval of releases, of the section rollout, is nobody's to skip."""
    farm = Farm()
    farm.plant.controller.take_rules(MODEL, {"approval": True}, who="ann", by=ANN, may_loosen=True)
    farm.goes_wrong()
    farm.pass_days(11)
    farm.run(lambda: farm.pipelines.starts > 0)
    ref = farm.finish_run()
    for _ in range(10):
        farm.plant.turn()
        farm.look()
    assert farm.request["state"] == "promoting"
    assert "has not been approved by a second person" in farm.told["waits"]
    assert "refused" not in [line.action for line in farm.plant.lines()]
    farm.plant.controller.approve(ref, who="bob", reason="it is good", by=BOB)
    farm.run(lambda: farm.plant.state.champion == ref)


def test_away_monitor_and_journal_are_waited_for() -> None:
    farm = Farm()
    farm.goes_wrong()
    farm.pipelines.away = True
    farm.look()
    assert farm.told["waits"] == "the monitor did not answer"
    farm.pipelines.away = False
    farm.plant.journal.down = True
    farm.look()
    assert farm.told["requests"] == []
    farm.plant.journal.down = False
    farm.look()
    assert farm.lines() == ["retraining_asked"]


def test_broken_data_are_told_once_and_retrain_nothing() -> None:
    farm = Farm()
    farm.goes_wrong()
    broken = replace(finding("null_burst", subject="wind"), release=str(farm.plant.state.champion))
    farm.pipelines.found.append(broken)
    for _ in range(3):
        farm.pass_days(10)
        farm.look()
    assert farm.lines() == ["retraining_held"]
    assert farm.told["data_blocked"]
    assert farm.told["triage"]["verdict"] == "data_broken"


def test_a_looser_section_waits_for_a_second_person() -> None:
    farm = Farm()
    looser = {**AUTO, "cooldown_days": 1}
    told = farm.say(looser, may_loosen=False)
    assert (told["standing"], told["in_force"]["cooldown_days"]) == ("proposed", 30)
    waits = farm.plant.controller.status(MODEL)["attention"]
    assert "days of cooldown went from 30 down to 1" in waits[0]
    farm.plant.controller.approve_rules(MODEL, who="bob", reason="agreed with ann", by=BOB)
    assert farm.told["section"]["cooldown_days"] == 1
    assert farm.say({}, may_loosen=False)["standing"] == "set"
    assert farm.told["section"] is None
    assert farm.say(AUTO, may_loosen=False)["standing"] == "proposed"
    with pytest.raises(InvalidInput, match="retrain: when"):
        farm.say({"when": ["feature_drift"]})
