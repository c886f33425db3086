"""Charts on a cluster: what a test installs, and what it renders there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.charts import render
from tests.cluster.access import Cluster, Object


def apply_everywhere(cluster: Cluster, objects: Sequence[Object]) -> None:
    """Create or change objects, each in the namespace it names."""
    cluster.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))


def install(
    cluster: Cluster,
    helm: int,
    chart: str,
    release: str,
    namespace: str,
    values: Mapping[str, Any],
    *more: str,
    deadline: float = 300,
) -> str:
    """`helm upgrade --install --wait`, and what it said.

    Raises:
        AssertionError: it failed; with its message and what the namespace's pods say.
    """
    done = cluster.helm(
        helm,
        *("upgrade", "--install", release, str(render.CHARTS / chart), "--namespace", namespace),
        *("--values", "-", "--wait", f"--timeout={deadline:g}s", *more),
        given=yaml.safe_dump(dict(values)),
        deadline=deadline + 60,
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, f"{said[-3000:]}\n{cluster.explain(namespace)}"
    return done.stdout
