"""Who does something: a key, which was proven, and a person, who was named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proa.errors import InvalidInput

MINIMUM_WORDS = 3


@dataclass(frozen=True, slots=True)
class By:
    """`key` is the id of the key that asked, None for an alias or the controller itself."""

    key: str | None = None
    person: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """As a journal line's details carry it."""
        return {"key": self.key, "person": self.person}

    def is_same(self, other: By) -> bool:
        """Whether both may be one person: the same key, or the same name. Who is not known is
        nobody's double."""
        if self.key is not None and self.key == other.key:
            return True
        return (
            self.person is not None
            and other.person is not None
            and _plain(self.person) == _plain(other.person)
        )


UNKNOWN = By()


def by_of(details: Mapping[str, Any]) -> By:
    """Who a journal line names; `UNKNOWN` for one that names nobody."""
    value = details.get("by") or {}
    return By(value.get("key"), value.get("person"))


def person_of(text: str | None, *, required: str | None = None) -> str | None:
    """Check a person's name.

    Args:
        required: what it is needed for, if it is.

    Raises:
        InvalidInput: it is missing though required, too long, or not one line.
    """
    name = (text or "").strip()
    if not name:
        if required is not None:
            raise InvalidInput(
                f"{required} needs a person's name", hint="add --as NAME", param="as"
            )
        return None
    if len(name) > 80 or not name.isprintable():
        raise InvalidInput(f"as = {name[:80]!r}: expected one line of at most 80", param="as")
    return name


def reason_of(text: str, *, required: str) -> str:
    """Check a reason that others will read.

    Raises:
        InvalidInput: fewer than three words.
    """
    reason = text.strip()
    if len(reason.split()) < MINIMUM_WORDS:
        raise InvalidInput(
            f"{required} needs a reason of at least {MINIMUM_WORDS} words, got {reason!r}",
            hint="add --reason TEXT",
            param="reason",
        )
    return reason


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
