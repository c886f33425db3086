"""Real vLLM in a pod of the chart vllm: SmolLM2 on the CPU, its probes, its drain, one answer.

An image of 6 GB is not built for this: the pod sees the engine's environment of this machine and
its weights in one volume, read-only, under Debian's own Python of the same version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from python_help.weights import smollm2, store
from tests.cluster import layout
from tests.cluster.access import Cluster
from tests.cluster.installing import install
from tests.cluster.report import Report

PACKAGES = Path(__file__).resolve().parents[2] / ".venv-engine/lib/python3.11/site-packages"
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
NAME = "smollm2-135m-instruct"
KEY = "engine-key-of-a-test"


@pytest.fixture(scope="module")
def image(images_of: Callable[..., dict[str, str]]) -> str:
    return images_of("gateway")["gateway"]


@pytest.fixture
def volume(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A claim with `packages/` and `smollm2/`, which cost no room: the files are linked."""
    if not PACKAGES.exists() and os.environ.get("PROA_TEST_ENGINE") != "required":
        pytest.skip("no .venv-engine here: make setup-engine")
    if not cluster.direct:
        pytest.skip("the nodes of a given cluster do not see this machine's .venv-engine")
    folder = layout.here().home / f"engine-{os.getpid()}"
    folder.mkdir(parents=True)
    weights = store.locate(smollm2.SPEC, os.environ)
    for source, name in ((PACKAGES, "packages"), (weights, "smollm2")):
        subprocess.run(["cp", "--archive", "--link", source, folder / name], check=True)
    # What vLLM's CPU backend is linked with and a small Debian lacks.
    (folder / "libraries").mkdir()
    for library in LIBRARIES.glob("libnuma.so.1"):
        shutil.copy(library, folder / "libraries")
    name = f"engine-{namespace}"
    claim = {"kind": "PersistentVolumeClaim", "namespace": namespace, "name": "engine"}
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    cluster.apply(
        namespace,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"apiVersion": "v1", **claim},
                # Not `local`: kubelet would hand the linked files to the pod's group.
                "hostPath": {"path": str(folder)},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "engine"},
            "spec": {
                **common,
                "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "proa-engine-key"},
            "stringData": {"engine.key": KEY},
        },
    )
    yield "engine"
    cluster.kubectl(
        "delete", "-n", namespace, "deployment", NAME, "--cascade=foreground", "--ignore-not-found"
    )
    cluster.kubectl("delete", "persistentvolume", name, "--wait=false")
    shutil.rmtree(folder)


def values(image: str, claim: str) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    return {
        "device": "cpu",
        "model": {
            "name": NAME,
            "alias": "smollm2",
            "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            "source": {"claim": claim, "path": "smollm2"},
        },
        "image": {"repository": repository, "tag": tag},
        "engine": {
            "maxModelLen": 2048,
            "enforceEager": True,
            "maxNumSeqs": 16,
            "command": ["/usr/bin/python3", "-m", "vllm.entrypoints.openai.api_server"],
        },
        "extraEnv": [
            {"name": "PYTHONPATH", "value": "/models/packages"},
            {"name": "LD_LIBRARY_PATH", "value": "/models/libraries"},
        ],
        "cpu": {"kvCacheGiB": 1},
        "resources": {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "7Gi"}},
        "startup": {"timeoutSeconds": 480},
        "drain": {"lingerSeconds": 5, "timeoutSeconds": 10},
    }


@pytest.mark.engine
def test_real_vllm_answers_in_a_pod(
    cluster: Cluster,
    namespace: str,
    volume: str,
    image: str,
    report: Report,
) -> None:
    begun = time.monotonic()
    install(cluster, 4, "vllm", "smollm2", namespace, values(image, volume), deadline=500)
    seconds = time.monotonic() - begun
    found = cluster.get(namespace, "configmap", selector="proa.dev/engine")[0]
    identity = found["metadata"]["labels"]["proa.dev/engine"]
    url = cluster.address(namespace, NAME, 8000)
    question = {"role": "user", "content": "What is the capital of France? Answer in one word."}
    body = {"model": identity, "messages": [question], "max_tokens": 12, "temperature": 0}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        answered = client.post("/v1/chat/completions", json=body)
        assert answered.status_code == 200, answered.text
        assert "Paris" in answered.json()["choices"][0]["message"]["content"]
        wrong = client.post("/v1/chat/completions", json={**body, "model": "eng-another"})
        assert wrong.status_code == 404
    done = cluster.helm(4, "test", "smollm2", "-n", namespace, "--logs")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report.add("real vLLM in a pod until Ready", seconds, "s")
