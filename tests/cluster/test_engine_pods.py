"""The chart vllm on a real kubelet: starts, rollouts on one GPU, an engine that hangs.

The engine is the stand-in of tests/standins, told by its environment what to do wrong; the GPU is
an extended resource of a name of our own, of which the node is said to have one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.charts import render
from tests.cluster.access import Cluster
from tests.cluster.installing import install
from tests.cluster.report import Report
from tests.processes import answers

NAME = "tiny"
KEY = "engine-key-of-a-test"
GPU = "proa.dev/test-gpu"
START_SECONDS = 2.0
"""About what the stand-in needs to start when nothing slows it."""


@pytest.fixture(scope="module")
def image(images_of: Callable[..., dict[str, str]]) -> str:
    return images_of("gateway", "engine")["engine"]


def values(image: str, *more: Mapping[str, Any], **standin: float) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    found: dict[str, Any] = {
        "device": "cpu",
        "model": {"name": NAME, "revision": "0" * 40, "source": {"claim": "weights"}},
        "image": {"repository": repository, "tag": tag},
        "engine": {"command": ["python3", "/app/engine.py"], "maxModelLen": 4096},
        "resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "startup": {"timeoutSeconds": 60},
        "drain": {"lingerSeconds": 5, "timeoutSeconds": 5},
        "extraEnv": [
            {"name": f"STANDIN_{name.upper()}", "value": str(value)}
            for name, value in standin.items()
        ],
    }
    for values in more:
        found = render.over(found, values)
    return found


@pytest.fixture
def prepared(cluster: Cluster, namespace: str) -> str:
    """A namespace with what the chart does not make: weights and the engine's key."""
    prepare(cluster, namespace)
    return namespace


def prepare(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        namespace,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "weights"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Mi"}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "proa-engine-key"},
            "stringData": {"engine.key": KEY},
        },
    )


def restarts(cluster: Cluster, namespace: str) -> int:
    pods = cluster.get(namespace, "pods", selector="app.kubernetes.io/component=engine")
    states = [state for pod in pods for state in pod["status"].get("containerStatuses", [])]
    return sum(state["restartCount"] for state in states)


@pytest.fixture(scope="module")
def past_its_budget(cluster: Cluster, image: str) -> Iterator[tuple[str, float, int]]:
    """An engine that will never be up in time; begun first, since its deadline takes minutes."""
    with cluster.namespace(prefix="late") as namespace:
        prepare(cluster, namespace)
        given = values(image, {"startup": {"timeoutSeconds": 5}}, start_seconds=3600.0)
        done = cluster.helm(
            4,
            *("install", NAME, str(render.CHARTS / "vllm"), "-n", namespace, "--values", "-"),
            given=json.dumps(given),
        )
        assert done.returncode == 0, done.stderr
        deployment = cluster.get(namespace, "deployment", NAME)
        yield namespace, time.monotonic(), deployment["spec"]["progressDeadlineSeconds"]


@pytest.mark.usefixtures("past_its_budget")
def test_a_start_ten_times_slower_is_waited_for(
    cluster: Cluster, prepared: str, image: str, report: Report
) -> None:
    slow = 10 * START_SECONDS
    begun = time.monotonic()
    install(cluster, 4, "vllm", NAME, prepared, values(image, start_seconds=slow))
    assert time.monotonic() - begun >= slow
    cluster.ready(prepared, f"deployment/{NAME}", 10)
    assert restarts(cluster, prepared) == 0
    report.add(
        "start 10 × slower", f"0 restarts, status 0 ({slow:g} s)", bar="0 restarts, status 0"
    )


@contextmanager
def one_gpu(cluster: Cluster) -> Iterator[None]:
    """The first node says that it has one GPU of our own kind."""
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    path = f"/status/capacity/{GPU.replace('/', '~1')}"

    def patch(operation: dict[str, str]) -> None:
        cluster.kubectl(
            *("patch", "node", node, "--subresource=status", "--type=json"),
            *("-p", json.dumps([{"path": path, **operation}])),
        )

    patch({"op": "add", "value": "1"})
    try:
        cluster.wait(
            lambda: (
                json.loads(cluster.kubectl("get", "node", node, "-o", "json"))["status"][
                    "allocatable"
                ].get(GPU)
                == "1"
            ),
            60,
            "the GPU can be had",
        )
        yield
    finally:
        patch({"op": "remove"})


def test_one_gpu_auto_completes_and_surge_is_refused(
    cluster: Cluster, prepared: str, image: str, report: Report
) -> None:
    gpu = {"device": "gpu", "gpu": {"resource": GPU}}
    surge = {"rollout": {"strategy": "surge"}}
    with one_gpu(cluster):
        for helm in (3, 4):
            done = cluster.helm(
                helm,
                *("install", NAME, str(render.CHARTS / "vllm"), "-n", prepared, "--values", "-"),
                given=json.dumps(values(image, gpu, surge)),
            )
            assert done.returncode != 0
            assert f"rollout.strategy: surge needs 2 free {GPU} on one node" in done.stderr
        assert not cluster.get(prepared, "deployments"), "refused before anything is made"
        install(cluster, 4, "vllm", NAME, prepared, values(image, gpu))
        first = cluster.get(prepared, "pods", selector="app.kubernetes.io/component=engine")
        again = values(image, gpu, {"podLabels": {"turn": "second"}})
        said = install(cluster, 4, "vllm", NAME, prepared, again)
        assert "Downtime: one pod and no spare GPU" in said
        cluster.ready(prepared, f"deployment/{NAME}", 60)
        pods = cluster.get(prepared, "pods", selector="turn=second")
        assert len(pods) == 1
        assert pods[0]["metadata"]["name"] != first[0]["metadata"]["name"]
        done = cluster.helm(
            4,
            *("upgrade", NAME, str(render.CHARTS / "vllm"), "-n", prepared, "--values", "-"),
            given=json.dumps(values(image, gpu, surge)),
        )
        assert done.returncode != 0
        assert f"surge needs 1 free {GPU} on one node" in done.stderr
        cluster.helm(4, "uninstall", NAME, "-n", prepared, "--wait")
    bar = "auto completes, surge refused up front"
    report.add("one fake GPU", "so, with Helm 3 and 4", bar=bar)


class Load:
    """Chats that are always under way, each some seconds long."""

    def __init__(self, url: str, identity: str, at_once: int) -> None:
        words = " ".join(f"word{number}" for number in range(100))
        self._body = {"model": identity, "messages": [{"role": "user", "content": words}]}
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=httpx.Timeout(30.0, connect=2.0),
        )
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(at_once)]
        self.answered = 0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._client.post("/v1/chat/completions", json=self._body)
                self.answered += answer.status_code == 200
            except httpx.HTTPError:
                # A frozen engine answers nobody; a restarted one refuses for a moment.
                self._stop.wait(0.2)


def test_a_saturated_engine_lives_and_a_frozen_one_is_restarted(
    cluster: Cluster, prepared: str, image: str, report: Report
) -> None:
    stall = 30
    health = {"stallSeconds": stall, "periodSeconds": 5, "timeoutSeconds": 8, "failureThreshold": 2}
    few = {"health": health, "engine": {"maxNumSeqs": 2}}
    install(cluster, 4, "vllm", NAME, prepared, values(image, few, tokens_per_second=25.0))
    identity = cluster.get(prepared, "deployment", NAME)["metadata"]["labels"]["proa.dev/engine"]
    url = cluster.address(prepared, NAME, 8000)
    # kube-proxy may be a moment behind the pod's readiness.
    cluster.wait(lambda: answers(f"{url}/health"), 60, "the Service answers")

    def metric(name: str) -> float:
        lines = httpx.get(f"{url}/metrics", timeout=5).text.splitlines()
        return sum(float(x.rpartition(" ")[2]) for x in lines if x.startswith(f"vllm:{name}{{"))

    with Load(url, identity, at_once=8) as load:
        cluster.wait(lambda: metric("num_requests_waiting") >= 4, 30, "a queue")
        full = time.monotonic() + stall + 20
        while time.monotonic() < full:
            assert metric("num_requests_waiting") >= 1, "it is saturated all the time"
            assert restarts(cluster, prepared) == 0
            time.sleep(2)
        assert load.answered > 0
        (pod,) = cluster.get(prepared, "pods", selector="app.kubernetes.io/component=engine")
        freeze = "import os, signal; os.kill(1, signal.SIGUSR1)"
        cluster.kubectl(
            *("exec", "-n", prepared, pod["metadata"]["name"], "-c", "engine", "--"),
            *("python3", "-c", freeze),
        )
        frozen = time.monotonic()
        cluster.wait(lambda: restarts(cluster, prepared) == 1, stall + 60, "a restart")
        took = time.monotonic() - frozen
        assert took >= stall - 5, "not before it is proved"
        before = load.answered
        cluster.wait(lambda: load.answered > before, 180, "answers again")
    assert restarts(cluster, prepared) == 1
    report.add(
        "engine frozen under load / saturated",
        f"{took:.0f} s / never",
        bar=f"restarted within stall + 60 s ({stall + 60} s) / never",
    )


def test_a_start_past_the_budget_is_told(
    cluster: Cluster, past_its_budget: tuple[str, float, int], report: Report
) -> None:
    namespace, begun, deadline = past_its_budget
    left = max(1.0, begun + deadline + 60 - time.monotonic())
    done = cluster.run(*("rollout", "status", f"deployment/{NAME}", "-n", namespace), deadline=left)
    took = time.monotonic() - begun
    assert done.returncode != 0
    assert "exceeded its progress deadline" in done.stderr
    assert restarts(cluster, namespace) >= 1, "its budget to start ended, so it was tried again"
    report.add(
        "start past the budget",
        f"status {done.returncode}, {took:.0f} s",
        bar=f"status ≠ 0 within deadline + 60 s ({deadline + 60} s)",
    )
