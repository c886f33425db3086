"""Argo CD with selfHeal leaves the release alone: manifests/samples/argocd, as far as can be tried.

Argo CD is not run: it cannot be had as a Go module. What stands in for a sync is what it sends,
`ServerSideApply=true` with forced conflicts, and its answer to `RespectIgnoreDifferences=true`:
fields that the named managers wrote are taken out of what is applied.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import yaml

from tests.charts import render
from tests.cluster.access import Cluster, Object

MODEL = "flight-delay"
RELEASE = f"{MODEL}/7@sha256:{'1' * 64}"
IMAGE = "registry.example.org/runtime@sha256:" + "2" * 64
SAMPLE = render.ROOT / "manifests/samples/argocd/flight-delay.yaml"


@pytest.fixture(scope="module")
def application() -> Object:
    found: Object = yaml.safe_load(SAMPLE.read_text())
    return found


def desired(application: Object, namespace: str) -> Object:
    """The Deployment that the sample's chart and values render to."""
    source = application["spec"]["source"]
    (name,) = source["helm"]["valueFiles"]
    values = yaml.safe_load((render.ROOT / source["path"] / name).read_text())
    chart = source["path"].rpartition("/")[2]
    case = render.Case(chart, "argocd", values, namespace=namespace)
    return render.one(render.objects(case), "Deployment", MODEL)


def owned_by(live: Object, manager: str) -> list[list[str]]:
    """Paths of the fields that a manager wrote, keys of lists as `k:{…}`."""
    paths: list[list[str]] = []

    def walk(node: dict[str, Any], path: list[str]) -> None:
        for key, value in node.items():
            if key == ".":
                continue
            if value:
                walk(value, [*path, key])
            else:
                paths.append([*path, key])

    for entry in live["metadata"]["managedFields"]:
        if entry["manager"] == manager:
            walk(entry["fieldsV1"], [])
    return paths


def without(item: Any, path: list[str]) -> None:
    """Take one field out of what would be applied."""
    key, rest = path[0], path[1:]
    if key.startswith("k:"):
        wanted = json.loads(key[2:])
        for element in item:
            if wanted.items() <= element.items():
                without(element, rest)
        return
    name = re.sub(r"^f:", "", key)
    if not isinstance(item, dict) or name not in item:
        return
    if rest:
        without(item[name], rest)
    else:
        del item[name]


def sync(cluster: Cluster, namespace: str, application: Object) -> Object:
    """One sync of Argo CD; the Deployment afterwards."""
    wanted = copy.deepcopy(desired(application, namespace))
    shown = json.loads(
        cluster.run(
            *("get", "deployment", MODEL, "-n", namespace, "-o", "json", "--show-managed-fields"),
        ).stdout
        or "{}"
    )
    options = application["spec"]["syncPolicy"]["syncOptions"]
    if shown and "RespectIgnoreDifferences=true" in options:
        for rule in application["spec"]["ignoreDifferences"]:
            for manager in rule["managedFieldsManagers"]:
                for path in owned_by(shown, manager):
                    without(wanted, path)
    assert "ServerSideApply=true" in options
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller"),
        *("-n", namespace, "-f", "-"),
        given=yaml.safe_dump(wanted),
    )
    found: Object = cluster.get(namespace, "deployment", MODEL)
    return found


def controller_writes(cluster: Cluster, namespace: str) -> None:
    """A release with an image of its own, as the controller writes it."""
    container = {"name": "predictor", "image": IMAGE}
    metadata = {
        "annotations": {"proa.dev/release": RELEASE},
        "labels": {"proa.dev/version": "7"},
    }
    body = {
        "metadata": {"annotations": {"kubernetes.io/change-cause": "promote"}},
        "spec": {"template": {"metadata": metadata, "spec": {"containers": [container]}}},
    }
    cluster.kubectl(
        *("patch", "deployment", MODEL, "-n", namespace, "--type=strategic"),
        *("--field-manager=proa-controller", "-p", json.dumps(body)),
    )


def seen(deployment: Object) -> tuple[str | None, str | None, str, str | None]:
    template = deployment["spec"]["template"]
    return (
        template["metadata"].get("annotations", {}).get("proa.dev/release"),
        template["metadata"]["labels"].get("proa.dev/version"),
        template["spec"]["containers"][0]["image"],
        deployment["metadata"]["annotations"].get("kubernetes.io/change-cause"),
    )


def test_a_sync_heals_what_git_owns_and_leaves_the_release(
    cluster: Cluster, namespace: str, application: Object
) -> None:
    sync(cluster, namespace, application)
    controller_writes(cluster, namespace)
    before = cluster.get(namespace, "deployment", MODEL)
    assert seen(before) == (RELEASE, "7", IMAGE, "promote")
    after = sync(cluster, namespace, application)
    assert seen(after) == seen(before)
    assert after["metadata"]["generation"] == before["metadata"]["generation"], "no rollout"
    # A hand at what Git owns is healed, and the release stays.
    cluster.kubectl(
        *("patch", "deployment", MODEL, "-n", namespace, "--type=merge"),
        *("-p", '{"spec":{"revisionHistoryLimit":3}}'),
    )
    healed = sync(cluster, namespace, application)
    assert healed["spec"]["revisionHistoryLimit"] == 10
    assert seen(healed) == seen(before)


def test_without_the_two_lines_the_image_would_be_taken(
    cluster: Cluster, namespace: str, application: Object
) -> None:
    """The check above would be green over a sync that takes nothing."""
    careless = copy.deepcopy(application)
    careless["spec"]["syncPolicy"]["syncOptions"] = ["ServerSideApply=true"]
    sync(cluster, namespace, careless)
    controller_writes(cluster, namespace)
    after = sync(cluster, namespace, careless)
    assert seen(after)[2] != IMAGE
    assert seen(after)[:2] == (RELEASE, "7"), "what Git does not name, nobody takes"
