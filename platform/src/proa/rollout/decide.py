"""The first rule of delivery: what a difference between alias, template and state means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from proa.release.reference import ReleaseRef


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: `steady`, `follow` a human's undo to `release`, or consider the `request`."""

    kind: Literal["steady", "follow", "request"]
    release: ReleaseRef | None = None


def decide(
    alias: ReleaseRef | None, running: ReleaseRef | None, applied: ReleaseRef | None
) -> Decision:
    """Compare the three places that name a release (design §4).

    Args:
        alias: what people ask for (`challenger` in the registry), or None.
        running: the release in the workload's template: the truth.
        applied: the release the controller last wrote into that template.

    Returns:
        `follow` when the template was changed by somebody else: their undo wins and requests wait;
        `request` when only the alias differs; else `steady`. An emptied template is never
        followed: it is the revision before the first release, and is put back.
    """
    if running != applied and running is not None:
        return Decision("follow", running)
    if alias is not None and alias != applied:
        return Decision("request", alias)
    return Decision("steady")
