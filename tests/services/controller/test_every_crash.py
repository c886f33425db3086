"""`kill -9` of the controller at every single write of a rollout, forth and back.

Faked: see plant.py; test_killed.py does the same to real processes at the points that matter most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from proa.embedded.status import Status
from proa.errors import ProaError
from proa.release.reference import ReleaseRef
from proa.rollout.state import desired
from proa_controller.embedded import ProcessWorkloads
from tests.services.controller.plant import FAIL, MODEL, Plant, remembering, stock


@pytest.fixture(autouse=True)
def _judge() -> Iterator[None]:
    with remembering():
        yield


@dataclass(frozen=True)
class End:
    """Where a story ended, as people see it."""

    champion: ReleaseRef | None
    previous: ReleaseRef | None
    serving: ReleaseRef | None
    slot: ReleaseRef | None
    actions: tuple[str, ...]
    reported: int | None

    @classmethod
    def of(cls, plant: Plant) -> End:
        state = plant.state
        return cls(
            champion=state.champion,
            previous=state.previous,
            serving=plant.sheds.status(MODEL).release,
            slot=desired(state).challenger,
            actions=tuple(plant.actions()),
            reported=plant.reported,
        )


def wish(plant: Plant, act: Callable[[], object], done: Callable[[], bool]) -> None:
    """What a person does: ask, and ask again when the answer never came and nothing happened."""
    plant.guarded(act)
    if not done():
        act()


def promoted(plant: Plant, number: int, **policy: object) -> None:
    ref = stock()[number]

    def under_way() -> bool:
        return ref in (plant.state.candidate, plant.state.applied)

    wish(plant, lambda: plant.promote(ref, **policy), under_way)
    plant.settle()


def rolled_back(plant: Plant) -> None:
    target = plant.state.previous

    def under_way() -> bool:
        return plant.state.applied == target

    wish(plant, plant.rollback, under_way)
    plant.settle()


def canary_and_warm_rollback(plant: Plant) -> None:
    promoted(plant, 2)
    rolled_back(plant)


def update_and_cold_rollback(plant: Plant) -> None:
    promoted(plant, 2, steps=[], warm_seconds=0)
    rolled_back(plant)


def failing_canary(plant: Plant) -> None:
    plant.analysis = FAIL
    promoted(plant, 2)


def release_that_never_starts(plant: Plant) -> None:
    plant.sheds.broken.add(str(stock()[2]))
    promoted(plant, 2, steps=[])


def release_that_cannot_be_built(plant: Plant) -> None:
    plant.launcher.refused.add(str(stock()[2]))
    promoted(plant, 2, steps=[])


def told(story: Callable[[Plant], None], crash_at: int | None = None) -> Plant:
    plant = Plant()
    plant.first()
    plant.judge(stock()[2])
    plant.points.passed.clear()
    plant.points.at = crash_at
    story(plant)
    return plant


STORIES = {
    canary_and_warm_rollback: (
        *("requested", "promoted", "requested", "step", "step_passed", "step", "step_passed"),
        *("promoted", "rollback_requested", "rolled_back"),
    ),
    update_and_cold_rollback: (
        *("requested", "promoted", "requested", "promoted", "rollback_requested", "rolled_back"),
    ),
    failing_canary: ("requested", "promoted", "requested", "step", "aborted"),
    release_that_never_starts: ("requested", "promoted", "requested", "aborted"),
    release_that_cannot_be_built: ("requested", "promoted", "requested", "aborted"),
}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_kill_at_any_write_changes_no_end(story: Callable[[Plant], None]) -> None:
    undisturbed = told(story)
    end, points = End.of(undisturbed), list(undisturbed.points.passed)
    assert end.actions == STORIES[story]
    assert end.champion == end.serving == stock()[1]
    assert end.reported == 1
    undisturbed.close()
    for number, label in enumerate(points):
        plant = told(story, number)
        assert plant.crashes == 1, label
        assert End.of(plant) == end, f"killed {label} ({number} of {len(points)})"
        assert plant.failed_calls == [], f"killed {label} ({number} of {len(points)})"
        plant.check_journal()
        plant.close()


def test_what_a_kill_prevented_is_not_in_the_journal_and_hides_nothing_after_it() -> None:
    """The person asks for something else after the restart: that is what the journal tells."""
    for point in range(4):
        plant = told(lambda plant: plant.judge(stock()[3]))
        plant.points.at = len(plant.points.passed) + point
        plant.guarded(lambda plant=plant: plant.promote(stock()[2], steps=[]))
        plant.points.at = None
        asked = [] if plant.state.phase == "idle" else [stock()[2]]
        if not asked:
            plant.promote(stock()[3], steps=[])
            asked = [stock()[3]]
        plant.settle()
        told_of = [line for line in plant.lines() if line.action in ("requested", "promoted")][2:]
        assert [line.release for line in told_of] == [str(asked[0])] * 2, point
        assert plant.state.champion == asked[0]
        plant.check_journal()
        plant.close()


def test_a_journal_that_cannot_be_written_stops_no_rollback_and_loses_no_line() -> None:
    plant = told(lambda plant: promoted(plant, 2))
    plant.journal.down = True
    plant.rollback()
    plant.settle()
    assert plant.state.champion == stock()[1]
    assert "rolled_back" not in plant.actions()
    plant.restart()  # the lines outlive the process
    plant.turn()
    assert plant.actions()[-2:] == ["rollback_requested", "rolled_back"]
    assert plant.failed_calls == []
    plant.check_journal()


def test_one_model_in_trouble_stops_no_other_and_keeps_its_routes() -> None:
    plant = told(lambda plant: None)
    other = plant.folder / "states" / "aaa.json"
    other.write_text("{half a state")
    plant.gateway_reads()
    before = plant.loaded["models"][MODEL]
    promoted(plant, 2)
    assert plant.state.champion == stock()[2]
    (plant.folder / "states" / f"{MODEL}.json").write_text("{")
    plant.turn()
    plant.turn()
    assert plant.loaded["models"][MODEL]["tracks"]["champion"]["ready"]
    assert plant.loaded["models"][MODEL] != before
    assert plant.failed_calls == []


def test_what_was_in_the_slot_before_never_gets_the_weight_of_what_comes() -> None:
    """A release that failed its exam is still running when the next canary begins."""
    plant = told(lambda plant: None)
    bad, good = stock()[3], stock()[2]
    slot = plant.controller.take_slot(bad)
    for _ in range(3):
        plant.turn()
    assert plant.sheds.status(f"{MODEL}-challenger").release == bad
    plant.controller.release_slot(MODEL, slot.id)
    plant.promote(good)
    while plant.state.champion != good:
        plant.turn()
        for track in plant.loaded["models"][MODEL]["tracks"].values():
            assert track["weight"] == 0 or track["release"] != str(bad)
    assert plant.failed_calls == []


def test_a_refusal_to_run_is_forgotten_when_a_person_asks_again() -> None:
    plant = told(release_that_cannot_be_built)
    plant.launcher.refused.clear()
    promoted(plant, 2, steps=[])
    assert plant.state.champion == stock()[2]


def test_a_stale_failure_of_the_slot_is_not_the_next_candidates() -> None:
    plant = told(lambda plant: None)
    bad = stock()[3]
    plant.sheds.broken.add(str(bad))
    plant.judge(bad)
    promoted(plant, 3)
    assert plant.state.champion == stock()[1]
    promoted(plant, 2)
    assert plant.state.champion == stock()[2]


def test_a_person_who_changes_the_template_while_it_is_written_wins() -> None:
    """Between the controller's look and its write."""
    plant = told(lambda plant: promoted(plant, 2, steps=[], warm_seconds=0))
    plant.judge(stock()[3])
    plant.promote(stock()[3], steps=[])
    apply = plant.sheds.apply

    def late(name: str, template: ReleaseRef, *, after: int, **_: object) -> int:
        plant.sheds.apply = apply
        plant.sheds.undo(name)
        return apply(name, template, after=after)

    plant.sheds.apply = late
    plant.settle()
    assert plant.state.champion == stock()[1]
    assert plant.actions()[-1] == "undone"


def test_who_asks_twice_is_told_what_is_under_way() -> None:
    plant = told(lambda plant: None)
    plant.promote(stock()[2])
    with pytest.raises(ProaError, match="is canary with m/2"):
        plant.promote(stock()[2])


def test_what_the_supervisor_says_of_an_older_template_is_not_this_ones_failure() -> None:
    told = Status(
        name="m",
        desired_generation=2,
        desired_release=str(stock()[2]),
        replicas=1,
        generation=1,
        observed_generation=1,
        release=str(stock()[1]),
        url="http://127.0.0.1:1",
        ready=True,
        pid=1,
        started_at=0.0,
        restarts=3,
        failed="generation 1 ended 3 times in a row",
        updating=False,
        draining=0,
        history=(),
    )
    for status, failed in (
        (told, None),
        (replace(told, observed_generation=2, updating=True), None),
        (replace(told, observed_generation=2), told.failed),
    ):
        files = SimpleNamespace(status=lambda name, status=status: status)
        assert ProcessWorkloads(files).status("m").failed == failed
