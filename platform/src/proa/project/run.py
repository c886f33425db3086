"""Start a project's pipeline: a child process runs it here, or submits it to a cluster.

The pipelines are a deployable of their own (KFP); the fleet starts them and reads their result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proa.errors import Internal, ProaError, error_from_wire


def run_pipeline(
    project: Path,
    *,
    home: Path,
    platform: Path | None = None,
    overrides: Mapping[str, str],
    until: str,
    cause: Mapping[str, str],
    on_line: Callable[[str], None],
) -> dict[str, Any]:
    """Run `python -m proa_pipelines run` and return its result file.

    Args:
        platform: the platform file, when the platform is not that of `home`.
        until: the last step: `register`, `gate` or `promote`.
        cause: why it runs, key to text.
        on_line: gets each line the pipeline prints.

    Raises:
        ProaError: what the pipeline raised, rebuilt.
    """
    words = ["--home", str(home), "--until", until, *_pairs("--cause", cause)]
    return _run("run", str(project), words, overrides, on_line, platform)


def submit_pipeline(
    project: str,
    *,
    platform: Path,
    overrides: Mapping[str, str],
    until: str,
    every: str | None,
    wait: bool,
    cause: Mapping[str, str],
    on_line: Callable[[str], None],
) -> dict[str, Any]:
    """Run `python -m proa_pipelines submit`: the pipeline runs on Kubeflow Pipelines.

    Args:
        project: a folder, or the name of a model that was submitted before.
        every: a cron expression, or "none".

    Raises:
        ProaError: what it raised, rebuilt.
    """
    words = ["--until", until, *_pairs("--cause", cause)]
    words += ["--every", every] if every else []
    words += [] if wait else ["--no-wait"]
    return _run("submit", project, words, overrides, on_line, platform)


def bring_model(
    project: Path,
    *,
    home: Path,
    platform: Path | None = None,
    uri: str | None,
    data: Path | None,
    overrides: Mapping[str, str],
    until: str,
    new_exam: bool,
    on_line: Callable[[str], None],
) -> dict[str, Any]:
    """Run `python -m proa_pipelines own`: a model that is made already becomes a release.

    Args:
        uri, data: the model and the sample; None takes those of the project.

    Raises:
        ProaError: what it raised, rebuilt.
    """
    words = ["--home", str(home), "--until", until]
    words += ["--from", uri] if uri else []
    words += ["--data", str(data)] if data else []
    words += ["--new-exam"] if new_exam else []
    return _run("own", str(project), words, overrides, on_line, platform)


def _pairs(flag: str, values: Mapping[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in (flag, f"{key}={value}")]


def _run(
    verb: str,
    project: str,
    words: list[str],
    overrides: Mapping[str, str],
    on_line: Callable[[str], None],
    platform: Path | None,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="proa-run-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "proa_pipelines", verb, project, *words]
        command += ["--result", str(result), *_pairs("--set", overrides)]
        command += [] if platform is None else ["--platform", str(platform)]
        errors = Path(folder) / "stderr"  # its error is raised here, and said by whoever catches it
        with (
            errors.open("w") as sink,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                bufsize=1,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                on_line(line.rstrip())
        return _read(result, process.returncode, errors)


def _read(result: Path, code: int, errors: Path) -> dict[str, Any]:
    value = json.loads(result.read_text()) if result.exists() else {}
    if isinstance(value, dict) and "error" in value:
        raise _rebuilt(value)
    if code != 0 or not value:
        said = errors.read_text(errors="replace").strip().splitlines() or ["nothing"]
        raise Internal(f"the pipeline ended with exit code {code}; it said last: {said[-1][:500]}")
    return dict(value)


def _rebuilt(value: Mapping[str, Any]) -> ProaError:
    return error_from_wire(500, value)
