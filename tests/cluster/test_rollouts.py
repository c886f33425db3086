"""Rollouts of releases over Deployments: forth and back, by the controller and by Helm."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.cluster.access import Cluster
from tests.cluster.load import Load
from tests.cluster.report import Report
from tests.cluster.rollout_house import RolloutHouse, rollout_house
from tests.processes import wait_until


@pytest.fixture(scope="module")
def house(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutHouse]:
    """One platform for the tests of this file; each has models of its own."""
    home = tmp_path_factory.mktemp("house")
    with (
        cluster.namespace(prefix="rollouts") as namespace,
        rollout_house(cluster, namespace, home) as it,
    ):
        yield it


def test_a_release_reaches_its_pods_and_helm_leaves_it_alone(house: RolloutHouse) -> None:
    """Installed with no release, promoted, upgraded by Helm 4 and by Helm 3."""
    for helm in (4, 3):
        model = f"helm{helm}"
        house.install(model, helm=helm)
        assert house.deployment(model)["status"]["readyReplicas"] == 2, "Ready without a release"
        ref = house.champion(model)
        answer = house.predict(model)
        assert (answer.status_code, answer.headers["x-proa-release"]) == (200, str(ref))
        found = house.deployment(model)
        assert found["metadata"]["labels"]["proa.dev/version"] == str(ref.version)
        assert ref.short in found["metadata"]["annotations"]["kubernetes.io/change-cause"]
        assert "Promoted" in house.events(model)
        house.install(model, helm=helm, upgrade=True, extraEnv=[{"name": "MORE", "value": "1"}])
        assert house.running(model) == str(ref)
        assert house.settled(model, ref)["message"] == f"{ref.short} is champion"
        assert "undone" not in house.actions(model)


def test_canary_promotion_and_a_rollback_inside_the_warm_window(
    house: RolloutHouse, report: Report
) -> None:
    """Weights rise as pods come, and going back is a change of weights: fast, nothing fails."""
    house.install("warm")
    one = house.champion("warm")
    two = house.release("warm")
    house.gate(two)
    with Load(house.gateway.url, house.key, classic="warm", rate=50) as load:
        house.promote(two)
        house.settled("warm", two, 180)
        warm = wait_until(lambda: house.status("warm")["warm"], 60, every=0.2)
        assert warm
        assert house.deployment("warm-challenger")["spec"]["replicas"] == 2, "fit to take it all"
        begun = time.monotonic()
        house.ask("POST", "/v1/models/warm/rollback", {"reason": "worse"})
        served = lambda: house.predict("warm").headers.get("x-proa-release")  # noqa: E731
        wait_until(lambda: served() == str(one), 30, every=0.05)
        seconds = time.monotonic() - begun
        house.settled("warm", one)
    assert (load.failed, load.answered > 200) == (Counter(), True)
    assert report.at_most("weight rollback inside the warm window", seconds, 5, "s", str(load)).ok
    wanted = ("requested", "step", "step_passed", "promoted", "rollback_requested", "rolled_back")
    assert [action for action in wanted if action not in house.actions("warm")] == []
    assert {"step", "step_passed", "promoted"} <= set(house.actions("warm"))


@pytest.mark.parametrize(
    ("version", "words"),
    [(901, "the runtime lacks numpy 2.2"), (902, "is not in the store")],
    ids=["the process ends", "the bundle is missing"],
)
def test_a_release_that_does_not_start_is_put_back_with_its_last_words(
    house: RolloutHouse, version: int, words: str
) -> None:
    model = f"bad{version}"
    house.install(model, replicas=1)
    good = house.champion(model)
    bad = house.release(model, version)
    # No gate lets it in; a person may.
    body = {"release": str(bad), "reason": "it must go out at once", "override": True, "as": "ann"}
    house.ask("POST", f"/v1/models/{model}/promote", {**body, "policy": {"steps": []}})
    status = wait_until(
        lambda: next((s for s in [house.status(model)] if s["phase"] == "idle"), None),
        600,
        every=0.5,
    )
    assert (status["champion"], house.running(model)) == (str(good), str(good))
    event = house.events(model)["RolloutAborted"]
    assert words in event
    assert words in status["message"]
    assert house.predict(model).headers["x-proa-release"] == str(good)


def test_a_refusal_is_an_event_with_the_command_that_mends_it(house: RolloutHouse) -> None:
    house.install("refused", replicas=1)
    ref = house.release("refused")
    with pytest.raises(Exception, match="has not been judged"):
        house.promote(ref)
    wait_until(lambda: "GateMissing" in house.events("refused"), 20, every=0.3)
    assert "proa gate refused" in house.events("refused")["GateMissing"]
    for _ in range(2):
        with pytest.raises(Exception, match="has not been judged"):
            house.promote(ref)

    def counted() -> bool:
        items = house.cluster.get(house.namespace, "events")
        mine = [item for item in items if item["reason"] == "GateMissing"]
        return [item["count"] for item in mine] == [3]

    wait_until(counted, 20, every=0.3, what="one event, said three times")


def test_an_evicted_pod_comes_back_while_mlflow_is_down(
    house: RolloutHouse, report: Report
) -> None:
    """Nobody of this house can reach MLflow: its address has nobody who listens."""
    house.install("evicted", replicas=1)
    ref = house.champion("evicted")
    pods = lambda: house.cluster.get(  # noqa: E731
        house.namespace, "pods", selector="proa.dev/model=evicted"
    )
    stay = [pod["metadata"] for pod in pods() if "deletionTimestamp" not in pod["metadata"]]
    (before,) = [metadata["name"] for metadata in stay if "-challenger-" not in metadata["name"]]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": before, "namespace": house.namespace},
    }
    path = f"/api/v1/namespaces/{house.namespace}/pods/{before}/eviction"
    house.cluster.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
    wait_until(lambda: before not in str(pods()), 120, every=0.5)
    house.cluster.ready(house.namespace, "deployment/evicted")
    wait_until(lambda: house.predict("evicted").status_code == 200, 60, every=0.3)
    assert house.predict("evicted").headers["x-proa-release"] == str(ref)
    registry = house.status("evicted")["registry"]
    assert "did not answer" in registry
    report.add("evict a pod with MLflow down", "Ready", bar="Ready")
