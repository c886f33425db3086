"""Content-addressed bundles: every file and every manifest is a blob named by its SHA-256.

A bundle store is a folder `sha256/ab/abcdef…`; a blob is written once, under a temporary name,
flushed and renamed, so that a reader sees a whole blob or none. Two releases that share an index
share its blob.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from proa.errors import Conflict, InvalidInput, NotFound
from proa.release.canonical import digest_bytes, digest_file
from proa.release.manifest import FileRef, Manifest, parse_manifest

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class BundleStore:
    """Blobs in the folder `root`."""

    root: Path

    @classmethod
    def from_url(cls, url: str) -> BundleStore:
        """Open `file:///folder`; other schemes are refused by name."""
        scheme, _, rest = url.partition("://")
        if scheme != "file" or not rest.startswith("/"):
            raise InvalidInput(f"bundle store {url!r}: expected file:///absolute/folder")
        return cls(Path(rest))

    def put(self, manifest: Manifest, folder: Path) -> str:
        """Store every file that the manifest lists, then the manifest; return its digest.

        Raises:
            InvalidInput: a listed file is missing in `folder` or has another content.
        """
        for file in manifest.files:
            path = folder / file.path
            if not path.is_file():
                raise InvalidInput(f"bundle: {file.path} is listed but not in {folder}")
            if digest_file(path) != file.sha256:
                raise InvalidInput(f"bundle: {file.path} changed after the manifest was made")
            self._put_blob(path, file.sha256)
        data = manifest.canonical()
        digest = digest_bytes(data)
        if not self._blob(digest).exists():
            with tempfile.NamedTemporaryFile(dir=self._incoming(), delete=False) as file_:
                file_.write(data)
            self._settle(Path(file_.name), digest)
        return digest

    def manifest(self, digest: str) -> Manifest:
        """Read a manifest and verify its digest.

        Raises:
            NotFound: no such manifest.  Conflict: its bytes no longer have that digest.
        """
        blob = self._blob(digest)
        if not blob.is_file():
            raise NotFound(f"bundle {digest} is not in the store")
        data = blob.read_bytes()
        if digest_bytes(data) != digest:
            raise Conflict(
                f"bundle {digest}: the manifest's bytes have another digest", code="corrupt"
            )
        return parse_manifest(data)

    def has(self, digest: str) -> bool:
        """Whether the manifest is in the store."""
        return self._blob(digest).is_file()

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
                blob = self._blob(file.sha256)
                data = blob.read_bytes() if blob.is_file() else b""
                if digest_bytes(data) != file.sha256:
                    raise Conflict(f"bundle {digest}: {path} is damaged", code="corrupt")
                return data
        raise NotFound(f"bundle {digest} has no file {path}")

    def text(self, digest: str, *, limit: int) -> str | None:
        """A small text file by its digest; None when it is larger than `limit` or no UTF-8."""
        blob = self._blob(digest)
        if not blob.is_file() or blob.stat().st_size > limit:
            return None
        try:
            return blob.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return None

    def materialize(self, digest: str, folder: Path) -> Manifest:
        """Lay the release's files into `folder` (hard links where possible), each verified.

        An existing folder is verified and reused. Files are read-only.

        Raises:
            NotFound, Conflict: a blob is missing or its bytes have another digest.
        """
        manifest = self.manifest(digest)
        if folder.is_dir():
            _verify(manifest, folder)
            return manifest
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".incoming-"))
        try:
            for file in manifest.files:
                self._lay(file, staging)
            (staging / MANIFEST).write_bytes(manifest.canonical())
            _verify(manifest, staging)
            try:
                staging.rename(folder)
            except OSError:
                _verify(manifest, folder)  # another process laid the same release first
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return manifest

    def _lay(self, file: FileRef, folder: Path) -> None:
        blob, target = self._blob(file.sha256), folder / file.path
        if not blob.is_file():
            raise NotFound(f"bundle: the blob of {file.path} ({file.sha256}) is missing")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(blob, target)
        except OSError:
            shutil.copyfile(blob, target)

    def _put_blob(self, path: Path, digest: str) -> None:
        if self._blob(digest).exists():
            return
        with (
            tempfile.NamedTemporaryFile(dir=self._incoming(), delete=False) as target,
            path.open("rb") as source,
        ):
            shutil.copyfileobj(source, target)
        self._settle(Path(target.name), digest)

    def _settle(self, temporary: Path, digest: str) -> None:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o444)
        blob = self._blob(digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(blob)

    def _incoming(self) -> Path:
        folder = self.root / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _blob(self, digest: str) -> Path:
        algorithm, _, hexdigest = digest.partition(":")
        if algorithm != "sha256" or len(hexdigest) != 64:
            raise InvalidInput(f"digest {digest!r}: expected sha256:<64 hex digits>")
        return self.root / "sha256" / hexdigest[:2] / hexdigest


def list_files(folder: Path) -> list[FileRef]:
    """Every file under `folder` as a manifest lists it, sorted by path (the manifest left out)."""
    files = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative != MANIFEST:
            files.append(FileRef(path=relative, sha256=digest_file(path), size=path.stat().st_size))
    return files


def _verify(manifest: Manifest, folder: Path) -> None:
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or digest_file(path) != file.sha256:
            raise Conflict(
                f"release {manifest.name}: {file.path} does not have digest {file.sha256}",
                hint="the bundle is corrupt; restore it from a backup or create the release again",
                code="corrupt",
            )
