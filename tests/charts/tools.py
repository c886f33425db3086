"""The tools this lane needs, built from Go modules once and kept outside the work tree.

`path("helm-3")` builds what is missing into `~/.cache/proa/tools/NAME-VERSION` (PROA_CACHE and
XDG_CACHE_HOME move it) and says so on standard error. Modules come through the Go client, as it is
configured on this machine, and are verified by its checksum database.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.charts import schemas

OLDEST, NEWEST = "1.32.13", "1.36.3"
"""Kubernetes: the oldest and the newest version that the charts support."""


@dataclass(frozen=True)
class Tool:
    """A command in a Go module.

    Attributes:
        package: what is built; its last element is the command's name.
        module: the module it comes in.
        own_module: build inside a module of our own, for those whose go.mod has directives that
            `go install package@version` refuses.
        tags: build tags.
        source: a folder beside this file with a main.go of our own, which uses the module.
    """

    version: str
    package: str
    module: str
    own_module: bool = False
    tags: str = ""
    source: str = ""


TOOLS = {
    "helm-3": Tool("3.22.0", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3"),
    "helm-4": Tool("4.3.1", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4"),
    "kubeconform": Tool(
        "0.8.0", "github.com/yannh/kubeconform/cmd/kubeconform", "github.com/yannh/kubeconform"
    ),
    "promtool": Tool(
        "0.311.3",
        "github.com/prometheus/prometheus/cmd/promtool",
        "github.com/prometheus/prometheus",
        own_module=True,
        # Without the clouds whose machines a Prometheus can discover: most of its code.
        tags="remove_all_sd",
    ),
    "podsecurity": Tool(
        "0.36.3",
        "podsecurity",
        "k8s.io/pod-security-admission",
        own_module=True,
        source="podsecurity",
    ),
}
CRDS = {
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_p[or]*m[oe]*s.yaml"
    ),
    "sigs.k8s.io/gateway-api@v1.6.3": "config/crd/standard/*_[gh]*.yaml",
}


def missing() -> str | None:
    """Why nothing can be built here, in one line; None when it can."""
    folders = [cache() / f"{t.package.rpartition('/')[2]}-{t.version}" for t in TOOLS.values()]
    if shutil.which("go") or all(folder.is_dir() for folder in folders):
        return None
    return "Go is not installed and builds this lane's tools: the charts are not checked"


def path(name: str) -> Path:
    """The command, built when it is not there yet.

    Raises:
        RuntimeError: it cannot be built; the message has the last lines of the compiler.
    """
    tool = TOOLS[name]
    command = tool.package.rpartition("/")[2]
    folder = cache() / f"{command}-{tool.version}"
    with _built(folder) as staging:
        if staging is not None:
            _build(tool, staging)
    return folder / command


def kubernetes_schemas(version: str) -> Path:
    """A folder with a strict JSON schema for every kind of this Kubernetes version."""
    folder = cache() / f"kubernetes-schemas-{version}"
    with _built(folder) as staging:
        if staging is not None:
            with _module(f"k8s.io/kubernetes@v{version}") as module:
                swagger = json.loads((module / "api/openapi-spec/swagger.json").read_text())
            _write(staging, schemas.of_swagger(swagger))
    return folder


def crd_schemas() -> Path:
    """The same for the kinds that others define: KEDA, Prometheus operator, Gateway API."""
    key = "-".join(module.rpartition("@v")[2] for module in CRDS)
    folder = cache() / f"crd-schemas-{key}"
    with _built(folder) as staging:
        if staging is not None:
            for name, pattern in CRDS.items():
                with _module(name) as module:
                    for file in sorted(module.glob(pattern)):
                        _write(staging, schemas.of_crd(yaml.safe_load(file.read_text())))
    return folder


def cache() -> Path:
    """Where what was built is kept."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PROA_CACHE") or home / "proa") / "tools"


def _build(tool: Tool, staging: Path) -> None:
    flags = ["-trimpath", "-ldflags", "-s -w"]
    if not tool.own_module:
        _go(["install", *flags, f"{tool.package}@v{tool.version}"], {"GOBIN": str(staging)})
        return
    wanted, built = f"{tool.package}@v{tool.version}", tool.package
    with tempfile.TemporaryDirectory() as folder:
        if tool.source:
            shutil.copy(Path(__file__).parent / tool.source / "main.go", folder)
            wanted, built = f"{tool.module}@v{tool.version}", "."
        _go(["mod", "init", "built"], {}, folder)
        _go(["get", wanted], {}, folder)
        output = staging / tool.package.rpartition("/")[2]
        _go(["build", *flags, "-tags", tool.tags, "-o", str(output), built], {}, folder)


@contextmanager
def _module(name: str) -> Iterator[Path]:
    """The files of `module@version`, gone afterwards: one of them has 300 MB."""
    with tempfile.TemporaryDirectory() as folder:
        answer = _go(
            ["mod", "download", "-modcacherw", "-json", name], {"GOMODCACHE": folder}, folder
        )
        yield Path(json.loads(answer)["Dir"])


def _go(arguments: list[str], env: dict[str, str], folder: str | None = None) -> str:
    """Run go at low priority: others use this machine too."""
    wanted = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=mod", "GOWORK": "off"}
    if arguments[0] == "mod" or "GOBIN" in env:
        wanted["GOFLAGS"] = "-buildvcs=false"
    done = subprocess.run(
        ["nice", "-n", "10", "go", *arguments],
        env={**os.environ, **wanted, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise RuntimeError(f"go {' '.join(arguments)} failed:\n{last}")
    return done.stdout


@contextmanager
def _built(folder: Path) -> Iterator[Path | None]:
    """A folder to build into, which becomes `folder`; None when it is there already."""
    if folder.is_dir():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield None
            return
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        print(f"==> building {folder.name} (once)", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            yield staging
            staging.chmod(0o755)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        seconds = time.monotonic() - begun
        print(f"==> {folder.name} is ready ({seconds:.0f} s)", file=sys.stderr, flush=True)


def _write(folder: Path, made: dict[str, Any]) -> None:
    for name, schema in made.items():
        (folder / f"{name}.json").write_text(json.dumps(schema, separators=(",", ":")))
