"""Where built weights live on a machine, how they get there whole or not at all, and what they are.

A folder `NAME-VERSION` is complete: it holds `weights.json` (source, licence, sha256 of every other
file) and appears by one rename, so that a reader sees all of it or nothing. Only the standard
library is used: the platform's and the engine's environment both read this file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

LISTING: Final = "weights.json"
SCHEMA_VERSION: Final = 1


class WeightsError(Exception):
    """Weights are missing, damaged or not what they claim; the message says what mends it."""


@dataclass(frozen=True)
class WeightsSpec:
    """What a set of weights is, before any file of it exists.

    Attributes:
        name: file-name safe name of the model.
        version: the source's version and, after `-r`, of the recipe that converts it.
        licence: SPDX identifier under which the weights may be used.
        source: where the bytes come from: package, upstream model and its licence.
    """

    name: str
    version: str
    licence: str
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.version}"


def cache_root(environ: Mapping[str, str]) -> Path:
    """The folder of this user's weights: `$PROA_CACHE`, else proa's part of the XDG cache."""
    if explicit := environ.get("PROA_CACHE"):
        return Path(explicit) / "weights"
    xdg = environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg else Path(environ.get("HOME") or Path.home()) / ".cache"
    return base / "proa" / "weights"


def sha256_file(path: Path) -> str:
    """The hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _relative_files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


def _head(spec: WeightsSpec) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "name": spec.name,
        "version": spec.version,
        "licence": spec.licence,
        "source": dict(spec.source),
    }


def write_listing(folder: Path, spec: WeightsSpec) -> dict[str, Any]:
    """Write `weights.json` over everything in `folder` and return what it says."""
    listing: dict[str, Any] = {
        **_head(spec),
        "files": {
            name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
            for name in _relative_files(folder)
            if name != LISTING
        },
    }
    (folder / LISTING).write_text(json.dumps(listing, indent=2, sort_keys=True) + "\n")
    return listing


def verify(folder: Path, spec: WeightsSpec) -> dict[str, Any]:
    """Check every byte of a weights folder against its listing.

    Returns:
        The listing.

    Raises:
        WeightsError: naming the first file that is missing, changed or not listed.
    """
    try:
        listing = json.loads((folder / LISTING).read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} holds no {LISTING}") from error
    except ValueError as error:
        raise WeightsError(f"{folder / LISTING} is not JSON: {error}") from error
    if not isinstance(listing, dict) or not isinstance(listing.get("files"), dict):
        raise WeightsError(f"{folder / LISTING}: expected an object with `files`")
    for key, expected in _head(spec).items():
        if listing.get(key) != expected:
            raise WeightsError(
                f"{folder / LISTING}: {key} = {listing.get(key)!r}, expected {expected!r}"
            )
    present = set(_relative_files(folder)) - {LISTING}
    if unlisted := present - set(listing["files"]):
        raise WeightsError(f"{folder} holds {min(unlisted)}, which {LISTING} does not list")
    for name, entry in listing["files"].items():
        if name not in present:
            raise WeightsError(f"{folder} lacks {name}")
        if (actual := sha256_file(folder / name)) != entry["sha256"]:
            raise WeightsError(
                f"{folder / name} has sha256 {actual}, expected {entry['sha256']}: it was changed"
            )
    return listing


def listing_digest(folder: Path) -> str:
    """`sha256:HEX` of `weights.json`: one digest for every byte the folder holds."""
    return f"sha256:{sha256_file(folder / LISTING)}"


def locate(spec: WeightsSpec, environ: Mapping[str, str]) -> Path:
    """The verified folder of these weights on this machine.

    Raises:
        WeightsError: they were never built, or were changed since.
    """
    folder = cache_root(environ) / spec.folder_name
    if not folder.is_dir():
        raise WeightsError(
            f"no weights {spec.folder_name} below {folder.parent}: make setup-engine"
        )
    verify(folder, spec)
    return folder


def build_once(
    spec: WeightsSpec,
    build: Callable[[Path], None],
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> Path:
    """Return the weights' folder; build it first when it is missing or damaged.

    Args:
        spec: what to build.
        build: fills the empty folder it is given, or raises.
        environ: the process's environment, for the cache's place.
        say: takes one line of progress.

    Two builders at once are harmless: each fills a folder of its own and the first rename wins.
    """
    folder = cache_root(environ) / spec.folder_name
    if folder.is_dir():
        try:
            verify(folder, spec)
        except WeightsError as error:
            say(f"{spec.folder_name}: {error}; building it again")
            _discard(folder)
        else:
            say(f"{spec.folder_name}: there, verified ({folder})")
            return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    temporary = Path(tempfile.mkdtemp(prefix=f".{spec.folder_name}.", dir=folder.parent))
    try:
        build(temporary)
        listing = write_listing(temporary, spec)
        _publish(temporary, folder, spec)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size = sum(entry["bytes"] for entry in listing["files"].values()) / 1e6
    say(
        f"{spec.folder_name}: built in {time.monotonic() - started:.0f} s, {size:.0f} MB ({folder})"
    )
    return folder


def _publish(temporary: Path, folder: Path, spec: WeightsSpec) -> None:
    for path in [*temporary.rglob("*"), temporary]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    try:
        temporary.rename(folder)
    except OSError:
        # Somebody else was first; theirs counts if it is whole.
        verify(folder, spec)


def _discard(folder: Path) -> None:
    doomed = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(doomed / folder.name)
    shutil.rmtree(doomed)


def run(spec: WeightsSpec, build: Callable[[Path], None]) -> int:
    """The body of a weights script: build once, print progress, return the exit code."""
    try:
        build_once(
            spec, build, environ=os.environ, say=lambda line: print(f"==> {line}", flush=True)
        )
    except WeightsError as error:
        print(f"weights {spec.folder_name}: {error}", file=sys.stderr)
        return 1
    return 0
