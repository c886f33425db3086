"""The cluster itself: what the other tests take for granted does happen on it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cluster.access import Cluster, Object

SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="session")
def image(images_of: Callable[..., dict[str, str]]) -> str:
    return images_of("gateway")["gateway"]


def web(image: str, text: str) -> list[Object]:
    """A web server that says `text`, behind a Service, with a claim of its own."""
    serve = "import sys,pathlib; pathlib.Path('/data/index.html').write_text(sys.argv[1])"
    command = f'python3 -c "{serve}" {text} && exec python3 -m http.server 8080 --directory /data'
    container = {
        "name": "web",
        "image": image,
        "command": ["sh", "-c", command],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    labels = {"app": "web"}
    spec = {
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "web"}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "web"},
            "spec": claim,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
    ]


def test_a_deployment_rolls_and_is_undone(cluster: Cluster, namespace: str, image: str) -> None:
    """Probes, claims, DNS and Services work, and `rollout undo` brings the old text back."""
    ask = "import urllib.request as r; print(r.urlopen('http://web', timeout=5).read().decode())"

    def says(text: str) -> bool:
        arguments = ("exec", "-n", namespace, "deployment/web", "--", "python3", "-c", ask)
        return cluster.run(*arguments).stdout.strip() == text

    for text in ("first", "second"):
        cluster.apply(namespace, *web(image, text))
        cluster.ready(namespace, "deployment/web")
        cluster.wait(lambda text=text: says(text), 20, f"the Service says {text}")
    cluster.kubectl("rollout", "undo", "-n", namespace, "deployment/web")
    cluster.ready(namespace, "deployment/web")
    cluster.wait(lambda: says("first"), 20, "the Service says first again")


def test_pod_security_is_enforced(cluster: Cluster, namespace: str, image: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "careless"},
        "spec": {"containers": [{"name": "careless", "image": image}]},
    }
    done = cluster.run("apply", "-n", namespace, "-f", "-", given=json.dumps(pod))
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted:latest"' in done.stderr


def test_a_volume_goes_with_its_claim(cluster: Cluster, namespace: str, image: str) -> None:
    cluster.apply(namespace, web(image, "kept")[0])

    def volumes() -> list[Object]:
        every = cluster.get(namespace, "persistentvolumes")
        return [v for v in every if v["spec"].get("claimRef", {}).get("namespace") == namespace]

    cluster.wait(lambda: [v for v in volumes() if v["status"]["phase"] == "Bound"], 30, "bound")
    cluster.kubectl("delete", "-n", namespace, "persistentvolumeclaim", "web")
    cluster.wait(lambda: not volumes(), 30, "the volume is gone")
