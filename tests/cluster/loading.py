"""How images that buildah holds reach a cluster: our own containerd, kind's node, or a registry."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Protocol

from tests.cluster import node
from tests.cluster.layout import Layout

HUB = "docker.io/library/"


class Destination(Protocol):
    """Where a cluster finds images."""

    name: str
    """Distinguishes it from others in what is remembered about loaded images."""

    def has(self, name: str) -> bool:
        """Whether the image is still there, once it was loaded; `name` as charts write it."""
        ...

    def load(self, reference: str) -> None:
        """Bring an image of buildah there; the registry in front of its name is replaced."""
        ...


class Containerd:
    """The containerd of a cluster of our own."""

    def __init__(self, layout: Layout) -> None:
        self.name = str(layout.images)
        self._control = node.control(layout)
        self._room = layout.home

    def has(self, name: str) -> bool:
        return f"{HUB}{name}" in _run(*self._control, "images", "ls", "-q").split()

    def load(self, reference: str) -> None:
        """Layers that containerd has already do not travel again."""
        with tempfile.TemporaryDirectory(dir=self._room) as folder:
            layout = Path(folder) / "oci"
            name = reference.partition("/")[2]
            _run("buildah", "push", "-q", "-D", reference, f"oci:{layout}:{name}")
            archive = Path(folder) / "image.tar"
            self._pack(layout, archive)
            _run(*self._control, "images", "import", str(archive))

    def _pack(self, layout: Path, archive: Path) -> None:
        index = json.loads((layout / "index.json").read_text())
        for manifest in index["manifests"]:
            name = manifest["annotations"]["org.opencontainers.image.ref.name"]
            manifest["annotations"] = {"io.containerd.image.name": HUB + name}
        (layout / "index.json").write_text(json.dumps(index))
        have = set(_run(*self._control, "content", "ls", "-q").split())
        with tarfile.open(archive, "w") as tar:
            tar.add(layout / "oci-layout", "oci-layout")
            tar.add(layout / "index.json", "index.json")
            for blob in sorted((layout / "blobs/sha256").iterdir()):
                if f"sha256:{blob.name}" not in have:
                    tar.add(blob, f"blobs/sha256/{blob.name}")


class Kind:
    """The nodes of a cluster that kind made."""

    def __init__(self, cluster: str) -> None:
        self.name = f"kind:{cluster}"
        self._cluster = cluster

    def has(self, name: str) -> bool:
        node_name = _run("kind", "get", "nodes", "--name", self._cluster).split()[0]
        told = _run("docker", "exec", node_name, "crictl", "images", "-o", "json")
        return any(f"{HUB}{name}" in image["repoTags"] for image in json.loads(told)["images"])

    def load(self, reference: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "image.tar"
            name = reference.partition("/")[2]
            _run("buildah", "push", "-q", reference, f"docker-archive:{file}:{HUB}{name}")
            _run("kind", "load", "image-archive", str(file), "--name", self._cluster)


class Registry:
    """A registry that the cluster pulls from, given as PROA_TEST_REGISTRY."""

    def __init__(self, address: str) -> None:
        self.name = address
        self._address = address

    def has(self, name: str) -> bool:
        # A registry that lost what was pushed says so when a node pulls it.
        return True

    def load(self, reference: str) -> None:
        name = reference.partition("/")[2]
        _run("buildah", "push", "-q", reference, f"docker://{self._address}/{name}")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} …: {done.stderr.strip()[-2000:]}")
    return done.stdout
