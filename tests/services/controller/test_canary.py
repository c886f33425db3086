"""A canary end to end: what its status says, a step in the shadow, and a step that is held."""

from __future__ import annotations

from typing import Any

import pytest

from proa.errors import Conflict
from tests.processes import wait_until
from tests.services.controller.platform import SmallPlatform
from tests.services.controller.test_cli import proa
from tests.services.controller.test_rollout import WIDE, Users, actions


def judged(status: dict[str, Any], candidate: object) -> dict[str, Any] | None:
    """The analysis, once it has seen both sides."""
    found = status["analysis"]
    return found if found is not None and found["units"]["candidate"] > 5 else None


def test_the_status_of_a_canary_says_every_signal(small: SmallPlatform) -> None:
    champion = small.champion("signals")
    new = small.release("signals")
    small.gate(new)
    with Users(small, "signals") as users:
        wait_until(lambda: users.answers[str(champion)] > 30, deadline=60)
        small.promote(new, steps=[50], minimum_units=100_000)
        found = wait_until(
            lambda: judged(small.fleet.status("signals"), new), deadline=60, every=0.1
        )
        assert found["value"] == "inconclusive"
        assert found["units"]["baseline"] > 30  # the champion, before the rollout
        signals = {signal["signal"]: signal for signal in found["signals"]}
        assert list(signals) == ["errors", "latency_p95_ms", "rejected", "predictions"]
        assert signals["errors"]["baseline"] == signals["errors"]["candidate"] == 0.0
        assert signals["latency_p95_ms"]["champion"] > 0
        table = proa(small.home.root, "status", "signals").stdout
        assert "latency_p95_ms" in table
        assert "analysis: inconclusive" in table
        small.fleet.abort("signals", reason="seen enough")
    assert small.fleet.settle("signals", seconds=60)["champion"] == str(champion)
    assert small.fleet.status("signals")["analysis"] is None


def test_an_inconclusive_step_is_held_until_a_person_decides(small: SmallPlatform) -> None:
    champion = small.champion("holding")
    new = small.release("holding")
    small.gate(new)
    small.promote(new, steps=[10], max_seconds=1, on_inconclusive="hold")
    wait_until(lambda: "held" in actions(small, "holding"), deadline=60)
    status = small.fleet.status("holding")
    assert (status["phase"], status["weight"]) == ("canary", 10)
    assert status["message"].startswith("held at 10 % until more is seen (proa abort holding")
    small.fleet.abort("holding", reason="no traffic today")
    assert small.fleet.settle("holding", seconds=60)["champion"] == str(champion)
    assert actions(small, "holding")[-1] == "aborted"


def test_traffic_ends_a_held_step(small: SmallPlatform) -> None:
    small.champion("late")
    new = small.release("late")
    small.gate(new)
    small.promote(new, steps=[50], max_seconds=1, minimum_units=10, on_inconclusive="hold", **WIDE)
    wait_until(lambda: "held" in actions(small, "late"), deadline=60)
    with Users(small, "late"):
        assert small.fleet.settle("late", seconds=120)["champion"] == str(new)


@pytest.mark.parametrize(("answer", "passes"), [("0.5", True), ("0.9", False)])
def test_a_step_in_the_shadow_comes_first(small: SmallPlatform, answer: str, passes: bool) -> None:
    name = "shadow-good" if passes else "shadow-odd"
    champion = small.champion(name)
    new = small.release(name, "--answer", answer)
    small.gate(new)
    with Users(small, name) as users:
        near = {**WIDE, "distribution_margin": 0.1}
        small.promote(new, steps=[50], shadow=150, minimum_units=10, **near)
        wait_until(lambda: small.fleet.status(name)["analysis"], deadline=60, every=0.1)
        assert small.fleet.status(name)["weight"] == 0
        if passes:
            status = small.fleet.settle(name, seconds=200)
            assert status["champion"] == str(new), status["message"]
        else:
            wait_until(lambda: "predictions" in small.fleet.status(name)["message"], deadline=120)
            assert users.answers[str(new)] == 0  # nobody was served by it
    assert not users.faults
    lines = [line for line in small.fleet.history(name) if line["action"].startswith("step")]
    said = [line["reason"] for line in lines]
    assert said[0] == "weight 0 % in force"
    if passes:
        assert "100.0% of" in said[1]
        assert said[1].startswith("shadow: ")
        assert said[2] == "weight 50 % in force"
        return
    if small.fleet.status(name)["phase"] == "canary":
        small.fleet.abort(name, reason="it decides otherwise")
    with pytest.raises(Conflict):
        small.fleet.abort(name)
    assert small.fleet.status(name)["champion"] == str(champion)
