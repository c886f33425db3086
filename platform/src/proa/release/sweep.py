"""What a bundle store need not keep: mark what releases need, name the rest.

Roots are the releases that must stay. A blob stays when a root needs it, when it was written lately
(a release may be in the making), or when a release whose manifest was written lately needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, cast

from proa.errors import InvalidInput, NotFound
from proa.release.blobs import Blobs, Stored, Sweep
from proa.release.bundle import BundleStore, weights_files
from proa.release.manifest import Manifest, parse_manifest
from proa.release.transfer import weights_of

__all__ = ["Plan", "plan", "remove"]

_MANIFEST_BYTES: Final = 4 << 20
"""A blob above is no manifest."""


class _Whole(Blobs, Sweep, Protocol):
    """Both stores are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep would do.

    Attributes:
        kept: blobs that stay.
        unneeded: those that go, largest first.
        gone: roots whose manifest is not in the store.
    """

    kept: tuple[Stored, ...]
    unneeded: tuple[Stored, ...]
    gone: tuple[str, ...]

    @property
    def freed(self) -> int:
        """Bytes of what goes."""
        return sum(blob.size for blob in self.unneeded)


def plan(store: BundleStore, roots: Iterable[str], *, written_after: float) -> Plan:
    """Decide what goes; changes nothing.

    Args:
        roots: digests of the releases that must stay.
        written_after: epoch seconds; what was written later stays.

    Raises:
        Conflict: a manifest is damaged: nothing can be said about what it needs.
        Unavailable: the store does not answer.
    """
    stored = {blob.digest: blob for blob in cast("_Whole", store.blobs).stored()}
    needed, gone = set[str](), list[str]()
    for digest in dict.fromkeys(roots):
        if digest not in stored:
            gone.append(digest)
            continue
        needed |= _needs(store, digest, store.manifest(digest))
    for blob in stored.values():
        if blob.written > written_after:
            needed.add(blob.digest)
            if blob.size <= _MANIFEST_BYTES:
                with suppress(InvalidInput):
                    manifest = parse_manifest(store.blobs.read(blob.digest))
                    needed |= _needs(store, blob.digest, manifest)
    return Plan(
        kept=tuple(blob for blob in stored.values() if blob.digest in needed),
        unneeded=tuple(
            sorted(
                (blob for blob in stored.values() if blob.digest not in needed),
                key=lambda blob: (-blob.size, blob.digest),
            )
        ),
        gone=tuple(gone),
    )


def remove(store: BundleStore, found: Plan) -> None:
    """Delete what a plan found unneeded.

    Raises:
        Forbidden, Unavailable: the store refuses or does not answer; run it again.
    """
    for blob in found.unneeded:
        cast("_Whole", store.blobs).delete(blob.digest)


def _needs(store: BundleStore, digest: str, manifest: Manifest) -> set[str]:
    found = {digest, *(file.sha256 for file in manifest.files)}
    listing = weights_of(manifest)
    if listing is not None:
        found.add(listing)
        with suppress(NotFound):  # a store without them: they lie on a claim
            found |= {file.sha256 for file in weights_files(store.blobs.read(listing))}
    return found
