"""The record that cleans up after a killed run: it stops its own processes and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster import record
from tests.processes import Processes, wait_until


def test_a_recorded_process_is_stopped_by_whoever_reads_the_record(
    processes: Processes, tmp_path: Path
) -> None:
    """The run that started it is gone: killed, as by the kernel."""
    file = tmp_path / "record.json"
    run = f"""
import os, signal, subprocess, sys
from pathlib import Path
from tests.cluster import record
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
made = record.Record(owner=record.mark(os.getpid()), kept=False)
made.processes["sleep"] = record.mark(child.pid)
made.write(Path({str(file)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", run], cwd=root, check=False)
    assert done.returncode == -9
    left = record.read(file)
    assert left is not None
    assert not record.alive(left.owner)
    assert record.alive(left.processes["sleep"])
    record.stop(left.processes["sleep"])
    assert not record.alive(left.processes["sleep"])


def test_a_pid_that_was_given_to_another_process_is_left_alone(processes: Processes) -> None:
    other = processes.start(["sleep", "600"], ready=None).proc
    pid, tick = record.mark(other.pid)
    record.stop([pid, tick - 1])
    assert other.poll() is None
    assert record.alive([pid, tick])


def test_one_that_does_not_listen_is_killed(processes: Processes) -> None:
    ignore = "import signal, time; signal.signal(15, signal.SIG_IGN)"
    deaf = f"{ignore}; print(1, flush=True); time.sleep(600)"
    started = processes.start(["python", "-c", deaf], ready=None).proc
    wait_until(lambda: processes.log(started), 10)
    mark = record.mark(started.pid)
    record.stop(mark, seconds=0.2)
    assert not record.alive(mark)
