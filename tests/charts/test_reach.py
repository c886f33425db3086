"""Who reaches whom, as the rendered policies say: user → gateway → models, assistant → engine door.

A NetworkPolicy is evaluated as its API says, both directions, over every pod of the four charts,
in three namespaces: where a cluster has no policy engine, this is what is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.charts import render
from tests.charts.render import Object

SYSTEM, MODELS, ENGINES, ELSEWHERE = "proa-system", "proa-models", "proa-engines", "elsewhere"


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]
    ports: dict[str, int]


def installed() -> list[tuple[str, Object]]:
    """Everything that the four charts render, each in its namespace."""
    here = {"namespaces": {"models": [MODELS], "engines": [ENGINES]}}
    bundled = {
        "postgres": {"existingSecret": "", "bundled": True},
        "prometheus": {"bundled": True},
        "features": {"enabled": True, "existingClaim": "feast"},
        "monitor": {"judge": {"engine": "judge-7b"}},
    }
    there = {"platform": {"namespace": SYSTEM}}
    features = {"platform": {"features": "http://proa-features.proa-system.svc:8080"}}
    found = []
    for chart, namespace, values in (
        ("proa", SYSTEM, render.over(here, bundled)),
        ("predictor", MODELS, render.over(there, features)),
        ("assistant", MODELS, there),
        ("vllm", ENGINES, there),
    ):
        given = render.over(render.least(chart), values)
        case = render.Case(chart, "reach", given, namespace=namespace)
        found += [(namespace, item) for item in render.objects(case)]
    return found


EVERYTHING = installed()
POLICIES = [(ns, item["spec"]) for ns, item in EVERYTHING if item["kind"] == "NetworkPolicy"]


def pod(component: str) -> Pod:
    """The pod of a component, as one of the charts renders it."""
    for namespace, item in EVERYTHING:
        for owner, found in render.pods([item]):
            labels = found["metadata"]["labels"]
            if labels["app.kubernetes.io/component"] == component and owner["kind"] != "Pod":
                listed = found["spec"]["containers"][0].get("ports", [])
                ports = {port["name"]: port["containerPort"] for port in listed}
                return Pod(namespace, labels, ports)
    raise AssertionError(f"no pod {component}")


STRANGER = Pod(ELSEWHERE, {"app": "shell"}, {})
NEIGHBOUR = Pod(MODELS, {"app": "shell"}, {})
CLIENT = Pod(ELSEWHERE, {"proa.dev/client": "true"}, {})


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    assert set(selector or {}) <= {"matchLabels"}, "nothing else is evaluated here"
    return bool((selector or {}).get("matchLabels", {}).items() <= labels.items())


def is_peer(peer: Object, own: str, other: Pod) -> bool:
    assert set(peer) <= {"podSelector", "namespaceSelector"}
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": other.namespace}
        if not matches(peer["namespaceSelector"], name):
            return False
    elif other.namespace != own:
        return False
    return matches(peer.get("podSelector"), other.labels)


def allows(direction: str, own: Pod, other: Pod, target: Pod, port: str) -> bool:
    """Whether `own`'s policies let it speak with `other`, at a port of `target`."""
    rules, isolated = [], False
    for namespace, spec in POLICIES:
        if namespace == own.namespace and matches(spec["podSelector"], own.labels):
            isolated |= direction.capitalize() in spec["policyTypes"]
            rules += spec[direction]
    if not isolated:
        return True
    ends: dict[str, Any] = {"ingress": "from", "egress": "to"}
    for rule in rules:
        peers = rule.get(ends[direction])
        ports = [item["port"] for item in rule.get("ports", [])]
        fits = not ports or port in ports or target.ports[port] in ports
        if fits and (not peers or any(is_peer(peer, own.namespace, other) for peer in peers)):
            return True
    return False


def reaches(source: Pod, target: Pod, port: str) -> bool:
    leaves = allows("egress", source, target, target, port)
    return leaves and allows("ingress", target, source, target, port)


PORTS = [
    (component, port)
    for component in ("gateway", "controller", "monitor", "mlflow", "features", "postgres")
    for port in pod(component).ports
] + [(component, port) for component in ("predictor", "assistant", "engine", "prometheus")
     for port in pod(component).ports]  # fmt: skip


@pytest.mark.parametrize("source", [STRANGER, NEIGHBOUR], ids=["stranger", "neighbour"])
@pytest.mark.parametrize(("component", "port"), PORTS)
def test_an_unlabelled_pod_reaches_the_user_door_alone(
    source: Pod, component: str, port: str
) -> None:
    wanted = (component, port) == ("gateway", "http")
    assert reaches(source, pod(component), port) is wanted


ALLOWED = {
    ("gateway", "predictor", "http"),
    ("gateway", "assistant", "http"),
    ("gateway", "engine", "http"),
    ("gateway", "postgres", "postgres"),
    ("predictor", "monitor", "http"),
    ("predictor", "features", "http"),
    ("assistant", "monitor", "http"),
    ("assistant", "gateway", "engine"),
    ("controller", "gateway", "http"),
    ("controller", "mlflow", "http"),
    ("controller", "postgres", "postgres"),
    ("controller", "monitor", "http"),
    ("monitor", "postgres", "postgres"),
    ("monitor", "gateway", "engine"),  # the sampled judge of answers
    ("mlflow", "postgres", "postgres"),
    ("migrate", "postgres", "postgres"),
    *(("prometheus", part, "metrics") for part in ("gateway", "controller", "monitor")),
    *(("prometheus", part, "metrics") for part in ("predictor", "assistant")),
    ("prometheus", "engine", "http"),
}


def test_parts_reach_what_they_need_and_nothing_else() -> None:
    components = [c for c, _ in PORTS] + ["migrate", "secrets"]
    found = {
        (source, target, port)
        for source in dict.fromkeys(components)
        for target, port in PORTS
        if source != target and reaches(pod(source), pod(target), port)
    }
    assert found == ALLOWED


def test_a_client_of_the_platform_reaches_its_parts_and_no_model() -> None:
    found = {
        (component, port) for component, port in PORTS if reaches(CLIENT, pod(component), port)
    }
    parts = ("gateway", "controller", "monitor", "mlflow", "features", "prometheus")
    assert found == {(part, "http") for part in parts}
