"""Several controllers, and one that dies: one leads, nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from proa.cluster.api import connect
from proa.cluster.lease import Election
from proa.errors import ProaError
from proa.release.reference import ReleaseRef
from tests.cluster.access import Cluster
from tests.cluster.load import Load
from tests.cluster.rollout_house import RolloutHouse, rollout_house
from tests.processes import Started, wait_until


@pytest.fixture
def house(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[RolloutHouse]:
    with rollout_house(cluster, namespace, tmp_path) as it:
        yield it


def about(house: RolloutHouse, controller: Started) -> dict[str, object]:
    headers = {"authorization": f"Bearer {house.key}"}
    url = f"{controller.url}/v1/platform"
    return dict(httpx.get(url, headers=headers, trust_env=False, timeout=20).json())


def metric(controller: Started, name: str) -> float | None:
    text = httpx.get(f"{controller.url}/metrics", trust_env=False, timeout=20).text
    lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[-1]) if lines else None


def test_one_leads_the_other_waits_and_takes_over(house: RolloutHouse) -> None:
    house.install("m", replicas=1)
    ref = house.champion("m")
    first = house.controllers[0]
    second = house.start_controller(name="controller-b")
    assert about(house, second)["leader"] == "controller-a"
    assert (about(house, first)["leading"], about(house, second)["leading"]) == (True, False)
    assert metric(first, "proa_controller_leader") == 1
    assert metric(second, "proa_controller_leader") == 0
    generation = metric(first, "proa_controller_routes_generation")
    assert generation == metric(second, "proa_controller_routes_generation")
    headers = {"authorization": f"Bearer {house.key}"}
    status = httpx.get(f"{second.url}/v1/models/m", headers=headers, trust_env=False).json()
    assert status["champion"] == str(ref), "reads are answered by every one"
    written = httpx.post(
        f"{second.url}/v1/models/m/rollback", json={}, headers=headers, trust_env=False
    )
    assert (written.status_code, written.json()["error"]["code"]) == (503, "not_leader")
    assert written.headers["connection"] == "close"
    # It dies without a word: the other one waits until the lease has run out.
    house.processes.kill(first.proc)
    wait_until(lambda: about(house, second)["leading"], 120, every=0.3)
    answer = httpx.post(
        f"{second.url}/v1/models/m/pause", json={}, headers=headers, trust_env=False
    )
    assert answer.status_code == 409, "it acts now: there is no canary to pause"


def test_who_cannot_renew_stops_before_another_may_start(cluster: Cluster, namespace: str) -> None:
    """The clocks are the test's: at no moment do both lead."""
    now = [0.0]
    api = connect(cluster.kubeconfig)

    def candidate(name: str) -> Election:
        return Election(api, namespace, "lease", name, clock=lambda: now[0])

    one, other = candidate("one"), candidate("other")
    assert one.attempt()
    assert not other.attempt()
    assert other.holder == "one"
    led = []
    for _ in range(20):  # `one` is cut off from the API: it never renews
        now[0] += 1
        led.append((one.leading, other.attempt()))
    assert (True, True) not in led
    assert led[8] == (True, False)
    assert led[10] == (False, False), "it stopped, and nobody leads yet"
    assert led[-1] == (False, True)
    assert not one.attempt()
    other.stop()
    assert one.attempt(), "a lease that was given back is free at once"


def test_a_frozen_leader_that_wakes_up_writes_nothing(house: RolloutHouse) -> None:
    house.install("m", replicas=1)
    one = house.champion("m")
    two = house.release("m")
    house.gate(two)
    first = house.controllers[0]
    second = house.start_controller(name="controller-b")
    os.kill(first.proc.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: about(house, second)["leading"], 120, every=0.3)
        headers = {"authorization": f"Bearer {house.key}"}
        body = {"release": str(two), "reason": "test", "policy": {"steps": []}}
        url = f"{second.url}/v1/models/m/promote"
        assert httpx.post(url, json=body, headers=headers, trust_env=False).status_code == 202
    finally:
        os.kill(first.proc.pid, signal.SIGCONT)
    wait_until(lambda: house.running("m") == str(two), 60, every=0.2)
    house.settled("m", two)
    assert not about(house, first)["leading"]
    assert house.actions("m").count("promoted") == 2
    assert str(one) != house.running("m")


def test_killed_at_every_write_forth_and_back(house: RolloutHouse) -> None:
    """The real controller, which ends by SIGKILL once after each kind of write it makes."""
    house.install("m")
    one = house.champion("m")
    two = house.release("m")
    house.gate(two)
    told = house.home / "mortal.json"
    told.write_text(json.dumps({"model": "m", "died": []}))
    nurse = Nurse(house, told)
    with Load(house.gateway.url, house.key, classic="m", rate=20) as load:
        nurse.until_champion(two, lambda: house.promote(two, steps=[]))
        nurse.until_champion(one, lambda: house.ask("POST", "/v1/models/m/rollback", {}))
    died = json.loads(told.read_text())["died"]
    assert len(died) >= 8, died
    wanted = ["requested", "promoted", "requested", "promoted", "rollback_requested", "rolled_back"]
    assert [action for action in house.actions("m") if action in set(wanted)] == wanted
    assert house.ask("GET", "/v1/journal/verify")["lines"] > 0
    assert load.failed == Counter()


class Nurse:
    """Starts the controller of the same pod again whenever it is dead."""

    def __init__(self, house: RolloutHouse, told: Path) -> None:
        self.house = house
        old = house.controllers[-1]
        self.argv = [*old.proc.args]
        self.argv[self.argv.index("proa_controller")] = "tests.standins.mortal_cluster_controller"
        self.env = {**house.env, "POD_NAME": "controller-a", "MORTAL": str(told)}
        house.processes.stop(old.proc)
        self.proc: Started | None = None

    def until_champion(self, ref: ReleaseRef, ask: Callable[[], object]) -> None:
        """Ask, and ask again when nothing came of it, until the release is champion."""
        house = self.house

        def there() -> bool:
            if self.proc is None or self.proc.proc.poll() is not None:
                port = int(house.controllers[0].url.rpartition(":")[2])
                self.proc = house.processes.start(self.argv, self.env, port=port, ready=None)
                house.controllers.append(self.proc)
            try:
                status = house.status("m")
                rests = status["phase"] == "idle" and house.running("m") == status["champion"]
                if rests and status["champion"] != str(ref):
                    ask()
                return bool(rests and status["champion"] == str(ref) and status["routed"])
            except (ProaError, httpx.HTTPError):
                return False

        wait_until(there, 420, what=f"{ref.short} is champion", every=0.2)
