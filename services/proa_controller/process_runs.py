"""Runs as child processes of this machine: `python -m proa_pipelines run`, in their own sessions.

    retraining/MODEL/REQUEST-ATTEMPT/
        process.json   pid and start time, written before the process becomes its program
        starts         how often it was started
        output.log     what it said
        result.json    its result or its error; with it the run has ended

A controller that is killed leaves its runs alone and finds them again; one that is stopped ends
them, and the next starts them anew. A run that dies without a result is started again twice.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home
from proa.embedded.process import (
    clean_environment,
    exit_note,
    is_alive,
    kill_session,
    reap,
    send_signal,
    spawn,
)
from proa.embedded.record import ProcessId
from proa.errors import Conflict, NotFound, Unavailable
from proa_controller.runs import Look, Order

__all__ = ["ProcessRuns"]

_STARTS: Final = 3
_GRACE_SECONDS: Final = 5.0
_SAID: Final = 600
"""Characters of what a run said that a journal line keeps."""
_TAIL: Final = 8192
_PASSING: Final = (Unavailable.type, Conflict.type)
_KEY: Final = "pipelines"
"""The key that runs have: it judges and promotes, and can neither approve nor loosen."""


class ProcessRuns:
    """`Runner` over the home of one machine.

    Args:
        command: begins the command line; another one in tests.
        again_seconds: before a run that met a part that was away, or a slot that was taken, is
            tried again; twice as long before the third time.
    """

    def __init__(
        self,
        home: Home,
        command: tuple[str, ...] = (sys.executable, "-m", "proa_pipelines"),
        *,
        again_seconds: float = 60.0,
    ) -> None:
        self._home, self._command, self._again_seconds = home, command, again_seconds
        self._mine: dict[Path, ProcessId] = {}

    def start(self, order: Order) -> None:
        """Start the child; its pid is stored before it runs, so that it is never started twice.

        Raises:
            NotFound: nobody created the model on this machine, and the project names no folder.
        """
        folder = self._folder(order.model, order.run)
        if self.look(order.model, order.run).word != "absent":
            return
        project = self._project(order)
        before = self._process(folder)
        if before is not None:
            kill_session(before)  # steps of a run that died
        folder.mkdir(parents=True, exist_ok=True)
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        (folder / "starts").write_text(str(self._starts(folder) + 1))
        command = [
            *(*self._command, "run", str(project), "--home", str(self._home.root)),
            *("--until", "gate", "--result", str(result)),
            *_pairs("--set", order.overrides),
            *_pairs("--cause", order.cause),
        ]
        key = self._home.key(_KEY).read_text().strip()
        env = {**clean_environment(os.environ), "PROA_KEY": key}
        gate = spawn(command, env=env, cwd=folder, log=folder / "output.log")
        write_json(folder / "process.json", asdict(gate.process))
        self._mine[folder] = gate.process
        gate.open()

    def look(self, model: str, run: str) -> Look:
        """What result, process and log say."""
        folder = self._folder(model, run)
        result = _read(folder / "result.json")
        process = self._process(folder)
        if process is not None and is_alive(process):
            return Look("running")
        code = None if process is None else reap(process)
        starts = self._starts(folder)
        if result is not None and starts < _STARTS and _passing(result):
            age = time.time() - (folder / "result.json").stat().st_mtime
            waits = age < self._again_seconds * starts
            return Look("running" if waits else "absent", _said(result, folder))
        if result is not None:
            return Look("ended", _said(result, folder))
        if starts < _STARTS:
            return Look("absent")
        return Look("ended", f"{exit_note(code)} {starts} times; it said last: {_tail(folder)}")

    def stop(self, model: str, run: str) -> None:
        """SIGTERM, then SIGKILL, to the whole session."""
        folder = self._folder(model, run)
        process = self._process(folder)
        if process is None:
            return
        if send_signal(process, signal.SIGTERM):
            deadline = time.monotonic() + _GRACE_SECONDS
            while is_alive(process) and time.monotonic() < deadline:
                reap(process)
                time.sleep(0.05)
            send_signal(process, signal.SIGKILL)
        while is_alive(process):
            reap(process)
            time.sleep(0.01)
        reap(process)
        kill_session(process)
        self._mine.pop(folder, None)

    def close(self) -> None:
        """End what was started or found here; that does not count as a start that failed."""
        for folder, process in list(self._mine.items()):
            ended = not is_alive(process)
            self.stop(folder.parent.name, folder.name)
            if not ended:
                (folder / "starts").write_text(str(max(0, self._starts(folder) - 1)))
                (folder / "process.json").unlink(missing_ok=True)

    def _folder(self, model: str, run: str) -> Path:
        return self._home.root / "retraining" / model / run.replace("/", "-")

    def _process(self, folder: Path) -> ProcessId | None:
        stored = _read(folder / "process.json")
        if stored is None:
            return None
        process = ProcessId(**stored)
        if is_alive(process):
            self._mine[folder] = process
        return process

    def _starts(self, folder: Path) -> int:
        try:
            return int((folder / "starts").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _project(self, order: Order) -> Path:
        if order.project is not None:
            return Path(order.project)
        known = self._home.projects / f"{order.model}.json"
        if not known.exists():
            raise NotFound(
                f"no project of {order.model} is known on this machine",
                hint="add `project: FOLDER` to the section retrain of proa.yaml, or create it here",
            )
        return Path(read_json(known)["folder"])


def _pairs(flag: str, values: Mapping[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in (flag, f"{key}={value}")]


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when there is none, or half of one: its writer was killed."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _passing(result: Mapping[str, Any]) -> bool:
    """Whether it failed by something that may be otherwise in a while."""
    error = result.get("error")
    return isinstance(error, Mapping) and error.get("type") in _PASSING


def _said(result: Mapping[str, Any], folder: Path) -> str:
    """The error of a run that failed, with its log; else what its exam said."""
    error = result.get("error")
    if not isinstance(error, Mapping):
        return str(result.get("reason") or "done")
    return f"{error.get('message')} (its log: {result.get('log') or folder / 'output.log'})"


def _tail(folder: Path) -> str:
    """The last words of the log."""
    try:
        with (folder / "output.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return "nothing"
    return " ".join(text.split())[-_SAID:] or "nothing"
