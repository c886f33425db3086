"""Where bundles' bytes lie: blobs named by their SHA-256, in a folder (here) or in S3 (`s3.py`).

A store knows no names and no versions: a blob is written once and never changed, so that whoever
holds a digest can check what it got. Reading always checks; nothing is taken on trust.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from proa.errors import Conflict, InvalidInput, NotFound
from proa.release.canonical import digest_bytes, digest_file

__all__ = [
    "Blobs",
    "FolderBlobs",
    "Stored",
    "Sweep",
    "arriving",
    "corrupt",
    "key_of",
    "missing",
    "open_blobs",
]


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob in a store: `size` in bytes, `written` in epoch seconds."""

    digest: str
    size: int
    written: float


class Blobs(Protocol):
    """Blobs by their digest, `sha256:hex`.

    Every method raises NotFound for a blob that is not there, Conflict (`corrupt`) for one whose
    bytes have another digest, InvalidInput for something that is no digest, Unavailable when the
    store does not answer.
    """

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None when it is not there. Its content is not looked at."""

    def read(self, digest: str) -> bytes:
        """A whole blob, checked: for manifests and other small files."""

    def lay(self, digest: str, target: Path) -> None:
        """Put a blob's bytes at `target`, a path that is free, checked before it appears there."""

    def put(self, digest: str, source: Path) -> None:
        """Store a file whose digest this is, unless it is there: the first writer wins."""


class Sweep(Protocol):
    """The two verbs of `proa gc`, which nobody else has."""

    def stored(self) -> Iterator[Stored]:
        """Every blob, in any order."""

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not there is no error."""


def key_of(digest: str) -> str:
    """`sha256/ab/abcdef…`: where a store keeps a blob.

    Raises:
        InvalidInput: not `sha256:` and 64 hex digits.
    """
    algorithm, _, hexdigest = digest.partition(":")
    if algorithm != "sha256" or len(hexdigest) != 64 or set(hexdigest) - set("0123456789abcdef"):
        raise InvalidInput(f"digest {digest!r}: expected sha256:<64 hex digits>")
    return f"sha256/{hexdigest[:2]}/{hexdigest}"


def open_blobs(url: str) -> Blobs:
    """Open `file:///folder` or `s3://bucket/prefix`; other schemes are refused by name."""
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return FolderBlobs(Path(rest))
    if scheme == "s3" and rest.partition("/")[0]:
        from proa.release.s3 import S3Blobs

        bucket, _, prefix = rest.partition("/")
        return S3Blobs(bucket, prefix.strip("/"))
    raise InvalidInput(
        f"bundle store {url!r}: expected file:///absolute/folder or s3://bucket/prefix"
    )


@dataclass(frozen=True, slots=True)
class FolderBlobs:
    """A folder `sha256/ab/abcdef…`.

    A blob is written under a temporary name, flushed and renamed: a reader sees all of it or
    nothing. Files are read-only, and laid out as hard links where the file systems allow.
    """

    root: Path

    def size(self, digest: str) -> int | None:
        path = self._path(digest)
        return path.stat().st_size if path.is_file() else None

    def read(self, digest: str) -> bytes:
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError as error:
            raise missing(digest, str(self.root)) from error
        if digest_bytes(data) != digest:
            raise corrupt(digest, str(self.root))
        return data

    def lay(self, digest: str, target: Path) -> None:
        blob = self._path(digest)
        if not blob.is_file():
            raise missing(digest, str(self.root))
        if digest_file(blob) != digest:
            raise corrupt(digest, str(self.root))
        try:
            os.link(blob, target)
        except OSError:  # another file system, or one without links
            with arriving(target) as part:
                shutil.copyfile(blob, part)
                if digest_file(part) != digest:
                    raise corrupt(digest, str(self.root)) from None

    def put(self, digest: str, source: Path) -> None:
        path = self.place(digest)
        if path.exists():
            return
        incoming = self.root / "incoming"
        incoming.mkdir(exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(dir=incoming, delete=False) as target,
            source.open("rb") as data,
        ):
            shutil.copyfileobj(data, target)
            target.flush()
            os.fsync(target.fileno())
        temporary = Path(target.name)
        temporary.chmod(0o444)
        temporary.replace(path)

    def stored(self) -> Iterator[Stored]:
        for path in (self.root / "sha256").glob("*/*"):
            facts = path.stat()
            yield Stored(f"sha256:{path.name}", facts.st_size, facts.st_mtime)

    def delete(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)

    def place(self, digest: str) -> Path:
        """Where the blob lies or will lie; its folder is made."""
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, digest: str) -> Path:
        return self.root / key_of(digest)


@contextmanager
def arriving(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, which becomes `target` when the block ends well."""
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        part.chmod(0o444)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def missing(digest: str, where: str) -> NotFound:
    """The error for a blob that is not in the store `where`."""
    return NotFound(f"{digest} is not in the store {where}")


def corrupt(digest: str, where: str) -> Conflict:
    """The error for a blob whose bytes are not those of its name."""
    return Conflict(
        f"the bundle store {where} holds other bytes under the digest {digest}",
        hint="restore the blob from a backup, or create the release again",
        code="corrupt",
    )
