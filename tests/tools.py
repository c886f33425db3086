"""The commands that tests need, built from Go modules once and kept outside the work tree.

`path("helm-3")` builds what is missing into `~/.cache/proa/tools/NAME-VERSION` and says so on
standard error. Modules come through the Go client, as it is configured on this machine, and are
verified by its checksum database.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import go


@dataclass(frozen=True)
class Tool:
    """A command in a Go module.

    Attributes:
        package: what is built; its last element is the command's name.
        module: the module it comes in.
        own_module: build inside a module of our own, for those whose go.mod has directives that
            `go install package@version` refuses.
        tags: build tags.
        source: a folder below tests/ with a main.go of our own, which uses the module.
        replaces: `module=other@version`: what its go.mod replaces, which ours must repeat.
    """

    version: str
    package: str
    module: str
    own_module: bool = False
    tags: str = ""
    source: str = ""
    replaces: str = ""


TOOLS = {
    "helm-3": Tool("3.22.0", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3"),
    "helm-4": Tool("4.3.1", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4"),
    "kubeconform": Tool(
        "0.8.0", "github.com/yannh/kubeconform/cmd/kubeconform", "github.com/yannh/kubeconform"
    ),
    "helm-unittest": Tool(
        "1.1.2",
        "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
        "github.com/helm-unittest/helm-unittest",
        own_module=True,
        replaces="github.com/vmware-labs/yaml-jsonpath=github.com/helm-unittest/yaml-jsonpath@v0.4.0",
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
        source="charts/podsecurity",
    ),
    # What the chart's bundled Prometheus runs: the one of Debian knows no Kubernetes.
    "prometheus": Tool(
        "0.311.3",
        "github.com/prometheus/prometheus/cmd/prometheus",
        "github.com/prometheus/prometheus",
        own_module=True,
        tags="remove_all_sd,enable_kubernetes_sd",
    ),
    "coredns": Tool(
        "1.15.0",
        "coredns",
        "github.com/coredns/coredns",
        own_module=True,
        source="cluster/coredns",
    ),
}


def missing() -> str | None:
    """Why nothing can be built here, in one line; None when it can."""
    folders = [_folder(tool) for tool in TOOLS.values()]
    return None if all(folder.is_dir() for folder in folders) else go.missing()


def path(name: str) -> Path:
    """The command, built when it is not there yet.

    Raises:
        RuntimeError: it cannot be built; the message has the last lines of the compiler.
    """
    tool = TOOLS[name]
    folder = folder_of(name)
    with go.once(folder) as staging:
        if staging is not None:
            _build(tool, staging)
    return folder / _command(tool)


def folder_of(name: str) -> Path:
    """Where the command lies, or will."""
    return _folder(TOOLS[name])


@contextmanager
def module(name: str) -> Iterator[Path]:
    """The files of `module@version`, gone afterwards: one of them has 300 MB."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["mod", "download", "-modcacherw", "-json", name]
        answer = go.run(wanted, {"GOMODCACHE": folder, **BUILD}, Path(folder))
        yield Path(json.loads(answer)["Dir"])


BUILD = {"GOFLAGS": "-buildvcs=false"}
FLAGS = ["-trimpath", "-ldflags", "-s -w"]


def _command(tool: Tool) -> str:
    return tool.package.rpartition("/")[2]


def _folder(tool: Tool) -> Path:
    return go.cache() / f"{_command(tool)}-{tool.version}"


def _build(tool: Tool, staging: Path) -> None:
    if not tool.own_module:
        wanted = ["install", *FLAGS, f"{tool.package}@v{tool.version}"]
        go.run(wanted, {"GOBIN": str(staging), **BUILD})
        return
    wanted, built = [f"{tool.package}@v{tool.version}"], tool.package
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if tool.source:
            shutil.copy(Path(__file__).parent / tool.source / "main.go", folder)
            wanted, built = [f"{tool.module}@v{tool.version}"], "."
        go.run(["mod", "init", "built"], BUILD, folder)
        if tool.replaces:
            go.run(["mod", "edit", "-replace", tool.replaces], BUILD, folder)
        mended = {"GOFLAGS": "-buildvcs=false -mod=mod"}
        go.run(["get", *wanted], mended, folder)
        output = str(staging / _command(tool))
        go.run(["build", *FLAGS, "-tags", tool.tags, "-o", output, built], mended, folder)
