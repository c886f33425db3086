"""Kubernetes' own Pod Security code admits every pod at `restricted`, without a warning."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Sequence

import pytest

from tests import tools
from tests.charts import render


def forbidden(pods: Sequence[render.Object]) -> list[list[str]]:
    """What the policy of `restricted`, newest version, says against each pod."""
    asked = [{"metadata": {"name": "pod"}, "spec": pod["spec"]} for pod in pods]
    done = subprocess.run(
        [str(tools.path("podsecurity"))],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    assert len(found) == len(pods)
    return found


def test_every_pod_of_every_case_is_admitted() -> None:
    names, pods = [], []
    for case in render.cases():
        for owner, pod in render.pods(render.objects(case)):
            names.append(f"{case}: {owner['kind']} {owner['metadata']['name']}")
            pods.append(pod)
    assert len(pods) > 50
    refused = {name: said for name, said in zip(names, forbidden(pods), strict=True) if said}
    assert not refused


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["securityContext", "runAsNonRoot"], False, "runAsNonRoot"),
        (["securityContext", "seccompProfile"], {"type": "Unconfined"}, "seccompProfile"),
        (["hostNetwork"], True, "host namespaces"),
        (["volumes"], [{"name": "h", "hostPath": {"path": "/"}}], "volume types"),
    ],
)
def test_a_pod_that_asks_for_more_is_refused(path: list[str], value: object, says: str) -> None:
    """The check above would be green over a policy that admits everything."""
    case = render.Case("predictor", "least", render.least("predictor"))
    _, pod = next(render.pods(render.objects(case)))
    pod = copy.deepcopy(pod)
    node = pod["spec"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    for container in render.containers(pod):
        if path[0] == "securityContext":
            del container["securityContext"][path[1]]
    assert says in " ".join(forbidden([pod])[0])
