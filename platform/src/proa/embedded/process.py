"""Processes of this machine: started behind a gate, known by pid and start time, ended for sure.

Linux only: /proc, pidfds, sessions.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from proa.embedded.record import ProcessId
from proa.errors import Internal

__all__ = [
    "Gate",
    "clean_environment",
    "exit_note",
    "identify",
    "is_alive",
    "kill_session",
    "reap",
    "send_signal",
    "spawn",
]

_CANNOT_START: Final = 127
_PROC: Final = Path("/proc")
# What a process may need from whoever started the platform. Everything else stays out: an
# allow-list cannot leak the next provider's token.
_PASSED_ON: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NO_PROXY", "no_proxy"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
        *("HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
        *("PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"),
        *("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"),
        *("UV_CONFIG_FILE", "UV_CACHE_DIR", "UV_NATIVE_TLS", "UV_OFFLINE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"),
    }
)


@dataclass(frozen=True, slots=True)
class _Stat:
    """A line of /proc/PID/stat, as far as it matters here."""

    state: str
    session: int
    ticks: int


class Gate:
    """A started process that waits for `open` before it becomes its program.

    If the gate is closed instead, or whoever holds it dies, the process ends without having done
    anything: so its pid can be stored before it exists for the rest of the world.
    """

    def __init__(self, process: ProcessId, handle: int) -> None:
        self.process = process
        self._handle = handle

    def open(self) -> None:
        """Let the process become its program."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._handle, b"go")
        os.close(self._handle)

    def close(self) -> None:
        """Let the process end."""
        os.close(self._handle)


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Gate:
    """Start a process in a session of its own, held at a gate.

    Args:
        env: its whole environment.
        log: standard output and error are appended here; standard input is empty.

    A program that cannot be started says so in the log and ends with 127.
    """
    read_end, write_end = os.pipe()
    log_handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        _become(argv, env, cwd, read_end, log_handle)
    os.close(read_end)
    os.close(log_handle)
    process = identify(pid)
    if process is None:
        os.close(write_end)
        raise Internal(f"process {pid} has no entry in /proc")
    return Gate(process, write_end)


def _become(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, gate: int, log: int
) -> NoReturn:
    """In the child, between fork and exec: nothing of the parent's may be run or reached."""
    try:
        # Else a signal meant for this child would wake the parent's event loop.
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.umask(0o077)
        if not os.read(gate, 2):
            os._exit(0)
        empty = os.open(os.devnull, os.O_RDONLY)
        for target, source in enumerate((empty, log, log)):
            os.dup2(source, target)
        os.chdir(cwd)
        os.execvpe(argv[0], list(argv), dict(env))
    except OSError as error:
        message = f"cannot start {argv[0]!r} in {str(cwd)!r}: {error.strerror}\n"
        os.write(log, message.encode())
    finally:
        os._exit(_CANNOT_START)


def identify(pid: int) -> ProcessId | None:
    """The identity of the living process `pid`."""
    stat = _stat(pid)
    return ProcessId(_boot(), pid, stat.ticks) if stat else None


def is_alive(process: ProcessId) -> bool:
    """Whether this very process exists and is no zombie."""
    stat = _stat(process.pid)
    if stat is None or stat.ticks != process.ticks or process.boot != _boot():
        return False
    return stat.state not in "ZX" or _has_threads(process.pid)


def reap(process: ProcessId) -> int | None:
    """The exit code of a child that has ended (negative: the signal); None for anything else."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if pid else None


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signal this very process, never a later one with its pid. False: it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The handle keeps to one process: checked after it was opened, it cannot change.
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def kill_session(leader: ProcessId) -> list[int]:
    """SIGKILL what a dead session leader left behind; returns the pids.

    Linux gives out no pid that is still some session's: members of a session whose leader is gone
    belong to that leader.
    """
    holder = _stat(leader.pid)
    if leader.boot != _boot() or (holder is not None and holder.ticks != leader.ticks):
        return []
    killed = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        pid = int(folder.name)
        stat = _stat(pid)
        if stat is None or stat.session != leader.pid or stat.state in "ZX":
            continue
        if send_signal(ProcessId(leader.boot, pid, stat.ticks), signal.SIGKILL):
            killed.append(pid)
    return killed


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that processes may see; no URL that carries a password."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _PASSED_ON or name.startswith("LC_")) and not ("://" in value and "@" in value)
    }


def exit_note(code: int | None) -> str:
    """How a process ended, for people."""
    if code is None:
        return "it ended"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _has_threads(pid: int) -> bool:
    """The first thread of a process may be gone, and look like a zombie, before the others."""
    try:
        return len(list((_PROC / str(pid) / "task").iterdir())) > 1
    except OSError:
        return False


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may itself hold some.
    fields = text.rpartition(b")")[2].split()
    return _Stat(state=fields[0].decode(), session=int(fields[3]), ticks=int(fields[19]))


@functools.cache
def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
