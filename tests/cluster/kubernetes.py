"""Kubernetes' own commands, built from its Go module once and kept outside the work tree."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path

from tests import go

VERSION = "1.34.4"
COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)


def folder() -> Path:
    """The folder with the six commands; about six minutes on two cores when it is not there yet.

    Raises:
        RuntimeError: a command cannot be built; with the last lines of the compiler.
    """
    built = go.cache() / f"kubernetes-{VERSION}"
    with go.once(built, "once; about six minutes") as staging:
        if staging is not None:
            _build(staging)
    return built


def pause() -> Path:
    """A static command that holds a pod's namespaces open."""
    built = go.cache() / "pause-1"
    with go.once(built) as staging:
        if staging is not None:
            source = Path(__file__).parent / "pause/main.go"
            go.run(["build", "-ldflags", "-s -w", "-o", str(staging / "pause"), str(source)], {})
    return built / "pause"


def _build(staging: Path) -> None:
    env = {"GOFLAGS": "-buildvcs=false -mod=mod"}
    with tempfile.TemporaryDirectory() as name:
        module = Path(name)
        (module / "go.mod").write_text(_module_file())
        imports = "\n".join(f'\t_ "k8s.io/kubernetes/cmd/{command}"' for command in COMMANDS)
        (module / "built.go").write_text(
            f"//go:build built\n\npackage built\n\nimport (\n{imports}\n)\n"
        )
        go.run(["mod", "tidy", "-e"], env, module)
        for command in COMMANDS:
            begun = time.monotonic()
            flags = ["-trimpath", "-ldflags", _linker_flags(), "-o", str(staging / command)]
            go.run(["build", *flags, f"k8s.io/kubernetes/cmd/{command}"], env, module)
            seconds = time.monotonic() - begun
            print(f"    {command} ({seconds:.0f} s)", file=sys.stderr, flush=True)


def _module_file() -> str:
    """Our go.mod: Kubernetes, and its staged modules at the version it was released with.

    Kubernetes' own file points them at folders of its source, which a module cannot do.
    """
    wanted = ["mod", "download", "-json", f"k8s.io/kubernetes@v{VERSION}"]
    theirs = Path(json.loads(go.run(wanted, {}))["GoMod"]).read_text()
    staged = sorted(set(re.findall(r"^\s+(k8s\.io/[a-z-]+) v0\.0\.0$", theirs, re.M)))
    assert staged, "go.mod of k8s.io/kubernetes names no staged modules"
    version = f"v0.{VERSION.partition('.')[2]}"
    lines = [f"replace {name} => {name} {version}" for name in staged]
    head = f"module built\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v{VERSION}\n"
    return "\n".join([head, *lines, ""])


def _linker_flags() -> str:
    major, minor, _ = VERSION.split(".")
    version = "k8s.io/component-base/version"
    set_to = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X {version}.{key}={value}" for key, value in set_to.items())])
