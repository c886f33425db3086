"""References of releases, fetched from the bundle store by the digest that events carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from proa.errors import NotFound, ProaError
from proa.profile.judge import WindowJudge
from proa.profile.language_reference import LANGUAGE_NAME, LanguageReference, parse_language
from proa.profile.reference import Profile, parse_profile
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef

__all__ = ["Reference", "References"]


@dataclass(frozen=True)
class Reference:
    """What is known of a release.

    Attributes:
        profile: None when the release is not watched; `note` says why.
        language: None when it is no language release, or has no reference of that kind.
        known: False when its bundle is not in the store (yet): ask again later.
        manifest: None when it could not be read.
    """

    profile: Profile | None
    note: str | None
    known: bool
    language: LanguageReference | None = None
    manifest: Manifest | None = None

    @cached_property
    def judge(self) -> WindowJudge | None:
        """What is ordinary for this release; it takes some milliseconds to make."""
        return None if self.profile is None else WindowJudge(self.profile)

    @property
    def slices(self) -> Sequence[str]:
        """Columns whose values are watched one by one."""
        return () if self.profile is None else self.profile.slices

    @property
    def digest(self) -> str:
        """Names everything that windows are counted with."""
        parts = (
            "" if self.profile is None else self.profile.digest,
            "" if self.language is None else self.language.digest,
            ",".join(self.slices),
        )
        return " ".join(parts)


class References:
    """Reads profiles of releases; nothing is kept here, whoever asks keeps the answer."""

    def __init__(self, bundles: BundleStore) -> None:
        self._bundles = bundles

    def of(self, release: str) -> Reference:
        """The reference of `name/version@sha256:hex`; never raises for what the store holds."""
        try:
            ref = ReleaseRef.parse(release)
            manifest = self._bundles.manifest(ref.digest)
            if manifest.profile is None:
                note = "; ".join(manifest.not_watched) or "the release has no reference profile"
                return Reference(None, note, known=True, manifest=manifest)
            profile = parse_profile(self._bundles.read(ref.digest, manifest.profile))
            language = self._language(ref, manifest, manifest.profile)
            return Reference(profile, None, known=True, language=language, manifest=manifest)
        except NotFound:
            return Reference(None, "the release is not in the bundle store", known=False)
        except (ProaError, OSError) as error:
            return Reference(None, f"its profile cannot be read: {error}", known=False)

    def _language(
        self, ref: ReleaseRef, manifest: Manifest, profile: str
    ) -> LanguageReference | None:
        path = str(PurePosixPath(profile).with_name(LANGUAGE_NAME))
        if all(file.path != path for file in manifest.files):
            return None
        return parse_language(self._bundles.read(ref.digest, path))
