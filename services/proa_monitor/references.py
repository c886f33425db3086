"""Reference profiles, fetched from the bundle store by the digest that events carry."""

from __future__ import annotations

from dataclasses import dataclass

from proa.errors import NotFound, ProaError
from proa.profile.drift import DriftRule
from proa.profile.reference import Profile, parse_profile
from proa.release.bundle import BundleStore
from proa.release.reference import ReleaseRef

__all__ = ["Reference", "References"]


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of a release.

    Attributes:
        profile, rule: None when the release is not watched; `note` says why.
        known: False when its bundle is not in the store (yet): ask again later.
    """

    profile: Profile | None
    rule: DriftRule | None
    note: str | None
    known: bool


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
                return Reference(None, None, note, known=True)
            profile = parse_profile(self._bundles.read(ref.digest, manifest.profile))
            return Reference(profile, DriftRule(profile), None, known=True)
        except NotFound:
            return Reference(None, None, "the release is not in the bundle store", known=False)
        except (ProaError, OSError) as error:
            return Reference(None, None, f"its profile cannot be read: {error}", known=False)
