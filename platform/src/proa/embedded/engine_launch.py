"""Starts an engine in this process's place: `python -m proa.embedded.engine_launch`.

    --python .venv-engine/bin/python --weights DIR --name IDENTITY --key-file FILE
    (--socket PATH | --port N) [--max-model-len N] [--kv-cache-gib N] [--drain-seconds N]

It reads the key from its file, clears what a killed engine left behind, then becomes vLLM (`exec`):
the caller's child is the engine itself, and SIGTERM drains it.

vLLM is three processes. When the first is killed with SIGKILL the other two stay for ever, with
their memory and a core: the next start on the same socket ends them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from proa.embedded.engine import (
    EngineSettings,
    PortAddress,
    SocketAddress,
    engine_command,
)
from proa.errors import Conflict, InvalidInput, ProaError, Unavailable

_LEFTOVER_SECONDS = 10.0


def read_key(path: Path) -> str:
    """The key in a file that nobody but its owner may read.

    Raises:
        InvalidInput: no such file, an empty file, or one that others may read.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = path.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"--key-file {path}: {error.strerror}", param="key-file") from error
    if mode & 0o077:
        raise InvalidInput(
            f"--key-file {path} has mode {mode:04o}: expected 0600", hint=f"chmod 600 {path}"
        )
    if not key:
        raise InvalidInput(f"--key-file {path} is empty", param="key-file")
    return key


def prepare_socket(path: Path) -> None:
    """Make the socket's folder private and clear the socket a killed engine left.

    Raises:
        InvalidInput: the folder belongs to others, may be entered by others, or a file is there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.stat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise InvalidInput(
            f"--socket {path}: its folder must be yours alone (mode 0700)",
            hint=f"chmod 700 {path.parent}",
        )
    if path.is_socket():
        path.unlink()
    elif path.exists():
        raise InvalidInput(f"--socket {path}: something that is not a socket is there")


@dataclass(frozen=True)
class _Process:
    """A line of /proc/PID/stat, as far as it matters here."""

    pid: int
    group: int
    started: int


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _read_process(folder: Path) -> _Process | None:
    try:
        # The name stands in parentheses and may itself hold some.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] == "Z":
        return None
    return _Process(pid=int(folder.name), group=int(fields[2]), started=int(fields[19]))


def _group_members(group: int) -> list[_Process]:
    """Living processes of a group which are part of a vLLM server."""
    members = []
    for folder in Path("/proc").iterdir():
        process = _read_process(folder) if folder.name.isdigit() else None
        if process is None or process.group != group:
            continue
        try:
            if b"vllm" in (folder / "cmdline").read_bytes().lower():
                members.append(process)
        except OSError:
            continue
    return members


def clear_leftovers(record: Path, *, seconds: float = _LEFTOVER_SECONDS) -> list[int]:
    """End what a killed engine left of the process group that `record` names; returns their ids.

    Linux gives out no process id that is still some group's, so vLLM's processes in a group whose
    leader is gone belong to the engine that wrote the record.

    Raises:
        Conflict: that engine is alive.
        Unavailable: its processes were still there after `seconds`.
    """
    try:
        noted = json.loads(record.read_text())
        group, started, boot = int(noted["group"]), int(noted["started"]), str(noted["boot"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    leader = _read_process(Path(f"/proc/{group}"))
    if boot != _boot_id() or (leader is not None and leader.started != started):
        return []
    members = _group_members(group)
    if any(member.pid == group for member in members):
        raise Conflict(f"an engine is running there already, as process {group}")
    for member in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while left := _group_members(group):
        if time.monotonic() > deadline:
            raise Unavailable(f"processes {[p.pid for p in left]} of an earlier engine do not end")
        time.sleep(0.05)
    return [member.pid for member in members]


def lead_group(record: Path) -> None:
    """Make this process the leader of its group and note that in `record`."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    this = _read_process(Path("/proc/self").resolve())
    assert this is not None
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = record.with_name(f"{record.name}.{this.pid}")
    noted = {"group": this.group, "started": this.started, "boot": _boot_id()}
    temporary.write_text(json.dumps(noted))
    temporary.replace(record)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--python", type=click.Path(path_type=Path), required=True)
@click.option("--weights", type=click.Path(path_type=Path), required=True)
@click.option("--name", required=True, help="The engine's identity.")
@click.option("--key-file", type=click.Path(path_type=Path), required=True)
@click.option("--socket", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535))
@click.option("--max-model-len", type=int, default=2048, show_default=True)
@click.option("--kv-cache-gib", type=int, default=1, show_default=True)
@click.option("--drain-seconds", type=int, default=20, show_default=True)
def launch(
    *,
    python: Path,
    weights: Path,
    name: str,
    key_file: Path,
    socket: Path | None,
    port: int | None,
    max_model_len: int,
    kv_cache_gib: int,
    drain_seconds: int,
) -> None:
    """Become vLLM, serving WEIGHTS under NAME."""
    if not python.exists():
        raise InvalidInput(f"--python {python}: no such file", hint="make setup-engine")
    if not (weights / "config.json").is_file():
        raise InvalidInput(f"--weights {weights}: holds no config.json", hint="make setup-engine")
    address, record = _place(socket, port, key_file)
    command = engine_command(
        python=python,
        weights=weights.absolute(),
        served_name=name,
        address=address,
        key=read_key(key_file),
        settings=EngineSettings(max_model_len=max_model_len),
        kv_cache_gib=kv_cache_gib,
        drain_seconds=drain_seconds,
    )
    # After the arguments were checked, before anything listens.
    if ended := clear_leftovers(record):
        print(f"engine {name}: ended {ended}, left by a killed engine", file=sys.stderr)
    if isinstance(address, SocketAddress):
        prepare_socket(address.path)
    lead_group(record)
    os.execve(command.argv[0], command.argv, {**_inherited(os.environ), **command.env})


def _place(
    socket: Path | None, port: int | None, key_file: Path
) -> tuple[SocketAddress | PortAddress, Path]:
    """Where the engine listens, and the file that notes its process group."""
    if socket is not None and port is None:
        return SocketAddress(socket.absolute()), socket.absolute().with_suffix(".group")
    if port is not None and socket is None:
        return PortAddress(port), key_file.absolute().with_suffix(f".{port}.group")
    raise InvalidInput("expected one of --socket and --port")


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what would change the engine or its imports."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("VLLM_", "PYTHON", "PROA_"))
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and become the engine; returns only when that was refused."""
    try:
        launch.main(args=argv, standalone_mode=False)
    except ProaError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"engine: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return InvalidInput.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
