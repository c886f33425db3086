"""Hands in the works at every step of a rollout: an undo, aliases moved in the registry, versions
deleted and created again, tags edited, the registry down, the clock set.

Faked: see plant.py; test_aliases.py and test_registry_hands.py do the same in a real MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.errors import Refused
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, CHAMPION
from proa.rollout.machine import SLOT_SECONDS
from tests.services.controller.plant import MODEL, UNSURE, Plant, remembering, stock

STEPS = 16
"""More turns than a canary of two steps and a warm rollback take."""


@pytest.fixture(autouse=True)
def _judge() -> Iterator[None]:
    with remembering():
        yield


@pytest.fixture
def plant() -> Iterator[Plant]:
    plant = two_served()
    yield plant
    plant.check_journal()
    assert plant.failed_calls == []
    plant.close()


def two_served() -> Plant:
    """Release 1 served, release 2 is champion, release 3 has passed against it."""
    plant = Plant()
    plant.first()
    plant.judge(stock()[2])
    plant.promote(stock()[2], steps=[], warm_seconds=0)
    plant.settle()
    plant.judge(stock()[3])
    return plant


def begun(way: str, turns: int) -> Plant:
    """A platform some turns into a canary of 3, or into the rollback after it."""
    plant = two_served()
    plant.promote(stock()[3])
    if way == "back":
        plant.settle()
        plant.rollback()
    for _ in range(turns):
        plant.turn()
        plant.look()
    return plant


def refusals(plant: Plant) -> list[str]:
    return [line.details["code"] for line in plant.lines() if line.action == "refused"]


# ---- a human's undo ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["forth", "back"])
def test_an_undo_wins_at_every_step_and_holds_what_was_asked_for(way: str) -> None:
    phases = set()
    for step in range(STEPS):
        plant = begun(way, step)
        phases.add(plant.state.phase)
        plant.registry.aliases[CHALLENGER] = 4  # asked for just before the undo, seen after it
        plant.sheds.undo(MODEL)  # kubectl rollout undo
        chosen = plant.sheds.shed(MODEL).template
        plant.settle()
        assert plant.state.champion == chosen, step
        assert plant.reported == chosen.version
        assert plant.actions().count("undone") == 1
        assert refusals(plant) == ["HeldByUndo"]
        plant.run(5)
        assert plant.state.champion == chosen
        assert plant.failed_calls == []
        plant.check_journal()
        plant.close()
    assert phases >= ({"canary", "promoting"} if way == "forth" else {"returning", "idle"})


def test_the_clis_undo_is_followed_and_names_who_asked(plant: Plant) -> None:
    plant.controller.undo(MODEL, who="bob", reason="I say so")
    plant.settle()
    assert plant.state.champion == stock()[1]
    told = [(line.action, line.who) for line in plant.lines()][-2:]
    assert told == [("undo_requested", "bob"), ("undone", "kubectl")]


def test_an_undo_that_no_turn_has_seen_yet_wins_over_a_promotion(plant: Plant) -> None:
    """The verdict is about the champion of a moment ago."""
    plant.sheds.undo(MODEL)
    with pytest.raises(Refused, match="another champion"):
        plant.promote(stock()[3], steps=[])
    plant.settle()
    assert plant.state.champion == stock()[1]
    assert plant.actions()[-2:] == ["undone", "refused"]


def test_a_request_after_an_undo_is_a_request_again(plant: Plant) -> None:
    plant.sheds.undo(MODEL)
    plant.settle()
    plant.judge(stock()[4])
    plant.registry.aliases[CHALLENGER] = 4
    plant.settle()
    assert plant.state.champion == stock()[4]


@pytest.mark.parametrize("back", ["undo", "rollback"])
def test_what_was_promoted_and_taken_back_does_not_come_again_by_its_alias(
    plant: Plant, back: str
) -> None:
    """`proa promote` points `challenger` at what it promotes, and there it stays."""
    plant.promote(stock()[3], steps=[])
    plant.registry.aliases[CHALLENGER] = 3
    plant.settle()
    assert plant.state.champion == stock()[3]
    if back == "undo":
        plant.sheds.undo(MODEL)
    else:
        plant.rollback()
    plant.settle()
    plant.run(10)
    assert plant.state.champion == stock()[2]
    assert plant.actions()[-1] == {"undo": "undone", "rollback": "rolled_back"}[back]


def test_a_stopped_canary_does_not_begin_again_by_its_alias(plant: Plant) -> None:
    plant.registry.aliases[CHALLENGER] = 3
    plant.run(5, until=lambda: plant.state.phase == "canary")
    plant.controller.abort(MODEL, who="ann", reason="seen enough")
    plant.settle()
    plant.run(10)
    assert plant.actions().count("requested") == 3
    plant.registry.aliases.pop(CHALLENGER)  # taken away and set again, it is a request again
    plant.run(2)
    plant.registry.aliases[CHALLENGER] = 3
    plant.settle()
    assert plant.state.champion == stock()[3]


# ---- aliases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", [CHALLENGER, CHAMPION])
@pytest.mark.parametrize("target", ["older", "newer", "removed", "deleted"])
@pytest.mark.parametrize("way", ["forth", "back"])
def test_an_alias_moved_by_hand_at_every_step_moves_nothing_that_was_not_admitted(
    alias: str, target: str, way: str
) -> None:
    end = stock()[3 if way == "forth" else 2]
    for step in range(0, STEPS, 3):
        plant = begun(way, step)
        aliases = plant.registry.aliases
        if target in ("older", "newer"):
            aliases[alias] = {"older": 1, "newer": 4}[target]
        elif target == "removed":
            aliases.pop(alias, None)
        else:
            plant.registry.delete(aliases.get(alias, end.version))
        plant.settle()
        plant.run(10)
        assert plant.state.champion == end, step
        if end.version in plant.registry.tags:
            assert plant.reported == end.version
        else:
            assert plant.reported is None
            assert "has no such release" in plant.controller.status(MODEL)["registry"]
        assert refusals(plant) in ([], ["GateStale"], ["GateMissing"], ["HeldByUndo"]), step
        if target in ("removed", "deleted"):
            assert refusals(plant) == []
        assert plant.failed_calls == []
        plant.check_journal()
        plant.close()


def test_an_old_report_is_not_read_as_a_wish_by_a_new_controller(plant: Plant) -> None:
    """Promoted while the registry was down, then killed: the alias still names the one before."""
    plant.run(2)
    assert plant.reported == 2
    plant.registry.down = True
    plant.promote(stock()[3], steps=[])
    plant.settle()
    plant.registry.down = False
    plant.restart()
    plant.run(5)
    assert plant.reported == 3
    assert plant.actions().count("requested") == 3
    assert refusals(plant) == []


def test_an_alias_seeds_an_empty_model_and_asks_once() -> None:
    """A workload that was lost with its state: what `champion` says is asked for, and admitted or
    refused like anything else. One that runs something is the truth."""
    plant = Plant()
    plant.registry.aliases[CHAMPION] = 2
    for _ in range(3):
        plant.look()
        plant.turn()
    assert plant.actions() == ["refused"], "it was never judged"
    plant.judge(stock()[1])
    plant.registry.aliases[CHAMPION] = 1
    plant.look()
    plant.settle()
    assert plant.state.champion == stock()[1]
    assert plant.actions() == ["refused", "requested", "promoted"]
    plant.close()


def test_what_runs_without_a_state_is_adopted_as_champion(plant: Plant) -> None:
    """The state of a model was lost (its ConfigMap goes with its Deployment); what runs is true."""
    (plant.folder / "states" / f"{MODEL}.json").unlink()
    plant.restart()
    plant.controller.adopt(MODEL, "classic", stock()[2])
    plant.controller.adopt(MODEL, "classic", stock()[1])
    plant.run(3)
    assert plant.state.champion == plant.sheds.status(MODEL).release == stock()[2]
    assert plant.actions()[-1] == "adopted"
    plant.judge(stock()[3])
    plant.promote(stock()[3], steps=[])
    plant.settle()
    assert (plant.state.champion, plant.state.previous) == (stock()[3], stock()[2])


@pytest.mark.parametrize("way", ["forth", "back"])
def test_the_registry_is_down_for_the_whole_rollout(plant: Plant, way: str) -> None:
    plant.run(2)
    plant.registry.down = True
    plant.promote(stock()[3])
    plant.settle()
    if way == "back":
        plant.rollback()
        plant.settle()
    end = stock()[3 if way == "forth" else 2]
    assert plant.state.champion == end
    assert "did not answer" in plant.controller.status(MODEL)["registry"]
    assert plant.reported == 2
    plant.registry.down = False
    plant.run(3)
    assert plant.reported == end.version
    assert plant.controller.status(MODEL)["registry"] is None


# ---- numbers that mean something else -----------------------------------------------------------


def test_a_model_created_again_counts_from_1_and_nothing_is_taken_for_something_else(
    plant: Plant,
) -> None:
    registry = plant.registry
    registry.tags, registry.aliases = {1: stock()[4].digest, 2: stock()[5].digest}, {}
    plant.run(5)
    assert plant.reported is None, "m/2 in the registry is another release than the champion m/2"
    assert stock()[5].digest in plant.controller.status(MODEL)["registry"]
    again = ReleaseRef(MODEL, 1, stock()[4].digest)
    registry.aliases[CHALLENGER] = 1
    plant.run(5)
    assert refusals(plant) == ["ReleaseUnknown"]
    plant.controller.announce(again, "test", "")
    plant.judge(again)
    registry.aliases.pop(CHALLENGER)
    plant.run(2)
    registry.aliases[CHALLENGER] = 1
    plant.settle()
    assert plant.state.champion == again
    assert plant.reported == 1
    assert plant.controller.status(MODEL)["registry"] is None
    plant.rollback()
    plant.settle()
    assert plant.state.champion == stock()[2]
    assert plant.reported is None


@pytest.mark.parametrize("alias", [CHALLENGER, CHAMPION])
def test_a_tag_edited_by_hand_is_no_release(plant: Plant, alias: str) -> None:
    """m/4 says it is the release that passed as m/3."""
    plant.run(2)
    plant.registry.tags[4] = stock()[3].digest
    plant.registry.aliases[alias] = 4
    plant.run(5)
    assert plant.state.champion == stock()[2]
    assert refusals(plant) == ["ReleaseUnknown"]
    assert plant.reported == 2
    plant.registry.tags[2] = None  # the champion's own tag is gone
    plant.run(5)
    assert plant.state.champion == stock()[2]
    assert "has no such release" in plant.controller.status(MODEL)["registry"]
    assert refusals(plant) == ["ReleaseUnknown"]


def test_a_number_is_held_by_its_digest(plant: Plant) -> None:
    """m/4 was refused; the m/4 of a model created again is another request."""
    plant.registry.aliases[CHALLENGER] = 4
    plant.run(3)
    assert refusals(plant) == ["GateMissing"]
    other = ReleaseRef(MODEL, 4, stock()[5].digest)
    plant.registry.tags[4] = other.digest
    plant.controller.announce(other, "test", "")
    plant.judge(other)
    plant.settle()
    plant.run(10)
    assert plant.state.champion == other


# ---- a champion that changed ------------------------------------------------------------------


def test_a_verdict_against_yesterdays_champion_is_refused_with_the_mending_command(
    plant: Plant,
) -> None:
    plant.judge(stock()[4])
    plant.promote(stock()[3], steps=[])
    plant.settle()
    with pytest.raises(Refused, match="another champion") as caught:
        plant.promote(stock()[4])
    assert (caught.value.code, caught.value.hint) == ("GateStale", "proa gate m/4")
    assert plant.state.champion == stock()[3]


# ---- the clock --------------------------------------------------------------------------------

JUMPS = [(0.0,), (-5.0,), (5.0,), (3.0, -8.0, 5.0)]


@pytest.mark.parametrize("jumps", JUMPS, ids=str)
def test_a_gates_slot_lasts_as_long_as_it_should(plant: Plant, jumps: tuple[float, ...]) -> None:
    slot = plant.controller.take_slot(stock()[4])
    waited = 0.0
    while plant.state.slot == slot.id:
        if waited < 10 * len(jumps):
            plant.clock.set(jumps[int(waited // 10)])
        plant.turn(10.0)
        waited += 10
    assert abs(waited - SLOT_SECONDS) <= 20
    assert plant.actions()[-1] == "slot_freed"


@pytest.mark.parametrize("jumps", JUMPS, ids=str)
def test_an_inconclusive_step_ends_when_it_should(plant: Plant, jumps: tuple[float, ...]) -> None:
    plant.analysis = UNSURE
    plant.promote(stock()[3], max_seconds=300)
    plant.run(10, until=lambda: plant.state.step_since is not None)
    waited = 0.0
    while plant.state.phase == "canary":
        if waited < 10 * len(jumps):
            plant.clock.set(jumps[int(waited // 10)])
        plant.turn(10.0)
        waited += 10
    # Set back, the step begins anew once, since the gateways count by that clock.
    assert 290 <= waited <= 350
    assert plant.lines()[-1].action == "aborted"  # in the order of what happened, not of times


@pytest.mark.parametrize("jumps", JUMPS, ids=str)
def test_a_warm_release_stays_as_long_as_it_should(plant: Plant, jumps: tuple[float, ...]) -> None:
    plant.promote(stock()[3], steps=[], warm_seconds=300)
    plant.settle()
    waited = 0.0
    while plant.state.warm_until is not None:
        if waited < 10 * len(jumps):
            plant.clock.set(jumps[int(waited // 10)])
        plant.turn(10.0)
        waited += 10
    assert 270 <= waited <= 320
