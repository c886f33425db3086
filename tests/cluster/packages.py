"""Debian packages that a cluster of our own runs on, installed where root may."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# The command that shows it is there, and the package.
NEEDED = {
    "/usr/bin/etcd": "etcd-server",
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/conntrack": "conntrack",
    "/usr/sbin/ipset": "ipset",
    "/usr/bin/ip": "iproute2",
    "/usr/bin/buildah": "buildah",
    "/usr/sbin/debootstrap": "debootstrap",
}


def missing() -> str | None:
    """Why a cluster cannot be built on this machine, in one line; None when it can."""
    if os.geteuid() != 0:
        return "a cluster of our own needs root (or give a KUBECONFIG, or install kind)"
    if _absent() and not shutil.which("apt-get"):
        return f"these packages are missing and there is no apt-get: {' '.join(_absent())}"
    return None


def install(needed: Mapping[str, str] = NEEDED) -> None:
    """Install what is missing.

    Args:
        needed: a file that shows it is there, and its package.

    Raises:
        RuntimeError: apt-get fails.
    """
    if not _absent(needed):
        return
    # The images' build and a test may both want packages: apt's list of packages has one writer.
    with (Path(tempfile.gettempdir()) / "proa-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(_absent(needed))


def _install(absent: Sequence[str]) -> None:
    if not absent:
        return
    print(f"==> apt-get install {' '.join(absent)}", file=sys.stderr, flush=True)
    wait = ("-o", "DPkg::Lock::Timeout=300")
    for arguments in (
        ("update", "-qq", *wait),
        ("install", "-y", "-qq", "--no-install-recommends", *wait, *absent),
    ):
        done = subprocess.run(
            ["apt-get", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"apt-get {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")


def _absent(needed: Mapping[str, str] = NEEDED) -> list[str]:
    return [package for command, package in needed.items() if not Path(command).exists()]
