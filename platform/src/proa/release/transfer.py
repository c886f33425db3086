"""A whole release from one bundle store to another: what it needs, and the copying of it.

A release needs the files of its manifest and, with retrieval, its embedder's weights. The manifest
arrives last: a store that has it has the rest. A copy that was broken off goes on with the blobs
that are missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proa.errors import Conflict, NotFound
from proa.release.blobs import FolderBlobs
from proa.release.bundle import BundleStore, weights_files
from proa.release.manifest import FileRef, Manifest

__all__ = ["Copied", "copy_release", "weights_of"]

_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did.

    Attributes:
        files: blobs that the release needs, the manifest included.
        moved, moved_bytes: those that were not there before.
        no_weights: digest of an embedder's weights that the source does not hold, else None.
    """

    manifest: Manifest
    files: int
    moved: int
    moved_bytes: int
    no_weights: str | None


def weights_of(manifest: Manifest) -> str | None:
    """The digest of the listing of the embedder's weights; None without retrieval."""
    llm = manifest.llm
    return llm.retrieval.embedder_digest if llm is not None and llm.retrieval is not None else None


def copy_release(
    digest: str,
    source: BundleStore,
    target: BundleStore,
    *,
    on_blob: Callable[[FileRef], None] = lambda file: None,
) -> Copied:
    """Copy everything a release needs; what is there already is left alone.

    Args:
        digest: the release's.
        on_blob: told of every blob that arrived, from several threads.

    Raises:
        NotFound, Conflict: a blob is missing in `source` or damaged; the message names its file.
        Unavailable: a store does not answer.
    """
    manifest = source.manifest(digest)
    wanted = list(manifest.files)
    listing = weights_of(manifest)
    no_weights = None
    last = [_listed("manifest.json", digest, len(manifest.canonical()))]
    if listing is not None:
        if source.has(listing):
            data = source.blobs.read(listing)
            wanted += weights_files(data)
            last.insert(0, _listed("weights.json", listing, len(data)))
        else:
            no_weights = listing
    moved = _copy(wanted, source, target, on_blob)
    for file in last:
        moved += _copy([file], source, target, on_blob)
    return Copied(
        manifest=manifest,
        files=len({file.sha256 for file in [*wanted, *last]}),
        moved=len(moved),
        moved_bytes=sum(file.size for file in moved),
        no_weights=no_weights,
    )


def _listed(path: str, digest: str, size: int) -> FileRef:
    return FileRef(path=path, sha256=digest, size=size)


def _copy(
    files: Sequence[FileRef],
    source: BundleStore,
    target: BundleStore,
    on_blob: Callable[[FileRef], None],
) -> list[FileRef]:
    """The files that were missing, once per blob, the largest first."""
    absent = {file.sha256: file for file in files if target.blobs.size(file.sha256) is None}

    def bring(file: FileRef) -> None:
        try:
            _bring(file.sha256, source, target)
        except (NotFound, Conflict) as error:
            named = f"{file.path} ({file.size} bytes): {error.message}"
            raise type(error)(named, hint=error.hint, code=error.code) from error
        on_blob(file)

    ordered = sorted(absent.values(), key=lambda file: -file.size)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="copy") as pool:
        futures = [pool.submit(bring, file) for file in ordered]
        faults = [fault for future in futures if (fault := future.exception()) is not None]
    if faults:
        # A blob that is gone says more than a store that stopped answering after it.
        raise min(faults, key=lambda fault: not isinstance(fault, NotFound | Conflict))
    return ordered


def _bring(digest: str, source: BundleStore, target: BundleStore) -> None:
    if isinstance(target.blobs, FolderBlobs):
        place = target.blobs.place(digest)
        if not place.exists():
            source.blobs.lay(digest, place)
        return
    with tempfile.TemporaryDirectory(prefix="proa-carry-") as folder:
        file = Path(folder) / "blob"
        source.blobs.lay(digest, file)
        target.blobs.put(digest, file)
