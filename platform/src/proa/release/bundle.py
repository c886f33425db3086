"""Content-addressed bundles: every file and every manifest is a blob named by its SHA-256.

A bundle store is a folder or a bucket of blobs (`proa.release.blobs`). Two releases that share an
index share its blob. Weights of embedders are blobs too: a release names the digest of their
listing, the listing the digest of every file.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from proa.errors import Conflict, InvalidInput, NotFound
from proa.release.blobs import Blobs, FolderBlobs, open_blobs
from proa.release.canonical import digest_bytes, digest_file, parse_json
from proa.release.manifest import FileRef, Manifest, parse_manifest

__all__ = ["MANIFEST", "WEIGHTS", "BundleStore", "list_files", "weights_files"]

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.json"
"""The listing of a folder of weights: `{"files": {path: {"sha256": hex, "bytes": n}}}`."""


class BundleStore:
    """Releases in a store of blobs; a path is a folder of them."""

    def __init__(self, blobs: Blobs | Path) -> None:
        self.blobs: Blobs = FolderBlobs(blobs) if isinstance(blobs, Path) else blobs

    @classmethod
    def from_url(cls, url: str) -> BundleStore:
        """Open `file:///folder` or `s3://bucket/prefix`; other schemes are refused by name."""
        return cls(open_blobs(url))

    def put(self, manifest: Manifest, folder: Path) -> str:
        """Store every file that the manifest lists, then the manifest; return its digest.

        Raises:
            InvalidInput: a listed file is missing in `folder` or has another content.
        """
        self._put_files(manifest.files, folder)
        data = manifest.canonical()
        digest = digest_bytes(data)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.blobs.put(digest, Path(file.name))
        return digest

    def put_weights(self, folder: Path) -> str:
        """Store a folder of weights: the files that its `weights.json` lists, then the listing.

        Returns:
            The listing's digest, by which releases name the weights.

        Raises:
            InvalidInput: as `put`, or the listing has another shape.  NotFound: there is none.
        """
        listing = folder / WEIGHTS
        if not listing.is_file():
            raise NotFound(f"{folder} holds no {WEIGHTS}")
        digest = digest_file(listing)
        self._put_files(weights_files(listing.read_bytes()), folder)
        self.blobs.put(digest, listing)
        return digest

    def _put_files(self, files: list[FileRef], folder: Path) -> None:
        for file in files:
            path = folder / file.path
            if not path.is_file():
                raise InvalidInput(f"bundle: {file.path} is listed but not in {folder}")
            if digest_file(path) != file.sha256:
                raise InvalidInput(f"bundle: {file.path} changed after the manifest was made")
            self.blobs.put(file.sha256, path)

    def manifest(self, digest: str) -> Manifest:
        """Read a manifest and verify its digest.

        Raises:
            NotFound: no such manifest.  Conflict: its bytes no longer have that digest.
        """
        return parse_manifest(self.blobs.read(digest))

    def has(self, digest: str) -> bool:
        """Whether the manifest is in the store."""
        return self.blobs.size(digest) is not None

    def read(self, digest: str, path: str) -> bytes:
        """One file of a release, verified.

        Args:
            digest: the release's.
            path: as in the manifest.

        Raises:
            NotFound: no such release or file.  Conflict: its bytes have another digest.
        """
        for file in self.manifest(digest).files:
            if file.path == path:
                return self.blobs.read(file.sha256)
        raise NotFound(f"bundle {digest} has no file {path}")

    def text(self, digest: str, *, limit: int) -> str | None:
        """A small text file by its digest; None when it is larger than `limit` or no UTF-8."""
        size = self.blobs.size(digest)
        if size is None or size > limit:
            return None
        try:
            return self.blobs.read(digest).decode("utf-8")
        except UnicodeDecodeError:
            return None

    def materialize(self, digest: str, folder: Path) -> Manifest:
        """Lay the release's files into `folder` (hard links where possible), each verified.

        An existing folder is verified and reused. Files are read-only.

        Raises:
            NotFound, Conflict: a blob is missing or its bytes have another digest.
        """
        manifest = self.manifest(digest)
        what = f"release {manifest.name}"
        self._lay_all(what, manifest.files, folder, (MANIFEST, manifest.canonical()))
        return manifest

    def materialize_weights(self, digest: str, folder: Path) -> None:
        """As `materialize`, for weights by the digest of their listing."""
        listing = self.blobs.read(digest)
        self._lay_all("weights", weights_files(listing), folder, (WEIGHTS, listing))

    def _lay_all(
        self, what: str, files: list[FileRef], folder: Path, listing: tuple[str, bytes]
    ) -> None:
        if folder.is_dir():
            _verify(what, files, folder)
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".incoming-"))
        try:
            for file in files:
                self._lay(what, file, staging / file.path)
            (staging / listing[0]).write_bytes(listing[1])
            try:
                staging.rename(folder)
            except OSError:
                _verify(what, files, folder)  # another process laid the same one first
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _lay(self, what: str, file: FileRef, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.blobs.lay(file.sha256, target)
        except NotFound as error:
            raise NotFound(f"{what}: {file.path}: {error.message}") from error
        except Conflict as error:
            raise _damaged(what, file) from error


def list_files(folder: Path) -> list[FileRef]:
    """Every file under `folder` as a manifest lists it, sorted by path.

    The manifest is left out, and bytecode: Python writes that anew wherever it is older than its
    source.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative != MANIFEST and "__pycache__" not in path.parts:
            files.append(FileRef(path=relative, sha256=digest_file(path), size=path.stat().st_size))
    return files


def weights_files(listing: bytes) -> list[FileRef]:
    """The files that a `weights.json` lists, sorted by path.

    Raises:
        InvalidInput: it has another shape.
    """
    value: Any = parse_json(listing, what=WEIGHTS)
    try:
        return [
            FileRef(path=path, sha256=f"sha256:{entry['sha256']}", size=entry["bytes"])
            for path, entry in sorted(value["files"].items())
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"{WEIGHTS}: expected files with sha256 and bytes of each ({error!r:.200})"
        ) from error


def _verify(what: str, files: list[FileRef], folder: Path) -> None:
    for file in files:
        path = folder / file.path
        if not path.is_file() or digest_file(path) != file.sha256:
            raise _damaged(what, file)


def _damaged(what: str, file: FileRef) -> Conflict:
    return Conflict(
        f"{what}: {file.path} does not have digest {file.sha256}",
        hint="the bundle is corrupt; restore it from a backup or create the release again",
        code="corrupt",
    )
