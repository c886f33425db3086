"""Real processes for tests: free ports, readiness by polling, clean-up by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A port of the loopback interface that nothing listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(
    predicate: Callable[[], T], deadline: float = 10.0, *, what: str = "", every: float = 0.01
) -> T:
    """Poll until `predicate()` is true and return its value.

    Raises:
        AssertionError: it was not within `deadline` seconds.
    """
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what or predicate}; last {value!r}")
        time.sleep(every)


def answers(url: str, status: int = 200) -> bool:
    """Whether a GET of `url` is answered with `status`."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == status
    except OSError:
        return False


class Started(NamedTuple):
    """A running process and where it answers."""

    proc: subprocess.Popen[bytes]
    url: str


@dataclass
class Processes:
    """Starts processes below one folder and stops every one of them at the end."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _logs: list[Path] = field(default_factory=list)

    def start(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        *,
        ready: str | None = "/readyz",
        port: int | None = None,
        deadline: float = 30.0,
    ) -> Started:
        """Start `argv` and wait until `ready` answers 200 (None: do not wait).

        Args:
            argv: `{port}` in it is replaced; a leading `python` means this interpreter.
            env: added to a small environment without PROA_* variables.
            port: the port to use instead of a free one.
        """
        port = free_port() if port is None else port
        command = [str(part).replace("{port}", str(port)) for part in argv]
        if command[0] == "python":
            command[0] = sys.executable
        log = self.folder / f"process-{len(self._logs)}.log"
        base = {k: v for k, v in os.environ.items() if not k.startswith("PROA_")}
        with log.open("wb") as sink:
            proc = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**base, "PYTHONUNBUFFERED": "1", **(env or {})},
                start_new_session=True,
            )
        self.running.append(proc)
        self._logs.append(log)
        url = f"http://127.0.0.1:{port}"
        if ready is not None:
            self._wait_ready(proc, log, url + ready, deadline)
        return Started(proc, url)

    def _wait_ready(
        self, proc: subprocess.Popen[bytes], log: Path, url: str, deadline: float
    ) -> None:
        def ready_or_dead() -> bool:
            return proc.poll() is not None or answers(url)

        try:
            wait_until(ready_or_dead, deadline, what=f"{url} ready", every=0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_tail(log)}") from None
        if proc.poll() is not None:
            raise AssertionError(f"{proc.args} ended with {proc.returncode}:\n{_tail(log)}")

    def log(self, proc: subprocess.Popen[bytes]) -> str:
        """What a process wrote to stdout and stderr so far."""
        return self._logs[self.running.index(proc)].read_text(errors="replace")

    def stop(self, proc: subprocess.Popen[bytes], deadline: float = 15.0) -> int:
        """SIGTERM, then after `deadline` SIGKILL; returns the exit code."""
        if proc.poll() is None:
            proc.terminate()
            try:
                proc.wait(deadline)
            except subprocess.TimeoutExpired:
                self.kill(proc)
        return proc.returncode

    def kill(self, proc: subprocess.Popen[bytes]) -> None:
        """`kill -9` of this process alone, as the kernel's OOM killer does."""
        if proc.poll() is None:
            proc.kill()
        proc.wait(10)

    def close(self) -> None:
        """Stop everything started here, and whatever it started in its session."""
        for proc in self.running:
            if proc.poll() is None:
                proc.terminate()
        for proc in self.running:
            self.stop(proc, 10.0)
            try:
                os.killpg(proc.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
