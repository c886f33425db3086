"""The commands of a page, as they stand there, for tests that run them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests import tools
from tests.cluster.access import Cluster

ROOT = Path(__file__).resolve().parents[2]


def block(page: str, name: str) -> str:
    """The fenced block ```` ```sh NAME ```` of a page below the repository's root."""
    text = (ROOT / page).read_text()
    found = re.findall(rf"^```sh {re.escape(name)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{len(found)} blocks {name!r} in {page}"
    return str(found[0])


def run(cluster: Cluster, script: str, folder: Path, env: Mapping[str, str], helm: int = 4) -> str:
    """Run commands one after the other, until one fails, as a person in `folder` would.

    `folder` gets links to `charts` and `manifests`, as in the repository; kubectl and Helm are the
    tests' own.

    Raises:
        AssertionError: one failed; with what it said.
    """
    commands = folder / ".commands"
    commands.mkdir(exist_ok=True)
    for name, target in (
        ("helm", tools.path(f"helm-{helm}")),
        ("kubectl", cluster.kubectl_command),
    ):
        (commands / name).unlink(missing_ok=True)
        (commands / name).symlink_to(target)
    for name in ("charts", "manifests"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={
            **os.environ,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.kubeconfig),
            **env,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    said = (done.stdout + done.stderr)[-4000:]
    assert done.returncode == 0, f"{said}\n{cluster.explain(env['NS']) if 'NS' in env else ''}"
    return done.stdout
