"""Rollouts end to end over HTTP: gate, promote, canary, rollback, undo; and what is refused."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

import pytest

from proa.embedded.workloads import WorkloadFiles
from proa.errors import Conflict, Forbidden, NotFound, Refused, Unauthenticated
from proa.fleet import Fleet
from proa.ledger.journal import Journal
from proa.ledger.keys import KeyStore
from tests.processes import wait_until
from tests.services.controller.platform import SmallPlatform

# Margins that a few units can show; the truth table of the rule itself is tested without processes.
WIDE = {"error_margin": 0.7, "latency_ratio": 50, "distribution_margin": 1.0}


def actions(small: SmallPlatform, name: str) -> list[str]:
    return [line["action"] for line in small.fleet.history(name)]


class Users:
    """Threads that call until told to stop; every answer is counted."""

    def __init__(self, small: SmallPlatform, name: str, count: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(small, name, number), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _live(self, small: SmallPlatform, name: str, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            answer = small.predict(name, unit=f"{number}-{turn}")
            if answer.status_code == 200:
                self.answers[answer.headers["x-proa-release"]] += 1
            else:
                self.faults.append(f"{answer.status_code} {answer.text[:120]}")


def test_a_release_without_a_verdict_is_refused_with_the_mending_command(
    small: SmallPlatform,
) -> None:
    ref = small.release("ungated")
    with pytest.raises(Refused, match="has not been judged") as caught:
        small.promote(ref)
    assert caught.value.code == "GateMissing"
    assert caught.value.hint == f"proa gate {ref.short}"
    assert actions(small, "ungated") == ["created", "refused"]


def test_a_failing_verdict_keeps_the_champion(small: SmallPlatform) -> None:
    champion = small.champion("failing")
    bad = small.release("failing", "--answer", "0.9")
    assert small.gate(bad, good=False)["value"] == "fail"
    with pytest.raises(Refused, match="verdict is fail"):
        small.promote(bad)
    assert small.fleet.status("failing")["traffic"] == {str(champion): 1.0}
    assert small.predict("failing").headers["x-proa-release"] == str(champion)


def test_the_verdict_is_recomputed_and_bound_to_its_slot(small: SmallPlatform) -> None:
    from tests.services.controller.platform import evidence

    small.champion("bound")
    ref, other = small.release("bound"), small.release("bound")
    slot = small.ask("POST", "/v1/models/bound/gate", {"release": str(ref)})
    try:
        wrong = evidence(slot, other, good=True)
        with pytest.raises(Conflict, match="candidate"):
            small.ask(
                "POST", "/v1/models/bound/verdicts", {"slot": slot["slot"], "evidence": wrong}
            )
        right = evidence(slot, ref, good=True)
        with pytest.raises(Conflict, match="no longer holds the slot"):
            small.ask("POST", "/v1/models/bound/verdicts", {"slot": "other", "evidence": right})
        with pytest.raises(Conflict, match="cannot gate"):
            small.ask("POST", "/v1/models/bound/gate", {"release": str(other)})
    finally:
        small.ask("DELETE", f"/v1/models/bound/gate/{slot['slot']}")
    assert "judged" not in actions(small, "bound")[2:]


def test_canary_promote_and_rollback_lose_no_call(small: SmallPlatform) -> None:
    first = small.champion("canary")
    second = small.release("canary", "--answer", "0.6")
    small.gate(second)
    with Users(small, "canary") as users:
        small.promote(second, steps=[20, 50], minimum_units=20, **WIDE)
        status = small.fleet.settle("canary", seconds=120)
        assert status["champion"] == str(second), status["message"]
        wait_until(lambda: users.answers[str(second)] > 50, deadline=30)
        back = small.fleet.rollback("canary", reason="test")
        before = users.answers[str(first)]
        wait_until(lambda: users.answers[str(first)] > before + 20, deadline=30)
    assert not users.faults
    assert back["champion"] == str(first)
    assert small.predict("canary").headers["x-proa-release"] == str(first)
    assert actions(small, "canary")[-2:] == ["rollback_requested", "rolled_back"]


def test_a_canary_that_errs_is_stopped(small: SmallPlatform) -> None:
    champion = small.champion("erring")
    bad = small.release("erring", "--error-ratio", "0.6")
    small.gate(bad)
    with Users(small, "erring"):
        small.promote(bad, steps=[50], minimum_units=30)
        status = small.fleet.settle("erring", seconds=120)
    assert status["champion"] == str(champion)
    assert "analysis failed: errors" in status["message"]


def test_a_canary_without_calls_ends_inconclusive(small: SmallPlatform) -> None:
    champion = small.champion("quiet")
    new = small.release("quiet")
    small.gate(new)
    small.promote(new, steps=[10], minimum_units=5, max_seconds=1)
    status = small.fleet.settle("quiet", seconds=60)
    assert status["champion"] == str(champion)
    assert actions(small, "quiet")[-1] == "aborted"


def test_a_release_that_does_not_start_is_named(small: SmallPlatform) -> None:
    small.champion("broken")
    broken = small.release("broken", "--exit", "78")
    with pytest.raises(Refused, match="does not start"):
        small.ask("POST", "/v1/models/broken/gate", {"release": str(broken)})
    assert small.fleet.status("broken")["phase"] == "idle"


def test_two_promotes_at_once_one_wins(small: SmallPlatform) -> None:
    small.champion("race")
    refs = [small.release("race") for _ in range(2)]
    for ref in refs:
        small.gate(ref)
    outcomes: list[object] = []

    def ask(number: int) -> None:
        try:
            small.promote(refs[number], steps=[10], minimum_units=1, max_seconds=1)
            outcomes.append("won")
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["busy", "won"]
    small.fleet.settle("race", seconds=60)


def test_undo_by_hand_is_followed(small: SmallPlatform) -> None:
    first = small.champion("undone")
    second = small.release("undone")
    small.gate(second)
    small.promote(second, steps=[], warm_seconds=0)
    assert small.fleet.settle("undone", seconds=60)["champion"] == str(second)
    WorkloadFiles(small.home).undo("undone")  # what kubectl rollout undo does
    wait_until(lambda: small.fleet.status("undone")["champion"] == str(first), deadline=30)
    wait_until(lambda: small.predict("undone").headers["x-proa-release"] == str(first), deadline=30)
    assert actions(small, "undone")[-1] == "undone"


@pytest.mark.parametrize("victim", ["controller", "gateway", "supervisor", "model"])
def test_kill_9_of_any_process_changes_no_end(small: SmallPlatform, victim: str) -> None:
    from proa.embedded.daemon import supervisor_pid

    name = f"killed-{victim}"
    small.champion(name)
    new = small.release(name)
    small.gate(new)
    journaled = small.fleet.history(name)
    small.promote(new, steps=[30], minimum_units=3, max_seconds=60, **WIDE)
    pid = {
        "controller": lambda: small.pid("controller"),
        "gateway": lambda: small.pid("gateway"),
        "supervisor": lambda: supervisor_pid(small.home),
        "model": lambda: small.pid(name),
    }[victim]()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    def done() -> bool:
        try:
            small.predict(name, unit=os.urandom(4).hex())
            return bool(small.fleet.status(name)["champion"] == str(new))
        except Exception:
            return False

    wait_until(done, deadline=60, what=f"the rollout to end after kill -9 of {victim}")
    lines = small.fleet.history(name)
    assert lines[: len(journaled)] == journaled
    assert [line["action"] for line in lines].count("promoted") == 2
    assert Journal(small.home.journal).verify() > 0


def test_rights_and_unknown_names(small: SmallPlatform) -> None:
    store = KeyStore(small.home.ledger)
    reader = store.create(team="t", feature="f", rights=["read"]).text
    store.close()
    ref = small.release("rights")
    with Fleet(small.fleet.endpoints, reader) as fleet:
        assert fleet.status("rights")["phase"] == "idle"
        with pytest.raises(Forbidden, match="promote"):
            fleet._controller("POST", "/v1/models/rights/promote", {"release": str(ref)})
    with Fleet(small.fleet.endpoints, "proa_unknown") as fleet, pytest.raises(Unauthenticated):
        fleet.status("rights")
    with pytest.raises(NotFound, match="nobody"):
        small.fleet.status("nobody")
    with pytest.raises(Refused, match="no previous release"):
        small.fleet.rollback("rights")
