"""Calls go to the endpoint with the fewest in flight, and no rollout costs one of them.

See `gateway_house` for what is real and what the test writes itself. The stand-in upstreams close
idle connections the moment they are told to end, as vLLM does.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.access import Cluster
from tests.cluster.gateway_house import ClusterHouse, cluster_house
from tests.cluster.load import INFER, Load
from tests.processes import Processes, Started, free_port, wait_until
from tests.services.gateway.conftest import ASSISTANT, CHAMPION

PRE_STOP = 1.0
"""Seconds between a pod's withdrawal and its SIGTERM; charts have 5."""


@pytest.fixture
def house(
    cluster: Cluster, namespace: str, processes: Processes, tmp_path: Path
) -> Iterator[ClusterHouse]:
    with cluster_house(cluster.kubeconfig, namespace, processes, tmp_path) as house:
        yield house


def seen(pod: Started) -> list[dict[str, Any]]:
    return httpx.get(f"{pod.url}/seen", trust_env=False).json()["seen"]


def furnish(house: ClusterHouse, pods: int) -> dict[tuple[str, int], Started]:
    """`m` and `python-help` with this many pods each, and a gateway that knows them."""
    house.route("m", champion=(CHAMPION, house.url_of("m"), True, 100))
    house.route("python-help", "llm", champion=(ASSISTANT, house.url_of("help"), True, 100))
    releases = {"m": CHAMPION, "help": ASSISTANT}
    running = {
        (name, number): house.pod(name, number, release)
        for name, release in releases.items()
        for number in range(pods)
    }
    house.start()
    return running


def test_idle_pods_take_turns_and_a_busy_one_is_spared(house: ClusterHouse) -> None:
    pods = furnish(house, 3)
    client = house.client("call")
    for _ in range(30):
        assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    assert [len(seen(pods["m", number])) for number in range(3)] == [10, 10, 10]
    # Six streams: two each. They stay in flight until their end, not until their beginning.
    key, orders = house.key("call").text, {"deltas": 30, "pace_ms": 100}
    with Load(house.url, key, llm="python-help", streams=6, orders=orders) as load:
        streams = lambda number: len(seen(pods["help", number]))  # noqa: E731
        wait_until(lambda: sum(streams(number) for number in range(3)) >= 6)
        assert [streams(number) for number in range(3)] == [2, 2, 2]
        # One more pod is idle: everything new goes there until it has as much to do.
        pods["help", 3] = house.pod("help", 3, ASSISTANT)
        body = {"model": "python-help", "messages": [{"role": "user", "content": "{}"}]}

        def reached() -> bool:
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            return streams(3) > 0

        wait_until(reached)
        before = streams(3)
        for _ in range(5):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert streams(3) == before + 5
    assert (load.failed, load.truncated) == (Counter(), Counter())


def test_a_pod_that_cannot_be_reached_costs_no_call(house: ClusterHouse) -> None:
    pods = furnish(house, 2)
    client = house.client("call")
    house.put_slice("m", 7, free_port())  # told to be ready, and nobody listens
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    assert {len(seen(pods["m", number])) > 0 for number in (0, 1)} == {True}
    # All gone: one error that says so, and none that hides another.
    for number in (0, 1, 7):
        house.put_slice("m", number, free_port(), ready=False, serving=False)

    def refused() -> bool:
        answer = client.post("/v2/models/m/infer", json=INFER)
        return answer.status_code == 503 and "no endpoint that is ready" in answer.text

    wait_until(refused)


def test_who_drains_serves_when_nobody_else_is_left(house: ClusterHouse) -> None:
    pods = furnish(house, 1)
    port = int(pods["m", 0].url.rpartition(":")[2])
    client = house.client("call")
    house.put_slice("m", 0, port, ready=False, serving=True, terminating=True)
    for _ in range(20):
        assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    other = house.pod("m", 1, CHAMPION)
    wait_until(lambda: client.post("/v2/models/m/infer", json=INFER).is_success and seen(other))
    before = len(seen(pods["m", 0]))
    for _ in range(20):
        assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    assert len(seen(pods["m", 0])) == before


def withdraw(house: ClusterHouse, name: str, number: int, pod: Started) -> None:
    """As Kubernetes ends a pod: out of the endpoints, preStop, SIGTERM, gone."""
    port = int(pod.url.rpartition(":")[2])
    house.put_slice(name, number, port, ready=False, serving=True, terminating=True)
    time.sleep(PRE_STOP)  # what a preStop of `sleep` does
    pod.proc.terminate()
    wait_until(lambda: pod.proc.poll() is not None, 30)
    assert pod.proc.returncode in (0, -15)
    house.delete_slice(name, number)


def test_a_rolling_update_and_a_scale_down_cost_no_call_and_no_stream(house: ClusterHouse) -> None:
    pods = furnish(house, 3)
    releases = {"m": CHAMPION, "help": ASSISTANT}
    key = house.key("call").text
    with Load(house.url, key, classic="m", llm="python-help", streams=100) as load:
        wait_until(lambda: load.answered > 100 and load.ended > 50, 30)
        for number in range(3):  # surge: a new one beside the old ones
            for name, release in releases.items():
                pods[name, number + 3] = house.pod(name, number + 3, release)
                withdraw(house, name, number, pods[name, number])
        for number in (4, 5):  # scale down to one
            for name in releases:
                withdraw(house, name, number, pods[name, number])
        rolled = load.answered
        wait_until(lambda: load.answered > rolled + 100, 30)
    print(load)
    assert (load.failed, load.truncated) == (Counter(), Counter())
    assert load.sent_per_second >= 50
    calls = json.loads(house.reader.get("/proa/v1/counts?model=m").content)["releases"]
    assert calls[CHAMPION]["calls"] == load.answered


def test_rolling_the_gateway_itself_costs_no_call_and_no_stream(house: ClusterHouse) -> None:
    """SIGTERM to a gateway under load: who is connected is asked to leave, streams end whole."""
    house.extra = ("--linger-seconds", "3", "--drain-seconds", "20")
    furnish(house, 1)
    first, key = house.proc, house.key("call").text
    assert first is not None
    with Load(house.url, key, classic="m", llm="python-help", streams=30) as load:
        wait_until(lambda: load.answered > 60 and load.ended > 10, 30)
        first.terminate()
        wait_until(lambda: not httpx.get(f"{house.url}/readyz", trust_env=False).is_success)
        told = load.answered
        wait_until(lambda: load.answered > told + 60)  # it lingers, and still takes calls
        load.stop()
    assert first.wait(30) == 0
    print(load)
    assert (load.failed, load.truncated) == (Counter(), Counter())
