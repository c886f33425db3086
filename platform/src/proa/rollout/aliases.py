"""What a model's aliases in the registry ask for and report: a pure rule over what was last seen.

`challenger` is a request when it *changes*, never because of what it says: a release that was
promoted, refused, stopped or rolled back stays under that alias for days and must not come back by
itself. `champion` is a report; pointing it elsewhere by hand is a request, and it is put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from proa.release.reference import ReleaseRef


@dataclass(frozen=True, slots=True)
class Wish:
    """A request by alias that waits for its turn."""

    release: ReleaseRef
    who: str


@dataclass(frozen=True, slots=True)
class Aliases:
    """What is remembered about a model's aliases.

    Attributes:
        seen: what `challenger` said at the last look.
        asked: the release last admitted or refused, by whatever way it was asked for.
        wish: a request seen and not answered yet.
        holding: an undo or a rollback came after the last look: what `challenger` says at the
            next one was asked for before it, and is held.
        reported: what `champion` was last set to.
    """

    seen: ReleaseRef | None = None
    asked: ReleaseRef | None = None
    wish: Wish | None = None
    holding: bool = False
    reported: ReleaseRef | None = None

    def look(self, challenger: ReleaseRef | None, who: str) -> tuple[Aliases, ReleaseRef | None]:
        """Take in what `challenger` says now.

        Returns:
            The aliases as remembered from now on, and the release whose request was held.
        """
        looked = replace(self, seen=challenger, holding=False)
        if challenger == self.seen:
            return looked, None
        if challenger is None:  # set again later, it is a request again
            return replace(looked, asked=None, wish=None), None
        if challenger == self.asked:
            return replace(looked, wish=None), None
        if self.holding:
            return replace(looked, wish=None, asked=challenger), challenger
        return replace(looked, wish=Wish(challenger, who)), None

    def moved(self, release: ReleaseRef, who: str) -> Aliases:
        """`champion` was pointed at `release` by hand."""
        return replace(self, wish=None if self.holding else Wish(release, who))

    def answered(self, release: ReleaseRef) -> Aliases:
        """`release` was admitted or refused."""
        same = self.wish is not None and self.wish.release == release
        return replace(self, asked=release, wish=None if same else self.wish)

    def held(self) -> Aliases:
        """An undo or a rollback: what was asked for before it is no request any more."""
        return replace(self, wish=None, holding=True)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `parse_aliases` reads back to an equal value."""
        wish = self.wish and {"release": str(self.wish.release), "who": self.wish.who}
        return {
            "seen": None if self.seen is None else str(self.seen),
            "asked": None if self.asked is None else str(self.asked),
            "wish": wish,
            "holding": self.holding,
            "reported": None if self.reported is None else str(self.reported),
        }


def parse_aliases(value: Mapping[str, Any]) -> Aliases:
    """Read what `to_json` wrote.

    Raises:
        KeyError, InvalidInput: it has another shape.
    """
    seen, asked, reported = (
        None if value[key] is None else ReleaseRef.parse(value[key])
        for key in ("seen", "asked", "reported")
    )
    wish = value["wish"]
    return Aliases(
        seen=seen,
        asked=asked,
        wish=wish and Wish(ReleaseRef.parse(wish["release"]), wish["who"]),
        holding=value["holding"],
        reported=reported,
    )
