"""The supervisor in the background: is it there, start it, stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Final

from proa.embedded.home import Home
from proa.embedded.lock import holder
from proa.embedded.log import last_words, size_of
from proa.embedded.process import clean_environment, is_alive, send_signal
from proa.errors import Unavailable

__all__ = ["ensure_supervisor", "stop_supervisor", "supervisor_pid"]

_START_SECONDS: Final = 20.0


def supervisor_pid(home: Home) -> int | None:
    """The process that supervises this home, or None."""
    process = holder(home)
    return process.pid if process else None


def ensure_supervisor(home: Home) -> bool:
    """Start a supervisor in the background if none runs; True when one had to be started.

    It belongs to nobody: it outlives the caller, and adopts the processes of the one before.

    Raises:
        Unavailable: it did not come up; the message carries the last line of its log.
    """
    if holder(home) is not None:
        return False
    log = home.log("supervisor")
    begun = size_of(log)
    with log.open("ab") as sink:
        subprocess.run(
            [sys.executable, "-m", "proa.embedded.supervisor", f"--home={home.root}", "--daemon"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=home.root,
            env=clean_environment(os.environ),
            start_new_session=True,
            check=False,
            timeout=_START_SECONDS,
        )
    deadline = time.monotonic() + _START_SECONDS
    while holder(home) is None:
        if time.monotonic() > deadline:
            words = last_words(log, since=begun)
            raise Unavailable(f"the supervisor did not start: {words or 'it said nothing'} ({log})")
        time.sleep(0.01)
    return True


def stop_supervisor(home: Home, *, seconds: float) -> bool:
    """Let the supervisor stop everything and end; False when none runs.

    Raises:
        Unavailable: it was still there after `seconds`.
    """
    process = holder(home)
    if process is None:
        return False
    send_signal(process, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the supervisor (process {process.pid}) did not end within {seconds:g} s",
                hint=f"see {home.log('supervisor')}",
            )
        time.sleep(0.02)
    return True
