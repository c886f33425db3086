"""The controller's adapters over a real API: the contract suites, and what is Kubernetes' alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from proa.cluster.api import Cluster as Api
from proa.cluster.api import connect
from proa.errors import Conflict, Refused, Unavailable
from proa.release.reference import ReleaseRef
from proa.rollout.state import settle
from proa_controller.configmap_routes import ConfigMapRoutes
from proa_controller.configmap_states import ConfigMapStates
from proa_controller.deployments import DeploymentWorkloads, ReleaseTemplate
from tests.cluster.access import Cluster
from tests.contract.rollout.states import LINE, STATE, Open, StatesContract
from tests.contract.rollout.workloads import Bench, WorkloadsContract, ref_of
from tests.processes import wait_until

IMAGE = "proa-test-release:0"
SECURE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return connect(cluster.kubeconfig)


@contextmanager
def started(part: Any) -> Iterator[Any]:
    """A part that watches, having seen everything once."""
    part.start()
    try:
        wait_until(lambda: part.synced, 20)
        yield part
    finally:
        part.stop()


def objects(name: str, replicas: int = 1, **more: Any) -> list[dict[str, Any]]:
    """Deployment and Service as charts/predictor makes them, as far as rollouts go."""
    track = {"app": name, "proa.dev/track": "champion"}
    labels = {**track, "proa.dev/model": name}
    field = {"fieldPath": "metadata.annotations['proa.dev/release']"}
    container = {
        "name": "predictor",
        "image": IMAGE,
        "command": ["python", "-m", "proa_predictor"],
        "args": ["--release=$(PROA_RELEASE)"],
        "env": [{"name": "PROA_RELEASE", "valueFrom": {"fieldRef": field}}, *more.get("env", [])],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
        "securityContext": SECURE,
    }
    pods = {"containers": [container], "terminationGracePeriodSeconds": 1}
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": track},
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": 300,
        "template": {"metadata": {"labels": labels}, "spec": pods},
    }
    port = {"name": "http", "port": 8080, "targetPort": 8080}
    metadata = {"name": name, "labels": {**labels, "helm.sh/chart": "predictor-0.1.0"}}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": track, "ports": [port]},
        },
    ]


class House:
    """Models in one namespace and the adapter that moves them."""

    def __init__(self, cluster: Cluster, namespace: str, workloads: DeploymentWorkloads) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.workloads = workloads
        self._names = (f"m{number}" for number in itertools.count())

    def model(self, replicas: int = 1, **more: Any) -> str:
        """A Deployment with no release, seen by the adapter."""
        name = next(self._names)
        self.cluster.apply(self.namespace, *objects(name, replicas, **more))
        wait_until(lambda: self.workloads.status(name).generation, 20)
        return name

    def get(self, name: str) -> dict[str, Any]:
        return dict(self.cluster.get(self.namespace, "deployment", name))

    def container(self, name: str) -> dict[str, Any]:
        return dict(self.get(name)["spec"]["template"]["spec"]["containers"][0])

    def bench(self) -> Bench:
        return Bench(self.workloads, self.model, ReleaseTemplate, 240)


@pytest.fixture(scope="module")
def house(cluster: Cluster, api: Api) -> Iterator[House]:
    with (
        cluster.namespace(prefix="deployments") as namespace,
        started(DeploymentWorkloads(api, [namespace])) as workloads,
    ):
        yield House(cluster, namespace, workloads)


@pytest.fixture(scope="module")
def bench(house: House) -> Bench:
    return house.bench()


class TestDeployments(WorkloadsContract):
    """The suite over Deployments."""


class TestConfigMaps(StatesContract):
    """The suite over ConfigMaps."""

    @pytest.fixture
    def open_states(self, api: Api, namespace: str) -> Iterator[Open]:
        with ExitStack() as stack:
            yield lambda: stack.enter_context(
                started(ConfigMapStates(api, [namespace], owner=lambda _: None))
            )


def test_two_writers_of_a_state_and_the_second_learns_of_the_first(
    api: Api, namespace: str
) -> None:
    def states() -> ConfigMapStates:
        return ConfigMapStates(api, [namespace], owner=lambda _: None)

    with started(states()) as one, started(states()) as other:
        one.find("m")
        one.put(STATE)
        wait_until(lambda: other.find("m") == STATE, 10)
        one.put(settle(STATE, message="one"))
        with pytest.raises(Conflict):
            other.put(settle(STATE, message="other"))
        wait_until(lambda: other.find("m") == settle(STATE, message="one"), 10)
        other.put(settle(STATE, message="other"))
        with pytest.raises(Conflict):
            one.put(settle(STATE, message="one"))


def test_lines_that_wait_never_overfill_the_configmap(api: Api, namespace: str) -> None:
    with started(ConfigMapStates(api, [namespace], owner=lambda _: None)) as states:
        states.put(STATE)
        lines = [{**LINE, "reason": "x" * 1000} for _ in range(1100)]
        with pytest.raises(Unavailable, match="1100 journal lines wait"):
            states.put(STATE, lines)
        states.put(STATE, lines[:800])
        assert len(states.unwritten("m")) == 800


def test_a_state_goes_with_its_deployment(house: House, api: Api) -> None:
    name = house.model()
    states = ConfigMapStates(
        api, [house.namespace], owner=lambda n: house.workloads.champions().get(n)
    )
    with started(states):
        states.put(replace(STATE, model=name))
        house.cluster.kubectl("delete", "deployment", name, "-n", house.namespace)
        wait_until(lambda: states.find(name) is None, 60, every=0.2)


def test_routes_are_read_back_and_not_written_over(api: Api, namespace: str) -> None:
    with (
        started(ConfigMapRoutes(api, namespace, "routes")) as one,
        started(ConfigMapRoutes(api, namespace, "routes")) as other,
    ):
        assert one.read() is None
        one.write({"generation": 1, "models": {}})
        assert one.read() == {"generation": 1, "models": {}}, "its own write, at once"
        wait_until(lambda: other.read() == one.read(), 10)
        one.write({"generation": 2, "models": {}})
        with pytest.raises(Conflict):
            other.write({"generation": 2, "models": {"m": {}}})


def test_who_does_not_lead_writes_nothing(house: House, api: Api) -> None:
    name = house.model()
    with started(DeploymentWorkloads(api.fenced(lambda: 0.0), [house.namespace])) as idle:
        after = idle.status(name).generation
        with pytest.raises(Unavailable, match="does not lead"):
            idle.apply(name, ReleaseTemplate(ref_of(name, 1)), after=after)
    assert house.workloads.status(name).template_release is None


def test_scaling_is_no_change_of_the_release_and_a_new_setting_is_none(house: House) -> None:
    """An autoscaler or Helm between intent and write must not look like a person's undo."""
    name = house.model()
    generation = house.bench().serve(name, ref_of(name, 1))
    house.cluster.kubectl("scale", "deployment", name, "--replicas=2", "-n", house.namespace)
    env = ("set", "env", f"deployment/{name}", "MORE=1", "-n", house.namespace)
    house.cluster.kubectl(*env)
    wait_until(lambda: house.workloads.status(name).replicas == 2, 20)
    assert house.workloads.status(name).generation == generation
    template = ReleaseTemplate(ref_of(name, 2))
    assert house.workloads.apply(name, template, after=generation) != generation


def test_an_undo_right_after_our_write_is_not_taken_for_what_was_before(house: House) -> None:
    name = house.model()
    before = house.bench().serve(name, ref_of(name, 1))
    house.bench().serve(name, ref_of(name, 2))
    undo = ("rollout", "undo", f"deployment/{name}", "-n", house.namespace)
    house.cluster.kubectl(*undo)
    status = house.bench().answers(name, ref_of(name, 1))
    assert status.template_release == ref_of(name, 1)
    assert status.generation != before


def test_a_challenger_is_the_champion_with_another_release(house: House) -> None:
    name = house.model(2)
    house.bench().serve(name, ref_of(name, 1))
    other = f"{name}-challenger"
    template = ReleaseTemplate(ref_of(name, 2))
    generation = house.workloads.apply(other, template, after=0, replicas=1, cause="m/2 by ann")
    status = house.bench().answers(other, ref_of(name, 2))
    assert (status.generation, status.replicas, status.stale) == (generation, 1, False)
    assert status.url == f"http://{other}.{house.namespace}.svc:8080"
    champion, clone = house.get(name), house.get(other)
    assert clone["spec"]["selector"]["matchLabels"]["proa.dev/track"] == "challenger"
    assert "helm.sh/chart" not in clone["metadata"]["labels"]
    owner = clone["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["name"]) == (champion["metadata"]["uid"], name)
    assert clone["metadata"]["annotations"]["kubernetes.io/change-cause"] == "m/2 by ann"
    # No pod of one answers for the other.
    services = [house.cluster.get(house.namespace, "service", one) for one in (name, other)]
    tracks = [service["spec"]["selector"]["proa.dev/track"] for service in services]
    assert tracks == ["champion", "challenger"]
    assert house.workloads.status(name).release == ref_of(name, 1)

    house.workloads.apply(other, template, after=generation, replicas=2)
    wait_until(lambda: house.workloads.status(other).capacity == 2, 60, every=0.1)
    env = ("set", "env", f"deployment/{name}", "MORE=1", "-n", house.namespace)
    house.cluster.kubectl(*env)
    wait_until(lambda: house.workloads.status(other).stale, 20)
    after = house.workloads.status(other).generation
    house.workloads.apply(other, template, after=after, replicas=2)
    assert not house.workloads.status(other).stale
    assert {"name": "MORE", "value": "1"} in house.container(other)["env"]
    house.workloads.delete(other)
    wait_until(lambda: house.workloads.status(other).generation == 0, 20)
    found = house.cluster.run("get", "service", other, "-n", house.namespace)
    assert "NotFound" in found.stderr


def test_no_chart_no_release(house: House) -> None:
    with pytest.raises(Refused) as caught:
        house.workloads.apply("nobody", ReleaseTemplate(ref_of("nobody", 1)), after=0)
    assert caught.value.code == "WorkloadMissing"
    assert "helm install nobody" in str(caught.value.hint)


OWN = {"image": "proa-test-release:own", "command": ["python", "/app/own.py"], "args": None}


def test_a_release_brings_its_image_and_the_charts_comes_back(house: House) -> None:
    name = house.model()
    chart = house.container(name)
    steps: list[tuple[int, dict[str, Any] | None]] = [(1, OWN), (2, None), (3, {"image": "x:1"})]
    for version, own in steps:
        after = house.workloads.status(name).generation
        house.workloads.apply(name, ReleaseTemplate(ref_of(name, version), own), after=after)
        container = house.container(name)
        expected = {**chart, **(own or {})}
        for key in ("image", "command", "args"):
            assert container.get(key) == expected.get(key), (version, key)
    annotations = house.get(name)["spec"]["template"]["metadata"]["annotations"]
    assert json.loads(annotations["proa.dev/chart-container"]) == {"image": IMAGE}
    # A chart's upgrade writes over it: that is seen, and what the chart says now is kept.
    house.cluster.kubectl(
        "set", "image", f"deployment/{name}", "predictor=proa-test-release:1", "-n", house.namespace
    )
    wait_until(lambda: house.workloads.status(name).stale, 20)
    after = house.workloads.status(name).generation
    house.workloads.apply(name, ReleaseTemplate(ref_of(name, 3), {"image": "x:1"}), after=after)
    assert house.container(name)["image"] == "x:1"
    house.workloads.delete(name)
    assert house.container(name)["image"] == "proa-test-release:1"


@pytest.mark.parametrize("way", ["unschedulable", "no image"])
def test_why_a_release_does_not_start(house: House, way: str) -> None:
    name = house.model()
    ref: ReleaseRef = ref_of(name, 1)
    own: dict[str, Any] = {"image": "nowhere.invalid/none:1"}
    if way == "unschedulable":
        own = {"resources": {"requests": {"cpu": "1000"}}}
        short = {"spec": {"progressDeadlineSeconds": 3}}
        house.cluster.kubectl(
            *("patch", "deployment", name, "-n", house.namespace, "-p", json.dumps(short))
        )
    after = house.workloads.status(name).generation
    house.workloads.apply(name, ReleaseTemplate(ref, own), after=after)
    failed: Callable[[], str | None] = lambda: house.workloads.status(name).failed  # noqa: E731
    told = wait_until(failed, 120, every=0.2) or ""
    words = {"unschedulable": "Insufficient cpu", "no image": "nowhere.invalid/none:1"}
    assert words[way] in told
    if way == "unschedulable":
        assert told.startswith("ProgressDeadlineExceeded: Unschedulable")
