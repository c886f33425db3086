"""What a cluster of our own left on this machine, in a file: who comes next can clean it up.

A test run that is killed cannot clean up after itself; the record says which processes were its
own. A pid alone does not: the kernel gives it to somebody else later, so each stands with the tick
it started at.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Record:
    """Processes and kernel settings of one cluster.

    Attributes:
        owner: the process that made it, `[pid, start tick]`.
        kept: made by `python -m tests.cluster up`: it outlives its owner.
        processes: name to `[pid, start tick]`, in the order they were started.
        settings: files below /proc/sys and what they held before.
    """

    owner: list[int]
    kept: bool
    processes: dict[str, list[int]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1))
        fresh.replace(path)


def read(path: Path) -> Record | None:
    """The record; None when there is none."""
    try:
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def mark(pid: int) -> list[int]:
    """`[pid, start tick]` of a running process."""
    return [pid, _tick(pid) or 0]


def alive(process: list[int]) -> bool:
    """Whether this very process still runs."""
    pid, tick = process
    return _tick(pid) == tick


def stop(process: list[int], seconds: float = 10.0) -> None:
    """SIGTERM, then after `seconds` SIGKILL, if it is still that process."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
        if not alive(process):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process[0], number)
        end = time.monotonic() + patience
        while alive(process) and time.monotonic() < end:
            _reap(process[0])
            time.sleep(0.02)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _tick(pid: int) -> int | None:
    """When it started, in ticks since boot; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
