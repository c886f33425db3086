"""The provisioner of the storage class `standard`: a folder of this machine for every claim.

A process of the node: `python -m tests.cluster.volumes`. It watches claims and volumes and does
nothing between their changes.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

from tests.cluster import layout as at
from tests.cluster import node
from tests.cluster.layout import Layout

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"


def serve(layout: Layout) -> None:
    """Make a volume for every claim and remove it with its claim, for ever."""
    while True:
        try:
            # A new watch begins with everything that is there.
            for event in node.watch(layout, f"{CLAIMS}?watch=true&timeoutSeconds=300"):
                if event["type"] in ("ADDED", "MODIFIED"):
                    _provide(layout, event["object"])
                elif event["type"] == "DELETED":
                    _remove_released(layout)
        except OSError:
            # The API server is away, as in a test that restarts it.
            time.sleep(0.5)


def _provide(layout: Layout, claim: dict[str, Any]) -> None:
    spec, meta = claim["spec"], claim["metadata"]
    if spec.get("storageClassName") != "standard" or spec.get("volumeName"):
        return
    name = f"folder-{meta['uid']}"
    folder = layout.volumes / name
    folder.mkdir(parents=True, exist_ok=True)
    reference = {key: meta[key] for key in ("name", "namespace", "uid")}
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [at.NODE]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "storageClassName": "standard",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
            # kubelet hands it to the pod's group, as it does with a disk of a cloud.
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    }
    node.create(layout, VOLUMES, volume)


def _remove_released(layout: Layout) -> None:
    claims = _items(layout, CLAIMS)
    wanted = {claim["metadata"]["uid"] for claim in claims}
    for volume in _items(layout, VOLUMES):
        name = volume["metadata"]["name"]
        if name.startswith("folder-") and name.removeprefix("folder-") not in wanted:
            node.create(layout, f"{VOLUMES}/{name}", {}, method="DELETE")
            shutil.rmtree(layout.volumes / name, ignore_errors=True)


def _items(layout: Layout, path: str) -> list[dict[str, Any]]:
    answer = node.ask(layout, path)
    if answer is None:
        raise ConnectionError(f"GET {path} is not answered")
    found: list[dict[str, Any]] = json.loads(answer)["items"]
    return found


if __name__ == "__main__":
    serve(at.here())
