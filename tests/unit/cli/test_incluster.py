"""`kubectl proa`: which platform is meant, from what kubectl lists.

Faked: kubectl, by a script that prints what a real one printed; tests/cluster has the real one.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.cli.incluster import Reach, parts_of
from proa.errors import Conflict, Forbidden, NotFound, Unavailable


def service(name: str, part: str, *, namespace: str = "proa", **spec: Any) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/part-of": "proa",
        "app.kubernetes.io/instance": namespace,
        "app.kubernetes.io/component": part,
    }
    ports = [{"name": "http", "port": 8080}]
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "spec": {"clusterIP": "10.0.0.1", "ports": ports, **spec}}


PLATFORM = [
    service("proa-gateway", "gateway"),
    service("proa-gateway-pods", "gateway", clusterIP="None"),
    service("proa-controller", "controller"),
    service("flight-delay", "predictor"),
]


class Kubectl:
    """A script that answers `get` from files, and plays a port-forward that says its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "kubectl"
        self.path.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {folder}/asked\n'
            'if [ "$1" = port-forward ]; then\n'
            '  echo "Forwarding from 127.0.0.1:45678 -> 8080"; exec sleep 60\n'
            "fi\n"
            f'file="{folder}/$2"; case "$3" in -*) ;; *) file="$file-$3";; esac\n'
            'case " $* " in *" -A "*) file="$file-all";; esac\n'
            'if [ -f "$file" ]; then cat "$file"; exit; fi\n'
            f'if [ -f "{folder}/denied" ]; then\n'
            '  echo "Error from server (Forbidden): $2 is forbidden" >&2; exit 1\n'
            "fi\n"
            'echo "Error from server (NotFound): $2 not found" >&2; exit 1\n'
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    def has(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value))

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()

    def reach(self, namespace: str | None = None, **environ: str) -> Reach:
        return Reach(namespace, environ, kubectl=str(self.path))


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    return Kubectl(tmp_path)


def test_the_parts_that_a_verb_needs_are_forwarded_and_ended(kubectl: Kubectl) -> None:
    kubectl.has("services", {"items": PLATFORM})
    reach = kubectl.reach("proa", PROA_KEY="proa_mine")
    file = reach.open(parts_of("predict"))
    value = yaml.safe_load(file.read_text())
    assert value["gateway"] == "http://127.0.0.1:45678"
    assert value["controller"] == "http://127.0.0.1:9"
    assert (file.parent / "key").read_text() == "proa_mine"
    assert (file.parent / "key").stat().st_mode & 0o077 == 0
    forwards = [line for line in kubectl.asked if line.startswith("port-forward")]
    assert forwards == ["port-forward service/proa-gateway :8080 -n proa --address 127.0.0.1"]
    processes = list(reach._forwards)
    reach.close()
    assert not file.exists()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_the_controller_that_leads_is_reached(kubectl: Kubectl) -> None:
    kubectl.has("services", {"items": PLATFORM})
    kubectl.has("lease-proa-controller", {"spec": {"holderIdentity": "proa-controller-abc_1"}})
    kubectl.has("pod-proa-controller-abc", {})
    reach = kubectl.reach(PROA_KEY="k")
    try:
        reach.open(("controller",))
        assert [line.split()[1] for line in kubectl.asked if "port-forward" in line] == [
            "pod/proa-controller-abc"
        ]
    finally:
        reach.close()


def test_it_looks_in_kubectls_namespace_and_then_everywhere(kubectl: Kubectl) -> None:
    kubectl.has("services", {"items": []})
    kubectl.has("services-all", {"items": PLATFORM})
    reach = kubectl.reach(PROA_KEY="k")
    try:
        reach.open(())
    finally:
        reach.close()
    assert [line for line in kubectl.asked if line.startswith("get services")] == [
        "get services -l app.kubernetes.io/part-of=proa -o json",
        "get services -l app.kubernetes.io/part-of=proa -A -o json",
    ]


def test_none_two_and_not_allowed(kubectl: Kubectl) -> None:
    kubectl.has("services", {"items": [service("flight-delay", "predictor")]})
    with pytest.raises(NotFound, match="no platform of proa in namespace there"):
        kubectl.reach("there").open(())
    two = [service("c", "controller", namespace=name) for name in ("test", "prod")]
    kubectl.has("services", {"items": two})
    with pytest.raises(NotFound, match="2 platforms in this cluster: prod in prod, test in test"):
        kubectl.reach().open(())
    (kubectl.folder / "services").unlink()
    (kubectl.folder / "denied").touch()
    with pytest.raises(Forbidden, match="services is forbidden") as raised:
        kubectl.reach("prod").open(())
    assert raised.value.hint == "name a namespace you may use with -n"


def test_the_key_is_mine_or_the_administrators_if_i_may_read_it(kubectl: Kubectl) -> None:
    kubectl.has("services", {"items": PLATFORM})
    with pytest.raises(Conflict, match="the Secret proa-admin-key in proa cannot be read"):
        kubectl.reach().open(())
    data = {"admin.key": base64.b64encode(b"proa_admin\n").decode()}
    kubectl.has("secret-proa-admin-key", {"data": data})
    reach = kubectl.reach()
    try:
        assert (reach.open(()).parent / "key").read_text() == "proa_admin"
    finally:
        reach.close()


def test_what_the_platform_says_of_itself(kubectl: Kubectl) -> None:
    kubectl.has("services", {"items": PLATFORM})
    args = ["--port=8080", "--bundles=s3://bundles/proa"]
    spec = {"template": {"spec": {"containers": [{"args": args}]}}}
    kubectl.has("deployment-proa-controller", {"spec": spec})

    def bundles() -> Any:
        reach = kubectl.reach(PROA_KEY="k")
        try:
            return yaml.safe_load(reach.open(()).read_text())
        finally:
            reach.close()

    assert bundles()["bundles"] == "s3://bundles/proa"
    stated = {
        "bundles": "file:///bundles",
        "pipelines": {"url": "http://kfp"},
        "gateway": "http://x",
    }
    kubectl.has("configmap-proa-platform", {"data": {"platform.yaml": yaml.safe_dump(stated)}})
    found = bundles()
    assert found["bundles"] == ""  # a folder in a pod is no folder here
    assert found["pipelines"] == {"url": "http://kfp"}
    assert found["gateway"] == "http://127.0.0.1:9"


def test_no_kubectl_and_a_forward_that_fails(kubectl: Kubectl, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="kubectl: No such file"):
        Reach(None, {}, kubectl=str(tmp_path / "no" / "kubectl")).open(())
    kubectl.has("services", {"items": PLATFORM})
    text = kubectl.path.read_text()
    kubectl.path.write_text(
        text.replace(
            '  echo "Forwarding from 127.0.0.1:45678 -> 8080"; exec sleep 60\n',
            '  echo "error: unable to forward port because pod is not running"; exit 1\n',
        )
    )
    reach = kubectl.reach(PROA_KEY="k")
    try:
        with pytest.raises(Unavailable, match="to the gateway: error: unable to forward port"):
            reach.open(("gateway",))
    finally:
        reach.close()
