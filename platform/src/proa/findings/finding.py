"""A finding: an observation that lasted. It opens, is seen again, and closes; never deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proa.errors import InvalidInput
from proa.findings.observation import GROUPS, Group, Severity

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is so with one release, from a first window on.

    Attributes:
        id: 16 hex digits, the same however often the same history is judged: made from model,
            release, track, type, subject and `since`.
        release: `name/version@sha256:…`; track: `champion`, `challenger` or empty.
        window: name of the newest window that showed it.
        since, seen: start of the first and end of the newest such window, RFC 3339, event time.
        until: end of the window in which it was gone; None while it is open.
        windows: windows running that showed it.
        effect, limit, unit, message, severity, evidence: as in the newest `Observation`.
    """

    id: str
    model: str
    kind: str
    release: str
    track: str
    type: str
    subject: str
    window: str
    since: str
    seen: str
    until: str | None
    windows: int
    severity: Severity
    effect: float | None
    limit: float | None
    unit: str
    message: str
    evidence: Mapping[str, Any]

    @property
    def group(self) -> Group:
        return GROUPS[self.type]

    @property
    def open(self) -> bool:
        return self.until is None

    def to_wire(self) -> dict[str, Any]:
        """A JSON object: every attribute, and `group`."""
        return asdict(self) | {"group": self.group}

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Finding:
        """Read what `to_wire` wrote; keys that are not known here are left out.

        Raises:
            InvalidInput: a key is missing, or the type is none.
        """
        try:
            finding = cls(**{name: value[name] for name in cls.__slots__})
        except KeyError as error:
            raise InvalidInput(f"a finding lacks {error.args[0]!r}", param="finding") from error
        if finding.type not in GROUPS:
            raise InvalidInput(f"a finding of an unknown type {finding.type!r:.80}", param="type")
        return finding
