"""How a release is named: `flight-delay/7@sha256:4f…`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from proa.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_REF = re.compile(r"(?P<name>[^/@]+)/(?P<version>[1-9][0-9]{0,8})@(?P<digest>sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, order=True)
class ReleaseRef:
    """One immutable release.

    Attributes:
        name: the model's name, a DNS label (it also names Deployments and metrics labels).
        version: the number MLflow gave its model version, from 1.
        digest: `sha256:` and 64 hex digits of the manifest's canonical JSON.
    """

    name: str
    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}@{self.digest}"

    @property
    def short(self) -> str:
        """`name/version`, for people."""
        return f"{self.name}/{self.version}"

    @classmethod
    def parse(cls, text: str) -> ReleaseRef:
        """Read `name/version@sha256:hex`.

        Raises:
            InvalidInput: the text has another form.
        """
        match = _REF.fullmatch(text)
        if match is None:
            raise InvalidInput(
                f"release {text!r} is not of the form name/version@sha256:<64 hex digits>"
            )
        return cls(check_name(match["name"]), int(match["version"]), match["digest"])


def check_name(name: str) -> str:
    """Return `name` if it is a DNS label of at most 63 characters.

    Raises:
        InvalidInput: it is not; the message says what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"model name {name!r}: expected lower-case letters, digits and inner hyphens, "
            "at most 63 characters",
            param="name",
        )
    return name
