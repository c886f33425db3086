"""Small real releases of both kinds for a cluster, and their way into its bundle store.

The model is trained here, the index is made here, and both prove themselves in the cluster's own
images. Faked: the embedder's numbers (`tests/standins/embedder.py`), so that no weights of 90 MB
travel. A claim is filled through a pod that mounts it: any cluster can do that.
"""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from proa.release.bundle import BundleStore
from proa.release.transfer import copy_release
from tests import classic_release
from tests.classic_release import Built
from tests.cluster.access import Cluster
from tests.services.assistant.conftest import Bundled, make_release

__all__ = ["classic", "fill_claim", "llm", "store_of"]

CLASSIC = "flight-delay"
LLM = "python-help"


def classic(folder: Path, *, version: int = 1, trees: int = 12) -> Built:
    """A classic release `flight-delay/VERSION` in `folder/store`; other trees, another release."""
    return classic_release.build(folder, version=version, trees=trees)


def llm(
    folder: Path, *, identity: str | None = None, version: int = 1, top_p: float = 1.0
) -> Bundled:
    """A release `python-help/VERSION` in `folder/bundles`, its weights in the same store.

    Args:
        identity: the engine's; the usual stand-in's when None.
        top_p: another one makes another release.
    """

    def change(_: Path, manifest: dict[str, Any]) -> None:
        if identity is not None:
            manifest["llm"]["engine"]["identity"] = identity
        manifest["llm"]["sampling"]["top_p"] = top_p

    made = make_release(folder, change=change, version=version)
    BundleStore(made.store).put_weights(made.weights / "standin-1")
    return made


def store_of(folder: Path, releases: Iterable[Built | Bundled]) -> BundleStore:
    """One store with all of them, as a bucket or a claim has them."""
    store = BundleStore(folder)
    for made in releases:
        own = made.store if isinstance(made.store, BundleStore) else BundleStore(made.store)
        copy_release(made.ref.digest, own, store)
    return store


def fill_claim(cluster: Cluster, namespace: str, claim: str, folder: Path, *, image: str) -> None:
    """Copy what lies in `folder` to the root of a claim.

    Args:
        image: any with `python`, as proa's own.
    """
    name = f"fill-{claim}"
    cluster.apply(namespace, _filler(name, claim, image))
    try:
        cluster.kubectl(
            *("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=120s"),
            deadline=130,
        )
        # What is there stays: content is named by its digest, and nobody may write over it.
        unpack = (
            "import base64,io,os,sys,tarfile\n"
            "tar = tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.stdin.read())))\n"
            "for member in tar:\n"
            "    if not os.path.exists(f'/claim/{member.name}'):\n"
            "        tar.extract(member, '/claim')\n"
        )
        cluster.kubectl(
            *("exec", "-n", namespace, "-i", name, "--", "python", "-c", unpack),
            given=_packed(folder),
        )
    finally:
        cluster.kubectl("delete", "pod", "-n", namespace, name, "--now", "--ignore-not-found")


def _packed(folder: Path) -> str:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return base64.b64encode(data.getvalue()).decode()


def _filler(name: str, claim: str, image: str) -> dict[str, Any]:
    container = {
        "name": "fill",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", "import signal; signal.pause()"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
