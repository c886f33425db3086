"""The lane's cluster: one for all tests, with images, namespaces and a report."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster import choice, images, layout, node
from tests.cluster.access import Cluster
from tests.cluster.loading import Destination
from tests.cluster.report import Report

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where no cluster can be, one test says so and the others are left out; CI ends there."""
    here = Path(__file__).parent
    mine = [item for item in items if item.path.is_relative_to(here)]
    for item in mine:
        # Pods take their time; what builds and starts them, in fixtures, is not timed at all.
        item.add_marker(pytest.mark.timeout(600, func_only=True))
    reason = choice.missing(os.environ) if mine else None
    if reason is None:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.exit(reason, returncode=1)
    mine[0].add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=mine[1:])
    left_out = set(mine[1:])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def _chosen(pytestconfig: pytest.Config) -> Iterator[tuple[Cluster, Destination]]:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        with capture.global_and_fixture_disabled():
            chosen = stack.enter_context(choice.cluster(os.environ))
        yield chosen


@pytest.fixture(scope="session")
def cluster(_chosen: tuple[Cluster, Destination]) -> Cluster:
    """A cluster: the one of KUBECONFIG, kind's, or one of our own."""
    return _chosen[0]


@pytest.fixture(scope="session")
def images_of(
    _chosen: tuple[Cluster, Destination], pytestconfig: pytest.Config
) -> Callable[..., dict[str, str]]:
    """`images_of("gateway", …)` builds and loads images, and returns their names."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def provide(*names: str) -> dict[str, str]:
        with capture.global_and_fixture_disabled():
            return images.provide(names, _chosen[1])

    return provide


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace under Pod Security `restricted`, removed after the test."""
    with cluster.namespace() as name:
        yield name


@pytest.fixture
def namespaces(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """`namespaces("models")` makes one more like `namespace`; all are removed after the test."""
    with ExitStack() as stack:
        yield lambda prefix: stack.enter_context(cluster.namespace(prefix=prefix))


@pytest.fixture
def restart_api_server(cluster: Cluster) -> Callable[..., None]:
    """`restart_api_server(pause=0.0)`: killed, and started again after so many seconds."""
    if not cluster.direct:
        pytest.skip("the API server of a given cluster is not ours to restart")
    return functools.partial(node.restart_api_server, layout.here())


@pytest.fixture(scope="session")
def report() -> Report:
    """Rows of `build/cluster/report.md`."""
    return Report(ROOT / "build/cluster")
