"""The Python a release runs on: described, checked, and built from hashed requirements.

`platform` releases run in the predictor's own environment, with exactly the library versions they
were made with. `requirements` releases bring a file: it is compiled with the predictor's own
dependencies into a hashed lock (part of the bundle), and each lock gets one environment, named by
the digest of lock and Python version and built once. `image` releases are a process of any kind;
with requirements beside its command, `{python}` in it is that environment's.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput, Refused
from proa.release.canonical import digest_bytes, digest_file
from proa.release.manifest import Manifest, Runtime
from proa.release.requirements import (
    LOCK,
    Progress,
    broken,
    compile_requirements,
    pins,
    python_version,
    run_uv,
)

__all__ = [
    "LOCK",
    "MODEL_LIBRARIES",
    "build",
    "built_lock",
    "check",
    "check_built",
    "compile_requirements",
    "describe",
    "described_by",
    "environment",
    "progress_of",
    "python_for",
    "version_of",
]

MODEL_LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "skops", "pandas", "shap")
"""What decides a classic release's answers on the platform's own runtime."""
_OWN_LIBRARIES: Final = (
    "xgboost",
    "xgboost-cpu",
    "lightgbm",
    "onnxruntime",
    "torch",
    "mlflow-skinny",
)
_MARKER: Final = "proa-runtime.json"
_SOURCES: Final = ("proa", "proa_predictor")
_TRAINING_SOURCES: Final = ("proa_pipelines",)
_BIG: Final = re.compile(r"^Downloading (\S+) \(([^)]+)\)")
_GOT: Final = re.compile(r"^Downloaded (\S+)")
_PHASES: Final = (("Resolved ", 15), ("Prepared ", 85), ("Installed ", 95))


def describe(libraries: Sequence[str] = MODEL_LIBRARIES) -> Runtime:
    """The runtime of this very process, to be pinned by a release.

    Args:
        libraries: distributions whose versions decide the model's answers.

    Raises:
        InvalidInput: one of them is not installed.
    """
    versions = {}
    for name in libraries:
        version = version_of(name)
        if version is None:
            raise InvalidInput(f"the library {name!r} is not installed here", param=name)
        versions[name] = version
    return Runtime(kind="platform", python=python_version(), libraries=versions)


def check(runtime: Runtime) -> None:
    """Refuse to load a release made with other library versions than this process has.

    Raises:
        Refused: `runtime_mismatch`; names every library with the version pinned and found.
    """
    faults = [
        f"{name} {pinned} pinned, {version_of(name) or 'none'} found"
        for name, pinned in sorted(runtime.libraries.items())
        if version_of(name) != pinned
    ]
    if runtime.python != python_version():
        faults.insert(0, f"Python {runtime.python} pinned, {python_version()} found")
    if faults:
        raise Refused(
            f"this runtime cannot serve the release: {'; '.join(faults)}",
            code="runtime_mismatch",
            hint="create the release again on this runtime, or set runtime.requirements so that "
            "it brings its own",
        )


def check_built(manifest: Manifest) -> None:
    """Refuse a release whose lock is not the one this very environment was built from.

    Raises:
        Refused: `runtime_mismatch`; names both digests.
    """
    if manifest.runtime.kind != "requirements":
        return
    wanted = {file.path: file.sha256 for file in manifest.files}[
        manifest.runtime.requirements or ""
    ]
    found = built_lock()
    if found != wanted:
        raise Refused(
            f"the release needs the runtime built from {wanted}, this process runs on "
            f"{found or 'the platform'}",
            code="runtime_mismatch",
            hint="start it with the command of proa.release.runtime.python_for",
        )


def built_lock() -> str | None:
    """Digest of the lock this environment was built from; None on the platform's own."""
    marker = Path(sys.prefix) / _MARKER
    if not marker.is_file():
        return None
    return str(json.loads(marker.read_bytes())["lock"])


def version_of(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def described_by(lock: Path, *, path: str) -> Runtime:
    """The runtime that a lock builds, for the manifest.

    Args:
        path: where the lock lies in the bundle.
    """
    pinned = pins(lock)
    named = (*MODEL_LIBRARIES, *_OWN_LIBRARIES)
    libraries = {name: pinned[name] for name in named if name in pinned}
    return Runtime(
        kind="requirements", python=python_version(), libraries=libraries, requirements=path
    )


def environment(lock: str) -> str:
    """The name of the environment of a lock (`sha256:hex`): a digest of it and the Python."""
    return digest_bytes(f"{lock} {python_version()}".encode()).removeprefix("sha256:")


def build(
    lock: Path, root: Path, *, progress: Progress | None = None, training: bool = False
) -> Path:
    """The Python of the environment of `lock` below `root`, built when it is not there.

    Two builders of one environment wait for each other; a build that dies leaves nothing behind
    that could be taken for an environment.

    Args:
        progress: told each step with its percent.
        training: let it import the pipelines' source too.

    Raises:
        Refused: `RuntimeBroken`: a package of the lock cannot be installed here; named.
        Unavailable: uv is not there.
    """
    digest = digest_file(lock)
    folder = root / environment(digest)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{folder.name}.lock", folder.name, progress):
        if not _is_whole(folder):
            _build(lock, folder, digest, _Told(folder, progress))
        _link_sources(folder, training=training)
    return folder / "bin" / "python"


def progress_of(root: Path, lock: str) -> str | None:
    """How far the build of a lock's environment is, for people; None when none is under way.

    Args:
        lock: the lock's digest, `sha256:hex`.
    """
    name = environment(lock)
    try:
        told = json.loads((root / f".{name}.json").read_bytes())
        return f"runtime {name[:12]}: {told['text']} ({told['percent']} %)"
    except (OSError, ValueError, KeyError):
        return None


def _is_whole(folder: Path) -> bool:
    """Built to its end, and the interpreter that it was made from is still there."""
    return (folder / _MARKER).is_file() and (folder / "bin" / "python").exists()


class _Told:
    """Turns uv's lines into steps with a percent, for `progress` and for `progress_of`."""

    def __init__(self, folder: Path, progress: Progress | None) -> None:
        self._file = folder.with_name(f".{folder.name}.json")
        self._name = folder.name[:12]
        self._progress = progress
        self._big: set[str] = set()
        self._got: set[str] = set()
        self._percent = 0
        self._began = time.monotonic()

    def step(self, percent: int, text: str) -> None:
        """Say a step, and keep it where the controller looks."""
        self._percent = max(self._percent, percent)
        fresh = self._file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"text": text, "percent": self._percent}))
        fresh.replace(self._file)
        if self._progress is not None:
            self._progress(f"runtime {self._name}: {self._percent:3d} %  {text}")

    def line(self, said: str) -> None:
        """One line of uv."""
        if match := _BIG.match(said):
            self._big.add(match[1])
            self.step(self._share(), f"downloading {match[1]}, {match[2]}")
        elif match := _GOT.match(said):
            self._got.add(match[1])
            self.step(self._share(), f"has {match[1]}")
        for begin, percent in _PHASES:
            if said.startswith(begin):
                self.step(percent, said[0].lower() + said[1:])

    def _share(self) -> int:
        return 15 + 70 * len(self._got) // max(1, len(self._big))

    def end(self, *, good: bool) -> None:
        """Take the note away."""
        if good:
            self.step(100, f"built in {time.monotonic() - self._began:.1f} s")
        self._file.unlink(missing_ok=True)


def _build(lock: Path, folder: Path, digest: str, told: _Told) -> None:
    staging = folder.with_name(f".building-{folder.name}")
    for left_over in (staging, folder):
        shutil.rmtree(left_over, ignore_errors=True)
    python = str(staging / "bin" / "python")
    good = False
    try:
        told.step(5, f"environment of Python {python_version()}")
        _must(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(staging)], None)
        told.step(10, f"{len(pins(lock))} packages")
        _must(
            [
                *("pip", "sync", "--python", python, "--require-hashes"),
                *("--index-strategy", "unsafe-best-match", str(lock)),
            ],
            told.line,
        )
        marker = {"lock": digest, "python": python_version()}
        (staging / _MARKER).write_text(json.dumps(marker))
        staging.rename(folder)
        good = True
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        told.end(good=good)


def _link_sources(folder: Path, *, training: bool) -> None:
    """Let the environment import proa's own source: a folder of links, named by a `.pth`.

    Links and not the source's parent folder: installed, that is the platform's site-packages.
    """
    sources = folder / "proa-source"
    sources.mkdir(exist_ok=True)
    for name in (*_SOURCES, *(_TRAINING_SOURCES if training else ())):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue  # an image of proa holds one service: what is not here does not run here
        target, link = Path(next(iter(spec.submodule_search_locations))), sources / name
        if not link.is_symlink() or link.readlink() != target:
            temporary = sources / f".{name}-{os.getpid()}"
            temporary.symlink_to(target)
            temporary.replace(link)
    for packages in (folder / "lib").glob("python*/site-packages"):
        path = packages / "proa.pth"
        if not path.is_file():
            path.write_text(f"{sources}\n")


def python_for(
    manifest: Manifest, folder: Path, root: Path, *, progress: Progress | None = None
) -> list[str]:
    """The command that runs a release's service: `[python, "-m", "proa_predictor"]` or its own.

    Args:
        folder: the materialized release.
        root: where environments are built.

    Raises:
        Refused: an llm release with requirements: the lock holds only the predictor's own needs;
            or as `build`.
        Unavailable: as `build`.
    """
    runtime = manifest.runtime
    if runtime.requirements is not None and manifest.kind != "classic":
        raise Refused(
            f"{manifest.name} is of kind {manifest.kind}: requirements are for classic releases",
            code="runtime_mismatch",
            hint="use the platform's runtime, or an image that honours the HTTP contract",
        )
    python = sys.executable
    if runtime.requirements is not None:
        python = str(build(folder / runtime.requirements, root, progress=progress))
    if runtime.kind == "image":
        return [part.replace("{python}", python) for part in runtime.command]
    return [python, "-m", "proa_predictor" if manifest.kind == "classic" else "proa_assistant"]


def _must(arguments: list[str], progress: Progress | None) -> None:
    done = run_uv(arguments, progress)
    if done.returncode != 0:
        raise broken("the runtime cannot be built", done.stderr)


@contextmanager
def _locked(path: Path, name: str, progress: Progress | None) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress is not None:
                progress(f"runtime {name[:12]}: another process builds it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
