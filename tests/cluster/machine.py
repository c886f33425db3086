"""What a node needs of this machine's kernel, and how it is given back.

A bridge, two settings of forwarding, a cgroup of our own; kubelet and kube-proxy add iptables
chains, containers add mounts and processes. Everything is found by what is only ours: the bridge's
name, the chains' prefix, our folders and our cgroup.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.layout import BRIDGE, NODE_IP, Layout

CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "proa-test"
SYSCTL = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}


def prepare() -> dict[str, str]:
    """Make bridge, forwarding and cgroup; returns the settings as they were."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{NODE_IP}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    before = {}
    for name, wanted in SYSCTL.items():
        file = Path("/proc/sys") / name
        before[name] = file.read_text().strip()
        file.write_text(wanted)
    for folder in _controllers():
        (folder / CGROUP).mkdir(exist_ok=True)
        # Empty ones let no process in.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (folder / name).exists() and not (folder / CGROUP / name).read_text().strip():
                (folder / CGROUP / name).write_text((folder / name).read_text())
    return before


def kill_containers(layout: Layout) -> None:
    """Kill every process in our cgroup, then the shims that watched over them."""
    end = time.monotonic() + 10
    while (left := _contained()) and time.monotonic() < end:
        for pid in left:
            _kill(pid)
        time.sleep(0.05)
    address = str(layout.socket).encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if b"containerd-shim" in command.partition(b"\0")[0] and address in command:
                    _kill(int(folder.name))


def give_back(layout: Layout, settings: dict[str, str]) -> None:
    """Unmount, and remove chains, bridge, cgroup; put the settings back."""
    for where in reversed(list(_mounts(layout))):
        subprocess.run(["umount", "--lazy", where], capture_output=True, check=False)
    for family in ("iptables", "ip6tables"):
        _remove_chains(family)
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    for name, value in settings.items():
        with contextlib.suppress(FileNotFoundError):
            (Path("/proc/sys") / name).write_text(value)
    for folder in _controllers():
        for path, _, _ in os.walk(folder / CGROUP, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def left_over(layout: Layout) -> list[str]:
    """What is still there of a cluster that is gone, in words."""
    found = [f"mount {where}" for where in _mounts(layout)]
    found += [f"process {pid} of a container" for pid in _contained()]
    if (Path("/sys/class/net") / BRIDGE).exists():
        found.append(f"bridge {BRIDGE}")
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    found += [f"chain {line[1:].split()[0]}" for line in saved.splitlines() if line[:5] == ":KUBE"]
    found += [f"cgroup {f / CGROUP}" for f in _controllers() if (f / CGROUP).is_dir()]
    return found


def _controllers() -> list[Path]:
    """Where cgroups are made: one folder per controller, or the only one of version 2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in sorted(CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]


def _contained() -> set[int]:
    found: set[int] = set()
    for folder in _controllers():
        for path, _, _ in os.walk(folder / CGROUP):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (Path(path) / "cgroup.procs").read_text().split())
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _mounts(layout: Layout) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        where = line.split()[4].replace("\\040", " ")
        if Path(where).is_relative_to(layout.run) or Path(where).is_relative_to(layout.images):
            yield where


def _remove_chains(family: str) -> None:
    saved = subprocess.run([f"{family}-save"], capture_output=True, text=True, check=False).stdout
    if "KUBE-" not in saved:
        return
    kept = "".join(line for line in saved.splitlines(keepends=True) if "KUBE-" not in line)
    subprocess.run([f"{family}-restore"], input=kept, text=True, capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
