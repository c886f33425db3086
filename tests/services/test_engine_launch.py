"""The launcher as a process. Faked: vLLM, by programs that say what they got, or just live."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proa.embedded import engine_launch
from proa.errors import Conflict, InvalidInput

TELLS = """\
#!{python}
import json, os, sys
told = {{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}}
open({out!r}, "w").write(json.dumps(told))
"""

# A server of two processes, the second of which outlives the first, as vLLM's workers do.
LEADER = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "VLLM::Worker"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "engine.key"
    path.touch(mode=0o600)
    path.write_text("sesame\n")
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def _launch(*options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proa.embedded.engine_launch", *options],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )


def test_it_becomes_the_engine_with_the_key_in_the_environment_only(
    tmp_path: Path, weights: Path, key_file: Path
) -> None:
    told, python, socket = tmp_path / "told.json", tmp_path / "python", tmp_path / "s" / "e.sock"
    python.write_text(TELLS.format(python=sys.executable, out=str(told)))
    python.chmod(0o755)
    done = _launch(
        f"--python={python}",
        f"--weights={weights}",
        "--name=eng-1",
        f"--key-file={key_file}",
        f"--socket={socket}",
        "--max-model-len=512",
        env={"VLLM_LOGGING_LEVEL": "DEBUG", "PYTHONPATH": "/elsewhere", "PROA_HOME": "/x"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(told.read_text())
    assert seen["env"]["VLLM_API_KEY"] == "sesame"
    assert "sesame" not in " ".join(seen["argv"])
    assert f"--uds={socket}" in seen["argv"]
    assert "--max-model-len=512" in seen["argv"]
    assert not {"VLLM_LOGGING_LEVEL", "PYTHONPATH", "PROA_HOME"} & set(seen["env"])
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    # The engine is the process that was started, so that signals reach it.
    assert json.loads(socket.with_suffix(".group").read_text())["group"] == seen["pid"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "nowhere"}, "--python nowhere: no such file (make setup-engine)"),
        ({"weights": "nowhere"}, "--weights nowhere: holds no config.json (make setup-engine)"),
        ({"key-file": "nowhere"}, "--key-file nowhere: No such file or directory"),
        ({"port": "1"}, "expected one of --socket and --port"),
        ({"socket": "/" + "s" * 120}, "has 121 bytes, at most 107 work (use a shorter --home)"),
    ],
)
def test_bad_options_are_named(
    change: dict[str, str], message: str, tmp_path: Path, weights: Path, key_file: Path
) -> None:
    options = {
        "python": sys.executable,
        "weights": str(weights),
        "name": "eng-1",
        "key-file": str(key_file),
        "socket": str(tmp_path / "s" / "e.sock"),
    } | change
    done = _launch(*[f"--{name}={value}" for name, value in options.items()])
    assert done.returncode == InvalidInput.exit_code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_others_may_read_is_refused(key_file: Path) -> None:
    assert engine_launch.read_key(key_file) == "sesame"
    key_file.chmod(0o640)
    with pytest.raises(InvalidInput, match="has mode 0640: expected 0600"):
        engine_launch.read_key(key_file)
    key_file.chmod(0o600)
    key_file.write_text("\n")
    with pytest.raises(InvalidInput, match="is empty"):
        engine_launch.read_key(key_file)


def test_the_sockets_folder_must_be_private(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(InvalidInput, match="must be yours alone"):
        engine_launch.prepare_socket(tmp_path / "open" / "e.sock")
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "own" / "e.sock").write_text("not a socket")
    with pytest.raises(InvalidInput, match="not a socket"):
        engine_launch.prepare_socket(tmp_path / "own" / "e.sock")


class _Killed:
    """An engine in two processes whose launcher noted its group."""

    def __init__(self, record: Path) -> None:
        program = textwrap.dedent(f"""
            from pathlib import Path
            from proa.embedded.engine_launch import lead_group
            lead_group(Path({str(record)!r}))
            """)
        self.leader = subprocess.Popen(
            [sys.executable, "-c", program + LEADER, "vllm"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.leader.stdout is not None
        self.worker = int(self.leader.stdout.readline())

    def worker_lives(self) -> bool:
        try:
            state = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"

    def close(self) -> None:
        for pid in (self.leader.pid, self.worker):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.leader.wait(10)
        assert self.leader.stdout is not None
        self.leader.stdout.close()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "e.group"


@pytest.fixture
def engine(record: Path) -> Iterator[_Killed]:
    started = _Killed(record)
    yield started
    started.close()


def test_what_a_killed_engine_left_is_ended(
    engine: _Killed, record: Path, wait_until: Callable[..., object]
) -> None:
    engine.leader.kill()
    engine.leader.wait(10)
    assert engine.worker_lives()
    assert engine_launch.clear_leftovers(record) == [engine.worker]
    wait_until(lambda: not engine.worker_lives())
    assert engine_launch.clear_leftovers(record) == []


def test_a_living_engine_is_left_alone(engine: _Killed, record: Path) -> None:
    with pytest.raises(Conflict, match=f"as process {engine.leader.pid}"):
        engine_launch.clear_leftovers(record)
    assert engine.worker_lives()
    assert engine.leader.poll() is None


@pytest.mark.parametrize("key", ["started", "boot"])
def test_a_record_of_another_process_or_boot_ends_nothing(
    engine: _Killed, record: Path, key: str
) -> None:
    noted = json.loads(record.read_text())
    record.write_text(json.dumps({**noted, key: 1}))
    assert engine_launch.clear_leftovers(record) == []
    assert engine.worker_lives()


@pytest.mark.parametrize("content", [None, "", "{}", '{"group": "x", "started": 1, "boot": "b"}'])
def test_no_record_or_a_broken_one_ends_nothing(record: Path, content: str | None) -> None:
    if content is not None:
        record.write_text(content)
    assert engine_launch.clear_leftovers(record) == []
