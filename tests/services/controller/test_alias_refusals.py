"""A request by alias meets the same rules, and its refusal is told once; controller in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.errors import Refused
from proa.release.registry import CHALLENGER
from proa.rollout.people import By
from tests.services.controller.plant import MODEL, Plant, stock


@pytest.fixture
def plant() -> Iterator[Plant]:
    found = Plant()
    yield found
    found.close()


def refused(plant: Plant) -> list[dict[str, str]]:
    return [
        line.details | {"who": line.who}
        for line in plant.journal.lines(MODEL)
        if line.action == "refused"
    ]


def look(plant: Plant, times: int = 3) -> None:
    for _ in range(times):
        plant.turn()
        plant.look()


def test_a_refused_alias_is_journaled_once_with_the_mending_command(plant: Plant) -> None:
    ref = stock()[2]
    plant.registry.set_alias(ref, CHALLENGER)
    look(plant)
    found = refused(plant)
    assert len(found) == 1
    assert found[0]["hint"] == f"proa gate {ref.short}"
    assert found[0]["who"] == "mlflow alias challenger"
    status = plant.controller.status(MODEL)
    assert status["refused"]["hint"] == f"proa gate {ref.short}"
    assert status["message"].startswith(f"refused {ref.short}: ")
    plant.registry.set_alias(stock()[3], CHALLENGER)
    look(plant)
    assert len(refused(plant)) == 2


def test_a_revoked_release_does_not_come_back_by_alias(plant: Plant) -> None:
    ref = stock()[2]
    plant.controller.revoke(
        MODEL, ref.digest, who="ann", reason="it leaks training data", by=By("k", "ann")
    )
    plant.registry.set_alias(ref, CHALLENGER)
    look(plant)
    assert [item["code"] for item in refused(plant)] == ["Revoked"]
    assert plant.controller.status(MODEL)["phase"] == "idle"
    with pytest.raises(Refused, match="was revoked by ann"):
        plant.controller.take_slot(ref)


def test_revocations_and_rules_outlive_the_process(plant: Plant) -> None:
    ref, by = stock()[2], By("k", "ann")
    plant.controller.revoke(MODEL, ref.digest, who="ann", reason="it leaks data", by=by)
    section = {"approval": True, "steps": [5]}
    plant.controller.take_rules(MODEL, section, who="ann", by=by, may_loosen=False)
    plant.restart()
    assert [item["release"] for item in plant.controller.revoked()] == [str(ref)]
    assert plant.controller.status(MODEL)["rules"] == section
    plan = plant.controller.plan(ref)
    assert [item["code"] for item in plan["refusals"]] == [
        "Revoked", "GateMissing", "ApprovalMissing",
    ]  # fmt: skip
    told = plant.controller.take_rules(MODEL, {}, who="x", by=By("z", "x"), may_loosen=False)
    assert (told["standing"], told["in_force"]) == ("proposed", section)


def test_turns_and_status_go_on_while_the_journal_cannot_be_read(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(plant.journal._journal, "lines", unreadable)
    look(plant)
    assert plant.controller.status(MODEL)["phase"] == "idle"
