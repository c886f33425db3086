"""Runs a shipped pipeline on this machine: each step a child process under `kfp.local`.

KFP's own log goes to a file; people see one line per step with its seconds, machines get the
result file. A step's `ProaError` comes back as the same error, raised here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from proa.errors import Internal, InvalidInput, ProaError, Refused, error_from_wire
from proa.http.ids import new_id
from proa.project import load as load_project
from proa_pipelines import compiling, conditions, release_runtime
from proa_pipelines.steps import UNTIL, parse

_TOP = ("release", "verdict", "reason", "promoted", "phase", "mlflow_run")

_LOGS_KEPT = 10

Say = Callable[[str], None]


@dataclass
class Report:
    """What the steps said so far."""

    say: Say
    steps: list[dict[str, Any]] = field(default_factory=list)
    error: ProaError | None = None

    def take(self, line: Mapping[str, Any]) -> None:
        """Take in one marked line."""
        event, step = line.get("event"), line.get("step")
        if event == "start":
            self.steps.append({"step": step})
        elif event == "note":
            self.say(f"    {line.get('text')}")
        elif event == "facts" and self.steps:
            self.steps[-1].update(line.get("facts") or {})
        elif event in ("end", "error"):
            self.steps[-1]["worked"] = round(float(line["seconds"]), 3)
            if event == "error":
                self.error = error_from_wire(500, line)

    def top(self) -> dict[str, Any]:
        """The facts that belong at the top of the result."""
        return {name: step[name] for step in self.steps for name in _TOP if name in step}


class _Reader(io.TextIOBase):
    """Stands in for stdout: everything to the log, marked lines to the report."""

    def __init__(self, log: TextIO, report: Report, lap: Callable[[str], None]) -> None:
        self._log, self._report, self._lap = log, report, lap
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._log.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            marked = parse(line)
            if marked is not None:
                self._report.take(marked)
            elif "Executing task" in line:
                self._lap("start")
            elif "finished with status" in line:
                self._lap("end")
        return len(text)


def run(
    project: Path,
    home: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    until: str = "promote",
    cause: Mapping[str, str] | None = None,
    result: Path | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Run the pipeline of the project's kind.

    Args:
        home: the platform's folder; with `until="stage"` only its feature store is used.
        overrides: dotted keys of `proa.yaml` to values.
        cause: why it runs, when somebody asked: `cause`, `requested_by`, `evidence`.
        until: one of `steps.UNTIL`; with `stage` the release's folder is kept in
            `home/projects/NAME/staged`.
        result: file for what is returned, written also when the run fails.
        say: gets each line for people; prints it when None.

    Returns:
        project, kind, run, log, seconds, steps (name, seconds, facts), and what there is of
        release, verdict, reason, promoted, phase, mlflow_run, staged.

    Raises:
        ProaError: what a step raised.  Refused: the verdict is no pass and `until` is promote.
    """
    if until not in UNTIL:
        raise InvalidInput(f"until = {until!r}: expected one of {', '.join(UNTIL)}", param="until")
    found = load_project(project, dict(overrides or {}))
    run_id = new_id()
    report = Report(say or _printer(sys.stdout))
    body: dict[str, Any] = {"project": found.name, "kind": found.kind, "run": run_id}
    body |= {"until": until, "overrides": dict(overrides or {})}
    began = time.monotonic()
    arguments = {"project": str(found.folder), "home": str(home.resolve()), "run_id": run_id}
    arguments |= {"overrides": json.dumps(body["overrides"]), **(cause or {})}
    folder = home.resolve() / "projects" / found.name
    folder.mkdir(parents=True, exist_ok=True)
    body["log"] = str(log := _new_log(folder, run_id))
    error: ProaError | None = None
    try:
        staged = _execute(found.kind, until, log, report, arguments)
        if staged is not None:
            body["staged"] = str(staged)
    except ProaError as raised:
        error = raised
    body |= {"seconds": round(time.monotonic() - began, 3), "steps": report.steps, **report.top()}
    error = error or refusal(body)
    if error is not None:
        body |= error.to_wire()
    if result is not None:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(body, indent=1))
    if error is not None:
        raise error
    return body


def _new_log(folder: Path, run_id: str) -> Path:
    """This run's log; of the older ones the newest few stay (ids sort by time)."""
    for old in sorted(folder.glob("pipeline-*.log"))[: 1 - _LOGS_KEPT]:
        old.unlink(missing_ok=True)
    return folder / f"pipeline-{run_id}.log"


def _printer(out: TextIO) -> Say:
    """Print to `out`, which is stdout as it was before KFP's lines are kept from it."""
    return lambda text: print(text, file=out, flush=True)


def refusal(body: Mapping[str, Any]) -> Refused | None:
    """What a run asked to promote ends with, when the verdict was no pass."""
    if body["until"] != "promote" or body.get("verdict") in (None, "pass"):
        return None
    return Refused(
        f"verdict {body['verdict']} on {body.get('release')}: {body.get('reason')}; not promoted",
        code="GateFailed",
        hint=f"proa history {body['project']} shows the checks",
    )


def _execute(
    kind: str, until: str, log_path: Path, report: Report, arguments: dict[str, str]
) -> Path | None:
    """Run every step below a temporary folder; returns where the staged release was kept."""
    from kfp import local

    pipeline = compiling.graph(kind, until)
    conditions.mend()
    folder = log_path.parent
    root = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
    # OpenMP's threads spin while they wait: with other processes on the same cores a fit of 0.6 s
    # takes 5 s. Children inherit this; whoever set it before keeps it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ[release_runtime.ROOT] = str(Path(arguments["home"]) / "runtimes")
    lap = _Laps(report)
    try:
        with log_path.open("w") as log, compiling.quiet(), _own_temporary_folder():
            local.init(
                runner=local.SubprocessRunner(use_venv=False),
                pipeline_root=str(root),
                raise_on_error=True,
            )
            reader = _Reader(log, report, lap)
            try:
                with contextlib.redirect_stdout(reader):
                    pipeline(**arguments)
            except RuntimeError as error:
                lap("end")
                log.flush()
                raise _failed(report, log_path, error) from error
        if until == "stage":
            return _keep_staged(root, folder / "staged")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return None


class _Laps:
    """Seconds of each step as its caller waits for them: with the start of the process."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._began = time.monotonic()
        self._told = 0

    def __call__(self, edge: str) -> None:
        if edge == "start":
            self._began = time.monotonic()
        elif len(self._report.steps) > self._told:
            self._told = len(self._report.steps)
            step = self._report.steps[-1]
            step["seconds"] = round(time.monotonic() - self._began, 3)
            self._report.say(f"  {step['step']}  {step['seconds']:.1f} s")


@contextlib.contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """KFP's start of a step, a shell script, leaves a temporary folder behind each time."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="proa-steps-") as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def _failed(report: Report, log: Path, error: RuntimeError) -> ProaError:
    """What the step said of its error; else the last line that a killed process left."""
    hint = f"the whole log is {log}"
    if report.error is not None:
        if report.error.type == Internal.type:
            report.error.hint = hint
        return report.error
    step = report.steps[-1]["step"] if report.steps else "the first step"
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    ends = [place for place, line in enumerate(lines) if "finished with status" in line]
    last = lines[ends[-1] - 1] if ends else str(error)
    return Internal(f"step {step} ended without a word; its last line: {last[:500]}", hint=hint)


def _keep_staged(root: Path, target: Path) -> Path:
    found = sorted(root.glob("*/stage/release"))
    if not found:
        raise Internal(f"the step `stage` left no release below {root}")
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(found[-1], target)
    return target
