"""Every image as the charts run it: restricted, as user 10001, on a root that nobody can write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import images
from tests.cluster.access import Cluster
from tests.cluster.report import Report

# Runs inside the image, with the standard library alone.
PROBE = """
import importlib, importlib.util, json, os, pathlib, pkgutil, shutil, subprocess, sys, time
module = sys.argv[1]
ours = ("flight_delay", "python_help", "story")
found = [m.name for m in pkgutil.iter_modules() if m.name.startswith("proa") or m.name in ours]
def writes(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
        return True
    except OSError:
        return False
def zone(name):
    from zoneinfo import ZoneInfo
    try:
        return str(ZoneInfo(name))
    except Exception as error:
        return repr(error)
def run(*command):
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    return {"rc": done.returncode, "seconds": time.monotonic() - began,
            "said": (done.stdout + done.stderr)[-300:]}
def unimportable(name):
    broken, where = {}, list(importlib.import_module(name).__path__)
    for found in pkgutil.walk_packages(where, name + "."):
        if not found.name.endswith("__main__"):
            try:
                importlib.import_module(found.name)
            except Exception as error:
                broken[found.name] = repr(error)
    return broken
prefix = pathlib.Path(sys.prefix)
stale = [str(p) for p in (prefix / "lib").rglob("*.py")
         if p.stat().st_size and not (p.parent / "__pycache__").is_dir()][:3]
start = [module, "server", "--help"] if module == "mlflow" else ["python", "-m", module, "--help"]
tools = ("pip", "pip3", "uv", "gcc", "cc", "make", "git", "curl", "wget")
print(json.dumps({
    "packages": sorted(found),
    "user": [os.getuid(), os.getgid()],
    "writes": {path: writes(path) for path in ("/", "/opt/proa", "/usr", "/etc", "/tmp")},
    "home": os.path.expanduser("~"),
    "tools": [name for name in tools if shutil.which(name)],
    "installer": [m for m in ("pip", "ensurepip", "setuptools") if importlib.util.find_spec(m)],
    "uncompiled": stale,
    "zone": zone("America/New_York"),
    "unimportable": {} if module == "mlflow" else unimportable(module),
    "stores": [m for m in ("boto3",) if importlib.util.find_spec(m)],
    "first": run(*start),
    "help": run(*start),
}))
"""
# What is more than its own packages, and why.
INSTALLERS = {
    "pipelines": {"uv"},  # it builds the environments of releases with requirements
}
LIBRARIES_BRING = {"setuptools"}  # a dependency of some; without pip it installs nothing
ZONES = {"controller", "pipelines", "monitor", "mlflow"}  # freeze windows, projects' schedules


def pod(name: str, image: str, module: str) -> dict[str, Any]:
    """As `proa.pod` of the library chart makes it."""
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", PROBE, module],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


@pytest.mark.parametrize("service", images.SERVICES)
def test_an_image_holds_its_service_and_runs_restricted(
    service: str,
    cluster: Cluster,
    namespace: str,
    images_of: Callable[..., dict[str, str]],
    report: Report,
) -> None:
    """The user is the image's own: the pod does not say which."""
    image = images_of(service)[service]
    module = "mlflow" if service == "mlflow" else f"proa_{service}"
    cluster.apply(namespace, pod(service, image, module))

    def phase() -> Any:
        found = cluster.get(namespace, "pod", service)["status"]["phase"]
        return found if found in ("Succeeded", "Failed") else None

    ended = cluster.wait(phase, 300, f"pod {service}")
    said = cluster.kubectl("logs", "-n", namespace, service)
    assert ended == "Succeeded", said
    seen = json.loads(said.strip().splitlines()[-1])
    assert seen["first"]["rc"] == 0, seen["first"]["said"]
    assert seen["packages"] == ([] if service == "mlflow" else ["proa", f"proa_{service}"])
    assert seen["user"] == [10001, 10001]
    roots = dict.fromkeys(("/", "/opt/proa", "/usr", "/etc"), False)
    assert seen["writes"] == {**roots, "/tmp": True}
    assert seen["home"] == "/tmp"
    assert set(seen["tools"]) == INSTALLERS.get(service, set())
    assert set(seen["installer"]) <= LIBRARIES_BRING
    assert seen["uncompiled"] == []
    assert seen["unimportable"] == {}  # its lock has all that its modules import
    assert seen["stores"] == ([] if service == "gateway" else ["boto3"])
    if service in ZONES:
        assert seen["zone"] == "America/New_York"
    size = images.sizes([service])[image] / 1e6
    report.add(f"image {service}: size, base included", round(size), "MB", "base 126 MB")
    report.add(f"image {service}: --help, warm", round(seen["help"]["seconds"], 2), "s")
