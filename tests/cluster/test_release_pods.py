"""Predictor and assistant on a real kubelet, from the charts: none, one and a broken release.

Nothing of the platform runs: no MLflow, no controller, no monitor. The annotation is set here, as
the controller sets it. Real: images, charts, the init container, releases, the claim. Faked: the
engine (`tests/standins/engine.py`, in a pod of its own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.cluster import seed
from tests.cluster.access import Cluster
from tests.cluster.installing import install
from tests.cluster.report import Report

KEY = "key-of-a-test"
SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}


class House(NamedTuple):
    """A namespace with a filled bundle store, keys and an engine."""

    namespace: str
    classic: seed.Built
    llm: seed.Bundled
    folder: Path


@pytest.fixture(scope="module")
def house(
    cluster: Cluster,
    images_of: Callable[..., dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    found = images_of("predictor", "assistant", "gateway", "engine")
    folder = tmp_path_factory.mktemp("seed")
    made = seed.classic(folder / "classic"), seed.llm(folder / "llm")
    seed.store_of(folder / "store", made)
    with cluster.namespace(prefix="f") as name:
        cluster.apply(
            name,
            *store_and_key("predictor"),
            *store_and_key("assistant"),
            *engine(found["engine"], made[1].manifest.llm.engine.identity),
        )
        seed.fill_claim(cluster, name, "bundles", folder / "store", image=found["gateway"])
        cluster.ready(name, "deployment/engine")
        yield House(name, *made, folder)


def store_and_key(service: str) -> tuple[dict[str, Any], ...]:
    """What a release chart does not make: the claim with the bundles, and the process's key."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "bundles"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "64Mi"}},
        },
    }
    key = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"proa-{service}-key"},
        "stringData": {f"{service}.key": KEY},
    }
    return claim, key


def engine(image: str, identity: str) -> tuple[dict[str, Any], ...]:
    """The stand-in behind a Service, on the engine door's port."""
    labels = {"app": "engine"}
    container = {
        "name": "engine",
        "image": image,
        "command": ["python3", "/app/engine.py"],
        "args": ["--model", identity, "--host", "0.0.0.0", "--port", "8000"],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "engine"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "engine"},
        "spec": {"selector": labels, "ports": [{"port": 8000}]},
    }
    return deployment, service


def values(model: str, **more: Any) -> dict[str, Any]:
    return {
        "model": {"name": model},
        "replicas": 1,
        "bundles": {"url": "file:///bundles", "existingClaim": "bundles"},
        "resources": SMALL,
        "fetch": {"resources": SMALL},
        "startup": {"timeoutSeconds": 300},  # on a machine that also builds images
        "drain": {"lingerSeconds": 5, "timeoutSeconds": 5},
        **more,
    }


def set_release(cluster: Cluster, namespace: str, model: str, release: str | None) -> None:
    """What the controller does to roll a release out."""
    annotations = {"proa.dev/release": release}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    cluster.kubectl("patch", "deployment", model, "-n", namespace, "-p", json.dumps(patch))


def client(cluster: Cluster, namespace: str, model: str) -> httpx.Client:
    return httpx.Client(base_url=cluster.address(namespace, model, 8080), timeout=60)


def starts(cluster: Cluster, namespace: str, model: str) -> float:
    """Seconds from a Ready pod's start to its readiness."""
    from datetime import datetime

    pods = cluster.get(namespace, "pods", selector=f"proa.dev/model={model}")
    pod = next(p for p in pods if "deletionTimestamp" not in p["metadata"])
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    begun = datetime.fromisoformat(pod["status"]["startTime"])
    return (datetime.fromisoformat(ready["lastTransitionTime"]) - begun).total_seconds()


def ended(cluster: Cluster, namespace: str, statuses: str) -> str:
    """The termination message of a container of any pod that failed; empty while there is none."""
    for pod in cluster.get(namespace, "pods", selector="proa.dev/model"):
        for status in pod["status"].get(statuses, ()):
            state = {**status.get("lastState", {}), **status["state"]}
            if state.get("terminated", {}).get("exitCode"):
                return str(state["terminated"].get("message", ""))
    return ""


def wait_for(cluster: Cluster, told: httpx.Client, release: str) -> None:
    """The old pod answers while it ends: until the Service says the new release."""

    def serves() -> bool:
        try:
            return told.get("/release").json().get("release") == release
        except httpx.TransportError:
            return False

    cluster.wait(serves, 60, f"{release} behind the Service")


@pytest.mark.parametrize("helm", [3, 4])
def test_a_predictor_without_mlflow(
    cluster: Cluster, house: House, report: Report, helm: int
) -> None:
    namespace, model, made = house.namespace, seed.CLASSIC, house.classic
    install(
        *(cluster, helm, "predictor", model, namespace),
        values(model, platform={"monitor": "none"}),
    )
    try:
        with client(cluster, namespace, model) as asked:
            none = asked.post("/v1/predict", json={"rows": made.rows(1)})
            assert (none.status_code, none.json()["error"]["code"]) == (503, "no_release")
            set_release(cluster, namespace, model, str(made.ref))
            cluster.ready(namespace, f"deployment/{model}", 300)
            wait_for(cluster, asked, str(made.ref))
            answer = asked.post("/v1/predict", json={"rows": made.rows(2), "explain": True})
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-proa-release"] == str(made.ref)
            assert len(answer.json()["predictions"]) == 2
        report.add("predictor pod: start to Ready", starts(cluster, namespace, model), "s")
        upgrade_leaves_it(cluster, helm, "predictor", namespace, model, str(made.ref))
        a_new_pod_is_ready(cluster, namespace, model)
    finally:
        cluster.helm(helm, "uninstall", model, "--namespace", namespace)


def upgrade_leaves_it(
    cluster: Cluster, helm: int, chart: str, namespace: str, model: str, release: str
) -> None:
    """Other values, the same release."""
    install(
        *(cluster, helm, chart, model, namespace),
        values(model, platform={"monitor": "none"}, podLabels={"team": "ops"}),
    )
    template = cluster.get(namespace, "deployment", model)["spec"]["template"]["metadata"]
    assert template["annotations"]["proa.dev/release"] == release
    assert template["labels"]["team"] == "ops"


def a_new_pod_is_ready(cluster: Cluster, namespace: str, model: str) -> None:
    """An evicted pod's successor: nothing but the bundle store is there."""
    pods = cluster.get(namespace, "pods", selector=f"proa.dev/model={model}")
    name = next(p for p in pods if "deletionTimestamp" not in p["metadata"])["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))

    def replaced() -> bool:
        found = cluster.get(namespace, "pods", selector=f"proa.dev/model={model}")
        return all(p["metadata"]["name"] != name for p in found)

    cluster.wait(replaced, 60, f"{name} is gone")
    cluster.ready(namespace, f"deployment/{model}", 300)


def test_an_assistant_finds_its_weights_in_the_bundle_store(
    cluster: Cluster, house: House, report: Report
) -> None:
    namespace, model, made = house.namespace, seed.LLM, house.llm
    platform = {"monitor": "http://nowhere:8080", "engine": "http://engine:8000/v1"}
    # No gateway stands between here: the policy that allows only it would be in the way.
    given = values(model, platform=platform, networkPolicy={"enabled": False})
    install(cluster, 4, "assistant", model, namespace, given)
    try:
        body = {"model": model, "messages": [{"role": "user", "content": "Is a tuple immutable?"}]}
        with client(cluster, namespace, model) as asked:
            none = asked.post("/v1/chat/completions", json=body)
            assert (none.status_code, none.json()["error"]["code"]) == (503, "no_release")
            set_release(cluster, namespace, model, str(made.ref))
            cluster.ready(namespace, f"deployment/{model}", 300)
            wait_for(cluster, asked, str(made.ref))
            answer = asked.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-proa-release"] == str(made.ref)
            assert answer.json()["choices"][0]["message"]["content"]
        report.add("assistant pod: start to Ready", starts(cluster, namespace, model), "s")
    finally:
        cluster.helm(4, "uninstall", model, "--namespace", namespace)


def test_a_release_that_is_not_in_the_store_says_so(cluster: Cluster, house: House) -> None:
    """The old pods go on; what `kubectl describe pod` shows names the release and the store."""
    namespace, model, made = house.namespace, seed.CLASSIC, house.classic
    install(
        *(cluster, 4, "predictor", model, namespace),
        values(model, platform={"monitor": "none"}),
    )
    try:
        set_release(cluster, namespace, model, str(made.ref))
        cluster.ready(namespace, f"deployment/{model}", 300)
        wrong = f"{model}/2@sha256:{'0' * 64}"
        set_release(cluster, namespace, model, wrong)

        told = cluster.wait(
            lambda: ended(cluster, namespace, "initContainerStatuses"), 120, "what fetch says"
        )
        assert f"fetch {wrong} from file:///bundles" in told
        assert "is not in the store" in told
        with client(cluster, namespace, model) as asked:
            assert asked.get("/release").json()["release"] == str(made.ref)
    finally:
        cluster.helm(4, "uninstall", model, "--namespace", namespace)
