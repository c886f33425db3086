"""One supervisor per home: a lock that dies with its holder, and names it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from types import TracebackType
from typing import Final, Self

from proa.embedded.home import Home
from proa.embedded.process import identify, is_alive
from proa.embedded.record import ProcessId
from proa.errors import Conflict

__all__ = ["SupervisorLock", "holder"]

_PATIENCE_SECONDS: Final = 1.0


class SupervisorLock:
    """Held from `with` to the end of it, or of the process.

    Raises:
        Conflict: another process holds it.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._handle = -1

    def __enter__(self) -> Self:
        handle = os.open(self._home.lock, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    os.close(handle)
                    raise self._taken() from error
                time.sleep(0.02)
        self._handle = handle
        this = identify(os.getpid())
        assert this is not None
        _write(handle, {"boot": this.boot, "pid": this.pid, "ticks": this.ticks})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _write(self._handle, None)
        os.close(self._handle)

    def _taken(self) -> Conflict:
        process = holder(self._home)
        who = f"process {process.pid}" if process else "another process"
        return Conflict(f"{who} supervises {self._home.root} already", code="supervisor_runs")


def holder(home: Home) -> ProcessId | None:
    """The living process that holds the lock of a home."""
    try:
        noted = json.loads(home.lock.read_bytes())
        process = ProcessId(str(noted["boot"]), int(noted["pid"]), int(noted["ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return process if is_alive(process) else None


def _write(handle: int, value: object) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(value).encode(), 0)
