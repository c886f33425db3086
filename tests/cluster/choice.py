"""Which cluster the tests run on: the one given, kind's, or one of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests import go
from tests.cluster import kubernetes, node, packages
from tests.cluster import layout as at
from tests.cluster.access import Cluster
from tests.cluster.loading import Containerd, Destination, Kind, Registry


def missing(environ: Mapping[str, str]) -> str | None:
    """Why there can be no cluster here, in one line; None when there can."""
    if environ.get("KUBECONFIG"):
        return None if shutil.which("kubectl") or not go.missing() else "there is no kubectl"
    if _kind_works() or node.running(at.here()):
        return None
    return packages.missing() or go.missing()


@contextmanager
def cluster(environ: Mapping[str, str]) -> Iterator[tuple[Cluster, Destination]]:
    """The cluster and the way by which images reach it, for the time of this block.

    Raises:
        RuntimeError: it does not start, or a given one has no way for images.
    """
    given = environ.get("KUBECONFIG")
    registry = environ.get("PROA_TEST_REGISTRY")
    if given and not _is_own(Path(given)):
        made = Cluster(Path(given), _kubectl(), direct=False)
        with _closing(made):
            yield made, Registry(registry) if registry else Kind(_kind_of(made))
    elif not given and _kind_works():
        with _kind() as file:
            made = Cluster(file, _kubectl(), direct=False)
            with _closing(made):
                yield made, Kind(file.stem)
    else:
        with _own() as file:
            made = Cluster(file, str(kubernetes.folder() / "kubectl"), direct=True)
            with _closing(made):
                yield made, Containerd(at.here())


def _is_own(given: Path) -> bool:
    """Whether this is the kubeconfig, or a copy of it, that `python -m tests.cluster up` made."""
    ours = at.here().kubeconfig
    return node.running(at.here()) and given.read_bytes() == ours.read_bytes()


@contextmanager
def _own() -> Iterator[Path]:
    """The one that `python -m tests.cluster up` left running, else a new one."""
    layout = at.here()
    if node.running(layout):
        yield layout.kubeconfig
        return
    with node.started(layout):
        yield layout.kubeconfig


@contextmanager
def _kind() -> Iterator[Path]:
    name = f"proa-test-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        create = ["kind", "create", "cluster", "--name", name, "--kubeconfig", str(file)]
        try:
            subprocess.run([*create, "--wait", "120s"], check=True)
            yield file
        finally:
            subprocess.run(["kind", "delete", "cluster", "--name", name], check=False)


def _kind_works() -> bool:
    if not (shutil.which("kind") and shutil.which("docker")):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _kind_of(given: Cluster) -> str:
    view = given.kubectl("config", "view", "--minify", "-o", "json")
    name = str(json.loads(view)["clusters"][0]["name"])
    if not name.startswith("kind-"):
        raise RuntimeError(
            f"the cluster {name} is not kind's: set PROA_TEST_REGISTRY to a registry that this "
            "machine can push to and its nodes can pull from"
        )
    return name.removeprefix("kind-")


def _kubectl() -> str:
    return shutil.which("kubectl") or str(kubernetes.folder() / "kubectl")


@contextmanager
def _closing(made: Cluster) -> Iterator[None]:
    try:
        yield
    finally:
        made.close()
