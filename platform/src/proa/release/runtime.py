"""The Python a release runs on: described, checked, and built from hashed requirements.

`platform` releases run in the predictor's own environment, with exactly the library versions they
were made with. `requirements` releases bring a file: it is compiled with the predictor's own
dependencies into a hashed lock (part of the bundle), and each lock gets one environment, named by
its digest and built once.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput, Refused, Unavailable
from proa.release.canonical import digest_bytes
from proa.release.manifest import Manifest, Runtime

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
    "python_for",
]

Progress = Callable[[str], None]

MODEL_LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "skops", "pandas", "shap")
"""What decides a classic release's answers on the platform's own runtime."""
LOCK: Final = "requirements.lock"
_MARKER: Final = "proa-runtime.json"
_SOURCES: Final = ("proa", "proa_predictor")
# The model's libraries: the release says which versions; these are the oldest that can work.
_FLOORS: Final = {
    "numpy": "numpy>=1.26",
    "pandas": "pandas>=2.2,<3.1",
    "scikit-learn": "scikit-learn>=1.4",
    "shap": "shap>=0.46",
    "skops": "skops>=0.11",
}
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]*\])?\s*"
    r"([<>=!~]=?=?\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*(;[^#]*)?"
)


def describe(libraries: Sequence[str] = MODEL_LIBRARIES) -> Runtime:
    """The runtime of this very process, to be pinned by a release.

    Args:
        libraries: distributions whose versions decide the model's answers.

    Raises:
        InvalidInput: one of them is not installed.
    """
    versions = {}
    for name in libraries:
        version = _version(name)
        if version is None:
            raise InvalidInput(f"the library {name!r} is not installed here", param=name)
        versions[name] = version
    return Runtime(kind="platform", python=_python_version(), libraries=versions)


def check(runtime: Runtime) -> None:
    """Refuse to load a release made with other library versions than this process has.

    Raises:
        Refused: `runtime_mismatch`; names every library with the version pinned and found.
    """
    faults = [
        f"{name} {pinned} pinned, {_version(name) or 'none'} found"
        for name, pinned in sorted(runtime.libraries.items())
        if _version(name) != pinned
    ]
    if runtime.python != _python_version():
        faults.insert(0, f"Python {runtime.python} pinned, {_python_version()} found")
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


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def compile_requirements(
    requirements: Path, folder: Path, *, python: str | None = None, progress: Progress | None = None
) -> Path:
    """Compile a user's requirements with the predictor's own into `folder/requirements.lock`.

    Args:
        requirements: a requirements file of names and version ranges.
        python: version such as `3.11`; this interpreter's when None.

    Returns:
        The lock: exact versions and hashes of every package, no registry's address.

    Raises:
        InvalidInput: a line of another form, or requirements that cannot be met together; named.
    """
    lines = _read_requirements(requirements)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    with tempfile.TemporaryDirectory() as temporary:
        user, base = Path(temporary) / "requirements.txt", Path(temporary) / "predictor.in"
        user.write_text("\n".join(lines) + "\n")
        base.write_text("\n".join(_base_requirements()) + "\n")
        done = _uv(
            [
                *("pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url"),
                *("--no-header", "--no-annotate", "--index-strategy", "unsafe-best-match"),
                *("--python-version", python or _python_version()),
                *("--output-file", str(Path(temporary) / LOCK), str(user), str(base)),
            ],
            progress,
        )
        if done.returncode != 0:
            reason = _reason(done.stderr.replace(f"{temporary}/", ""))
            raise InvalidInput(
                f"{requirements.name} cannot be met: {reason}",
                code="requirements_unmet",
                param="runtime.requirements",
            )
        shutil.copyfile(Path(temporary) / LOCK, lock)
    return lock


def described_by(lock: Path, *, path: str) -> Runtime:
    """The runtime that a lock builds, for the manifest.

    Args:
        path: where the lock lies in the bundle.
    """
    pinned = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE))
    libraries = {name: pinned[name] for name in MODEL_LIBRARIES if name in pinned}
    return Runtime(
        kind="requirements", python=_python_version(), libraries=libraries, requirements=path
    )


def build(lock: Path, root: Path, *, progress: Progress | None = None) -> Path:
    """The Python of the environment `root/<digest of the lock>`, built when it is not there.

    Two builders of one digest wait for each other; a build that dies leaves nothing behind that
    could be taken for an environment.

    Raises:
        InvalidInput: a package of the lock cannot be installed here; named.
        Unavailable: uv is not there.
    """
    digest = digest_bytes(lock.read_bytes()).removeprefix("sha256:")
    folder = root / digest
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{digest}.lock"):
        if not (folder / _MARKER).is_file():
            _build(lock, folder, digest, progress)
        _link_sources(folder)
    return folder / "bin" / "python"


def _build(lock: Path, folder: Path, digest: str, progress: Progress | None) -> None:
    staging = folder.with_name(f".building-{digest}")
    for left_over in (staging, folder):
        shutil.rmtree(left_over, ignore_errors=True)
    python = str(staging / "bin" / "python")
    try:
        _must(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(staging)], None)
        _must(
            [
                *("pip", "sync", "--python", python, "--require-hashes"),
                *("--index-strategy", "unsafe-best-match", str(lock)),
            ],
            progress,
        )
        marker = {"lock": f"sha256:{digest}", "python": _python_version()}
        (staging / _MARKER).write_text(json.dumps(marker))
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _link_sources(folder: Path) -> None:
    """Let the environment import proa's own source: a folder of links, named by a `.pth`.

    Links and not the source's parent folder: installed, that is the platform's site-packages.
    """
    sources = folder / "proa-source"
    sources.mkdir(exist_ok=True)
    for name in _SOURCES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable(f"the package {name} is not installed here")
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
    """The command that runs a release's service: `[python, "-m", "proa_predictor"]` or an image's.

    Args:
        folder: the materialized release.
        root: where environments are built.

    Raises:
        Refused: an llm release with requirements: the lock holds only the predictor's own needs.
        InvalidInput, Unavailable: as `build`.
    """
    runtime = manifest.runtime
    if runtime.kind == "requirements" and manifest.kind != "classic":
        raise Refused(
            f"{manifest.name} is of kind {manifest.kind}: requirements are for classic releases",
            code="runtime_mismatch",
            hint="use the platform's runtime, or an image that honours the HTTP contract",
        )
    if runtime.kind == "image":
        return list(runtime.command)
    python = sys.executable
    if runtime.kind == "requirements" and runtime.requirements is not None:
        python = str(build(folder / runtime.requirements, root, progress=progress))
    return [python, "-m", "proa_predictor" if manifest.kind == "classic" else "proa_assistant"]


def _read_requirements(path: Path) -> list[str]:
    """The lines that name packages; options, addresses and paths cannot be hashed and are refused.

    Raises:
        InvalidInput: names the line.
    """
    lines = []
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if line and _PLAIN.fullmatch(line) is None:
            raise InvalidInput(
                f"{path.name}, line {number}: {line!r}: expected a package's name and versions, "
                "as scikit-learn==1.5.2",
                param="runtime.requirements",
            )
        lines += [line] if line else []
    return lines


def _base_requirements() -> list[str]:
    """What the predictor needs beside the model: proa's own metadata, model libraries loosened."""
    declared = importlib.metadata.requires("proa") or []
    found = []
    for line in declared:
        requirement, _, marker = line.partition(";")
        if marker and "extra == 'predictor'" not in marker.replace('"', "'"):
            continue
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        name = match[0].lower() if match else ""
        found.append(_FLOORS.get(name, requirement.strip()))
    return found


def _must(arguments: list[str], progress: Progress | None) -> None:
    done = _uv(arguments, progress)
    if done.returncode != 0:
        raise InvalidInput(
            f"the runtime cannot be built: {_reason(done.stderr)}",
            code="runtime_unbuilt",
            param="runtime.requirements",
        )


def _uv(arguments: list[str], progress: Progress | None) -> subprocess.CompletedProcess[str]:
    """Run uv; what it says goes to `progress` line by line."""
    command = [_find_uv(), "--color", "never", *arguments]
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            said.append(line)
            if progress is not None and line.strip():
                progress(line.strip())
    return subprocess.CompletedProcess(command, process.returncode, "", "".join(said))


def _find_uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise Unavailable("uv is not installed", hint="pip install uv")
    return found


def _reason(said: str) -> str:
    """What uv said, in one line, without registry addresses or credentials."""
    text = re.sub(r"\w+://\S+", "(registry)", said)
    return re.sub(r"[\s│╰─▶×]+", " ", text).strip()[:600]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
