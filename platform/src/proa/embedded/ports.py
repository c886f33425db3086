"""TCP ports of the loopback interface: which part gets which, and who holds a taken one."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput, Unavailable

__all__ = ["HOST", "Holder", "PortChoice", "PortPlan", "find_free", "holder_of", "is_free"]

HOST: Final = "127.0.0.1"
# Below the range from which Linux takes ports for outgoing connections: a process that restarts
# finds its port still free.
_LOWEST, _HIGHEST = 20000, 29999
_LISTENING: Final = "0A"


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The fixed ports of a platform."""

    gateway: int = 8080
    engine: int = 8081
    mlflow: int = 5000
    monitor: int = 8090
    controller: int = 8091
    features: int = 6566

    def to_json(self) -> dict[str, int]:
        """Name → port."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def check(self) -> None:
        """Every part has a port of its own.

        Raises:
            InvalidInput: two parts share one.
        """
        owners: dict[int, str] = {}
        for name, port in self.to_json().items():
            if port in owners:
                raise InvalidInput(
                    f"port {port} is given to {owners[port]} and to {name}: expected one each",
                    hint=f"choose another with --port {name}=N",
                    param="port",
                )
            owners[port] = name

    @classmethod
    def free(cls) -> PortPlan:
        """Ports that nothing holds at this moment."""
        chosen: dict[str, int] = {}
        for item in fields(cls):
            chosen[item.name] = find_free(chosen.values())
        return cls(**chosen)

    @classmethod
    def parse(cls, changes: Iterable[str], *, auto: bool = False) -> PortChoice:
        """Read `NAME=PORT` texts.

        Args:
            auto: ports that are neither named here nor known from before are free ones.

        Raises:
            InvalidInput: another form, an unknown name, or no port.
        """
        names = [item.name for item in fields(cls)]
        chosen = {}
        for text in changes:
            name, _, number = text.partition("=")
            if name not in names:
                raise InvalidInput(
                    f"--port {text}: expected NAME=PORT with NAME one of {', '.join(names)}",
                    param="port",
                )
            if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 65535):
                raise InvalidInput(f"--port {text}: expected a port from 1 to 65535", param="port")
            chosen[name] = int(number)
        return PortChoice(chosen, auto)

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> PortPlan:
        """Read what `to_json` gave; parts that are not named keep their default."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: int(port) for name, port in value.items() if name in known})


@dataclass(frozen=True, slots=True)
class PortChoice:
    """What somebody asked for: some ports by name, and where the others come from."""

    changes: Mapping[str, int]
    auto: bool = False

    def resolve(self, known: PortPlan | None) -> PortPlan:
        """The whole plan, given the ports of a platform that was up before.

        Raises:
            InvalidInput: two parts would share a port.
        """
        base = known or (PortPlan.free() if self.auto else PortPlan())
        plan = replace(base, **self.changes)
        plan.check()
        return plan


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens on a port."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.program})"


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a server that just ended do not hold its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def find_free(avoid: Collection[int] = ()) -> int:
    """A port that nothing holds and that is not in `avoid`.

    Raises:
        Unavailable: none of 200 tried ones is free.
    """
    for _ in range(200):
        port = random.randint(_LOWEST, _HIGHEST)
        if port not in avoid and is_free(port):
            return port
    raise Unavailable(f"no free port found from {_LOWEST} to {_HIGHEST}")


def holder_of(port: int) -> Holder | None:
    """Who listens on a port; None when /proc does not tell (another user's process)."""
    sockets = _listening(port)
    if not sockets:
        return None
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _has_socket(folder, sockets):
            return Holder(int(folder.name), _program(folder))
    return None


def _listening(port: int) -> set[str]:
    """What the links in /proc/PID/fd say for sockets that listen on the port."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found


def _has_socket(folder: Path, sockets: Collection[str]) -> bool:
    try:
        entries = list((folder / "fd").iterdir())
    except OSError:
        return False
    for entry in entries:
        with contextlib.suppress(OSError):
            if str(entry.readlink()) in sockets:
                return True
    return False


def _program(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return "?"
