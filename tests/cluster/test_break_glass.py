"""Controller and MLflow are down: the commands of charts/proa/BREAK-GLASS.md, by whom they are for.

No gateway, controller or MLflow runs at all. What serves is the stand-in of tests/standins in the
chart predictor. The person is in the group proa-releasers of manifests/roles.yaml, and where the
page says so an administrator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster import pages
from tests.cluster.access import Cluster
from tests.cluster.installing import apply_everywhere, install

PAGE = "charts/proa/BREAK-GLASS.md"
MODEL = "flight-delay"


def release(version: int) -> str:
    return f"{MODEL}/{version}@sha256:{str(version) * 64}"


@dataclass
class Scene:
    """A model that serves its second release, and two people."""

    cluster: Cluster
    namespace: str
    folder: Path
    releaser: Cluster

    def run(self, name: str, *, admin: bool = False, **env: str) -> str:
        given = {"NS": self.namespace, "MODELS": self.namespace, "MODEL": MODEL, **env}
        who = self.cluster if admin else self.releaser
        return pages.run(who, pages.block(PAGE, name), self.folder, given)

    def serves(self, version: int) -> None:
        """Wait until every answer is of this release: a pod that ends answers a little longer."""
        url = self.cluster.address(self.namespace, MODEL, 8080)

        def answers() -> bool:
            try:
                said = [httpx.get(f"{url}/release", timeout=10).json() for _ in range(5)]
            except httpx.HTTPError:
                return False
            return {answer["release"] for answer in said} == {release(version)}

        self.cluster.wait(answers, 60, release(version))


def write_release(cluster: Cluster, namespace: str, version: int) -> None:
    """As the controller writes one, and until it serves."""
    metadata = {
        "annotations": {"proa.dev/release": release(version)},
        "labels": {"proa.dev/version": str(version)},
    }
    body = {
        "metadata": {"annotations": {"kubernetes.io/change-cause": f"promote {MODEL}/{version}"}},
        "spec": {"template": {"metadata": metadata}},
    }
    cluster.kubectl(
        *("patch", "deployment", MODEL, "-n", namespace, "--type=merge", "-p", json.dumps(body)),
        "--field-manager=proa-controller",
    )
    cluster.ready(namespace, f"deployment/{MODEL}", 120)


def values(image: str) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    small = {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}}
    return {
        "model": {"name": MODEL},
        "image": {"repository": repository, "tag": tag},
        "replicas": 1,
        "bundles": {"url": "s3://nowhere/proa"},
        "resources": small,
        "fetch": {"resources": small},
    }


@pytest.fixture
def scene(
    cluster: Cluster, namespace: str, images_of: Callable[..., dict[str, str]], tmp_path: Path
) -> Iterator[Scene]:
    key = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "proa-predictor-key"},
        "stringData": {"predictor.key": "none"},
    }
    cluster.apply(namespace, key)
    install(cluster, 4, "predictor", MODEL, namespace, values(images_of("release")["release"]))
    for version in (1, 2):
        write_release(cluster, namespace, version)
    with people(cluster, namespace):
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        for user in config["users"]:
            user["user"] |= {"as": "somebody", "as-groups": ["proa-releasers"]}
        kubeconfig = tmp_path / "releaser.yaml"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(yaml.safe_dump(config))
        releaser = Cluster(kubeconfig, cluster.kubectl_command, cluster.direct)
        yield Scene(cluster, namespace, tmp_path, releaser)


@contextmanager
def people(cluster: Cluster, namespace: str) -> Iterator[None]:
    """manifests/roles.yaml, under names of this namespace and bound in it alone."""
    made = []
    for item in yaml.safe_load_all((pages.ROOT / "manifests/roles.yaml").read_text()):
        if item["kind"] == "ClusterRole":
            item["metadata"]["name"] += f"-{namespace}"
        elif item["metadata"]["namespace"] == "proa-engines":
            continue
        else:
            item["metadata"]["namespace"] = namespace
            item["roleRef"]["name"] += f"-{namespace}"
        made.append(item)
    apply_everywhere(cluster, made)
    try:
        yield
    finally:
        for item in made:
            if item["kind"] == "ClusterRole":
                cluster.run("delete", "clusterrole", item["metadata"]["name"])


def test_back_forward_and_again_with_kubectl_alone(scene: Scene) -> None:
    routes = {"models": {MODEL: {"tracks": {"challenger": {"weight": 10}}}}}
    scene.cluster.apply(
        scene.namespace,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "proa-routes"},
            "data": {"routes.json": json.dumps(routes)},
        },
    )
    seen = scene.run("see")
    assert release(2) in seen
    assert f"promote {MODEL}/1" in seen, "the history names each release"
    assert '"weight": 10' in seen
    scene.serves(2)
    scene.run("undo")
    scene.serves(1)
    scene.run("pin", RELEASE=release(2))
    scene.serves(2)
    scene.run("restart")
    scene.cluster.ready(scene.namespace, f"deployment/{MODEL}", 120)
    scene.serves(2)
    challenger(scene)
    edit = r"""sed -i 's/\\"weight\\": 10/\\"weight\\": 0/; s/"weight": 10/"weight": 0/'"""
    scene.run("end-canary", admin=True, KUBE_EDITOR=edit)
    config = scene.cluster.get(scene.namespace, "configmap", "proa-routes")
    assert json.loads(config["data"]["routes.json"])["models"][MODEL]["tracks"] == {
        "challenger": {"weight": 0}
    }
    found = scene.cluster.get(scene.namespace, "deployment", f"{MODEL}-challenger")
    assert found["spec"]["replicas"] == 0


def challenger(scene: Scene) -> None:
    """A second Deployment as the controller clones it."""
    found = scene.cluster.get(scene.namespace, "deployment", MODEL)
    track = {"proa.dev/track": "challenger"}
    template = found["spec"]["template"]
    template["metadata"]["labels"] |= track
    scene.cluster.apply(
        scene.namespace,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{MODEL}-challenger"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {**found["spec"]["selector"]["matchLabels"], **track}},
                "template": template,
            },
        },
    )


def test_a_releaser_may_not_do_more(scene: Scene) -> None:
    for refused in (
        ("delete", "deployment", MODEL),
        ("get", "secrets"),
        ("exec", f"deploy/{MODEL}", "--", "true"),
        ("edit", "configmap", "proa-routes"),
        ("delete", "pod", "--all"),
    ):
        done = scene.releaser.run(*refused, "-n", scene.namespace)
        assert done.returncode != 0, refused
