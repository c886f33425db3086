"""Steps of a project with `runtime.requirements` run in that runtime: it trains where it serves.

The release's lock decides every version. Training needs a few packages more (Parquet, Optuna,
plots), so it gets an environment of its own, locked *within* the release's: the same versions of
everything that both have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proa.errors import Internal, ProaError, Refused, error_from_wire
from proa.project import ClassicProject, Project
from proa.release import runtime
from proa.release.requirements import TRAINING, compiled
from proa_pipelines.release_steps import open_project
from proa_pipelines.steps import note, table

__all__ = ["LOCK", "ROOT", "STEPS", "call", "python_of"]

STEPS: Final = ("search", "train", "calibrate", "slices", "stage")
ROOT: Final = "PROA_RUNTIMES"
"""Environment variable: the folder of environments, which the runner sets for its steps."""
LOCK: Final = "PROA_RUNTIME_LOCK"
"""Environment variable of a step inside: the release's lock."""


def python_of(project: str, overrides: str) -> tuple[str, Path] | None:
    """The Python that a project's steps run on and the release's lock; None for this very one.

    Raises:
        Refused: `RuntimeBroken`: requirements that cannot be met; named. `runtime_mismatch`: no
            folder of environments is known, as on a cluster.
        InvalidInput: a line of another form.
    """
    if os.environ.get(LOCK):
        return None
    found: Project = open_project(project, overrides)
    requirements = found.path("runtime.requirements")
    if not isinstance(found.spec, ClassicProject) or requirements is None:
        return None
    root = os.environ.get(ROOT)
    if root is None:
        raise Refused(
            f"runtime.requirements = {requirements.name!r}: this step was not told where "
            "environments are built",
            code="runtime_mismatch",
            hint="run it with proa create; on a cluster, give the step an image with these "
            "requirements",
        )
    lock = compiled(requirements, Path(root), progress=note)
    training = compiled(requirements, Path(root), within=lock, extra=TRAINING)
    python = runtime.build(training, Path(root), progress=note, training=True)
    return str(python), lock


def call(python: str, lock: Path, kind: str, step: str, arguments: Mapping[str, Any]) -> Any:
    """Run one step under `python`; what it says goes the way of this process's own lines.

    Raises:
        ProaError: what the step raised, rebuilt.
    """
    with tempfile.TemporaryDirectory(prefix="proa-step-") as folder:
        asked, answer = Path(folder) / "asked.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps({"kind": kind, "step": step, "arguments": dict(arguments)}))
        sys.stdout.flush()
        done = subprocess.run(
            [
                python,
                "-W",
                "ignore",
                "-m",
                "proa_pipelines.release_runtime",
                str(asked),
                str(answer),
            ],
            env={**os.environ, LOCK: str(lock)},
            check=False,
        )
        found = json.loads(answer.read_bytes()) if answer.is_file() else {}
    if "error" in found:
        raise error_from_wire(500, found)
    if done.returncode != 0 or "value" not in found:
        raise Internal(f"step {step} ended with exit code {done.returncode} in its own runtime")
    return found["value"]


def main(asked: Path, answer: Path) -> int:
    """Inside the runtime: do what `call` asks, write what came of it."""
    body = json.loads(asked.read_bytes())
    try:
        value = table(body["kind"])[body["step"]](**body["arguments"])
    except ProaError as error:
        answer.write_text(json.dumps(error.to_wire()))
        return error.exit_code
    answer.write_text(json.dumps({"value": value}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
