"""Run a project's pipeline on this machine, as a child process.

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
    overrides: Mapping[str, str],
    until: str,
    on_line: Callable[[str], None],
) -> dict[str, Any]:
    """Run `python -m proa_pipelines run` and return its result file.

    Args:
        until: the last step: `register`, `gate` or `promote`.
        on_line: gets each line the pipeline prints.

    Raises:
        ProaError: what the pipeline raised, rebuilt.
    """
    return _run("run", project, ["--home", str(home), "--until", until], overrides, on_line)


def bring_model(
    project: Path,
    *,
    home: Path,
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
    return _run("own", project, words, overrides, on_line)


def _run(
    verb: str,
    project: Path,
    words: list[str],
    overrides: Mapping[str, str],
    on_line: Callable[[str], None],
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="proa-run-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "proa_pipelines", verb, str(project), *words]
        command += ["--result", str(result)]
        for key, value in overrides.items():
            command += ["--set", f"{key}={value}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as process:
            assert process.stdout is not None
            last = ""
            for line in process.stdout:
                last = line.rstrip() or last
                on_line(line.rstrip())
        return _read(result, process.returncode, last)


def _read(result: Path, code: int, last: str) -> dict[str, Any]:
    value = json.loads(result.read_text()) if result.exists() else {}
    if isinstance(value, dict) and "error" in value:
        raise _rebuilt(value)
    if code != 0 or not value:
        raise Internal(f"the pipeline ended with exit code {code}; its last line: {last}")
    return dict(value)


def _rebuilt(value: Mapping[str, Any]) -> ProaError:
    return error_from_wire(500, value)
