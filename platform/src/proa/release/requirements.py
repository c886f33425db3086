"""Requirements of a release: read, compiled into a hashed lock by uv, faults named.

A lock is made once per content: the same lines on the same Python are the same lock, so that
retraining next month runs on what it ran on today until somebody changes a line.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput, ProaError, Refused, Unavailable
from proa.release.canonical import digest_json

__all__ = [
    "LOCK",
    "TRAINING",
    "Progress",
    "base_requirements",
    "broken",
    "compile_requirements",
    "compiled",
    "name_of",
    "pins",
    "python_version",
    "read_requirements",
    "run_uv",
]

Progress = Callable[[str], None]
LOCK: Final = "requirements.lock"
TRAINING: Final = ("pyarrow>=20", "optuna>=4.4", "matplotlib>=3.10")
"""What the classic pipeline's steps need beside the release's own runtime."""
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
_NO_SOLUTION: Final = "error: No solution found when resolving dependencies cause:"
_REASONS: Final = (
    (re.compile(r"Hash mismatch for `([^`]+)`"), "its file has another hash than the lock says"),
    (re.compile(r"no version of (\S+)"), "there is no such version"),
    (re.compile(r"Because ([\w.-]+) was not found in"), "there is no such package"),
    (re.compile(r"Because (?:all versions of )?(\S+) has no (?:\S+ )*?wheels? with"),
     "it does not fit this machine and this Python"),
    (re.compile(r"istribution `([^`]+)` can't be installed"), "it does not fit this machine"),
    (re.compile(r"Failed to (?:download and )?build `([^`]+)`"), "it cannot be built here"),
    (re.compile(r"Failed to (?:download|fetch)[^`]*`([^`]+)`"), "it could not be downloaded"),
)  # fmt: skip


def read_requirements(path: Path) -> list[str]:
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


def name_of(line: str) -> str:
    """`scikit-learn` of `Scikit_Learn[all]>=1.5`: the normalized name."""
    match = re.match(r"[A-Za-z0-9._-]+", line)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def pins(lock: Path) -> dict[str, str]:
    """Package to exact version, as the lock says."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE))


def python_version() -> str:
    """`3.11` of this interpreter."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def compile_requirements(
    requirements: Path,
    folder: Path,
    *,
    python: str | None = None,
    progress: Progress | None = None,
    within: Path | None = None,
    extra: Sequence[str] = (),
) -> Path:
    """Compile a user's requirements with the predictor's own into `folder/requirements.lock`.

    Args:
        requirements: a requirements file of names and version ranges.
        python: version such as `3.11`; this interpreter's when None.
        within: a lock whose versions hold for every package that it names.
        extra: further lines, beside the predictor's own.

    Returns:
        The lock: exact versions and hashes of every package, no registry's address.

    Raises:
        InvalidInput: a line of another form.
        Refused: `RuntimeBroken`: requirements that cannot be met together; named.
    """
    lines = read_requirements(requirements)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    with tempfile.TemporaryDirectory() as temporary:
        user, base = Path(temporary) / "requirements.txt", Path(temporary) / "predictor.in"
        user.write_text("\n".join(lines) + "\n")
        base.write_text("\n".join([*base_requirements(), *extra]) + "\n")
        done = run_uv(
            [
                *("pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url"),
                *("--no-header", "--no-annotate", "--index-strategy", "unsafe-best-match"),
                *("--python-version", python or python_version()),
                *(() if within is None else ("--constraint", str(within))),
                *("--output-file", str(Path(temporary) / LOCK), str(user), str(base)),
            ],
            progress,
        )
        if done.returncode != 0:
            said = done.stderr.replace(f"{temporary}/", "")
            raise broken(f"{requirements.name} cannot be met", said, lines)
        fresh = lock.with_suffix(f".{os.getpid()}")
        shutil.copyfile(Path(temporary) / LOCK, fresh)
        fresh.replace(lock)
    return lock


def compiled(
    requirements: Path,
    root: Path,
    *,
    progress: Progress | None = None,
    within: Path | None = None,
    extra: Sequence[str] = (),
) -> Path:
    """As `compile_requirements`, kept below `root/locks` by content and made once.

    Raises:
        InvalidInput, Refused: as `compile_requirements`.
    """
    asked = {
        "lines": sorted(read_requirements(requirements)),
        "base": sorted([*base_requirements(), *extra]),
        "within": None if within is None else within.read_text(),
        "python": python_version(),
    }
    folder = root / "locks" / digest_json(asked).removeprefix("sha256:")
    if not (folder / LOCK).is_file():
        say = progress or (lambda line: None)
        say(f"resolving {requirements.name}")
        compile_requirements(requirements, folder, progress=progress, within=within, extra=extra)
    return folder / LOCK


def broken(what: str, said: str, lines: Sequence[str] = ()) -> ProaError:
    """The error for what uv said: the package, and why it cannot be had.

    Args:
        what: the sentence's beginning.
        lines: the user's own lines, named first when the fault is in one of them.
    """
    text = _one_line(said)
    package, why = _fault(text, lines)
    named = f"{package}: {why}" if package else text[:600]
    detail = f" ({text[:600]})" if package else ""
    return Refused(
        f"{what}: {named}{detail}",
        code="RuntimeBroken",
        param="runtime.requirements",
        hint=f"change {package or 'the line'} in the requirements and create the release again",
    )


def _fault(text: str, lines: Sequence[str]) -> tuple[str | None, str]:
    for pattern, why in _REASONS:
        match = pattern.search(text)
        if match:
            return match[1].rstrip(".,"), why
    if "unsatisfiable" in text or "incompatible" in text or "conflict" in text.lower():
        own = [line for line in lines if re.search(rf"\b{re.escape(name_of(line))}\b", text)]
        if own:
            if len(own) == 1:
                return own[0], "it excludes what the predictor needs"
            return " with ".join(own[:3]), "they exclude each other"
    return None, ""


def _one_line(said: str) -> str:
    """What uv said, in one line, without registry addresses, credentials or drawing."""
    text = re.sub(r"\w+://\S+", "(registry)", said)
    text = re.sub(r"[\s│╰─▶×├]+", " ", text).strip()
    return text.partition(" hint: ")[0].removeprefix(_NO_SOLUTION).strip()


def base_requirements() -> list[str]:
    """What the predictor needs beside the model: proa's own metadata, model libraries loosened."""
    declared = importlib.metadata.requires("proa") or []
    found = []
    for line in declared:
        requirement, _, marker = line.partition(";")
        if marker and "extra == 'predictor'" not in marker.replace('"', "'"):
            continue
        found.append(_FLOORS.get(name_of(requirement), requirement.strip()))
    return found


def run_uv(arguments: Sequence[str], progress: Progress | None) -> subprocess.CompletedProcess[str]:
    """Run uv; what it says goes to `progress` line by line, and is in `stderr`.

    Raises:
        Unavailable: uv is not there.
    """
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
