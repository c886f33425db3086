"""Intervals of checks as small inline SVG bars. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 180
HEIGHT: Final = 18
_EDGE: Final = 4.0
_MIDDLE: Final = HEIGHT / 2


def bar(check: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """The interval of candidate − champion around zero, with the margin; "" without one.

    Checks of the same metric share a scale: the name before " of ", or the kind for slices.
    """
    interval: Sequence[float] = check.get("interval") or ()
    if not _known(interval):
        return ""
    reach = max(_reach(other) for other in others if _family(other) == _family(check))
    if reach <= 0:
        return ""

    def at(value: float) -> float:
        return _EDGE + (value / reach + 1) / 2 * (WIDTH - 2 * _EDGE)

    low, high = interval
    value, champion = check.get("value"), check.get("champion")
    middle = (low + high) / 2 if value is None or champion is None else value - champion
    margin = check.get("bound") or 0.0
    said = f"{middle:+.4g}, interval {low:+.4g} to {high:+.4g}, margin {margin:g}"
    parts = [
        f'<line class="axis" x1="{_EDGE}" y1="{_MIDDLE}" x2="{WIDTH - _EDGE}" y2="{_MIDDLE}"/>',
        f'<line class="zero" x1="{at(0):.1f}" y1="2" x2="{at(0):.1f}" y2="{HEIGHT - 2}"/>',
    ]
    parts += [
        f'<line class="margin" x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{HEIGHT - 4}"/>'
        for x in (at(-margin), at(margin))
        if margin
    ]
    wide = max(at(high) - at(low), 1.0)
    parts += [
        f'<rect x="{at(low):.1f}" y="{_MIDDLE - 3}" width="{wide:.1f}" height="6" rx="3"/>',
        f'<circle cx="{at(middle):.1f}" cy="{_MIDDLE}" r="3.5"/>',
    ]
    return (
        f'<svg class="bar" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{said}"><title>{said}</title>{"".join(parts)}</svg>'
    )


def _known(interval: Sequence[float]) -> bool:
    return len(interval) == 2 and all(math.isfinite(end) for end in interval)


def _reach(check: Mapping[str, Any]) -> float:
    interval: Sequence[float] = check.get("interval") or ()
    ends = [abs(end) for end in interval] if _known(interval) else [0.0]
    return max(*ends, check.get("bound") or 0.0, 0.0) * 1.1


def _family(check: Mapping[str, Any]) -> str:
    return "slice" if check["kind"] == "slice" else str(check["name"]).split(" of ")[0]
