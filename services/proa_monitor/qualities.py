"""The newest figures of quality of each model, for the page: reckoned seldom, kept a while.

Joining labels reads the database: a fleet of fifty would wait for it at every look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proa.errors import ProaError
from proa_monitor.quality import QualityWatch
from proa_monitor.quality_view import quality_view

__all__ = ["NOTHING", "Qualities", "newest_point"]

_KEPT_SECONDS: Final = 60.0
NOTHING: Final[Mapping[str, Any]] = {
    "quality": None,
    "slices": [],
    "fairness": None,
    "reasons": [],
}
"""What is said where no truth is kept."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Qualities:
    """`quality_view` of models, a minute old at most.

    Args:
        watch: None where no truth is kept.
    """

    watch: QualityWatch | None
    _kept: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, times: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
        """Of several models, without groups of protected attributes.

        Args:
            times: model to now, in event time.
        """
        async with self._one:
            old = time.monotonic() - _KEPT_SECONDS
            asked = [name for name in times if self._kept.get(name, (0.0, {}))[0] < old]
            if asked:
                found = await asyncio.to_thread(self._reckon, asked, times)
                self._kept |= {name: (time.monotonic(), view) for name, view in found}
            return {name: self._kept[name][1] for name in times}

    async def view(
        self, model: str, now: str, *, protected: bool, release: str | None, track: str | None
    ) -> Mapping[str, Any]:
        """Of one model and release, reckoned now."""
        return await asyncio.to_thread(self._view, model, now, protected, release, track)

    def _reckon(
        self, names: Iterable[str], times: Mapping[str, str]
    ) -> list[tuple[str, Mapping[str, Any]]]:
        return [(name, self._view(name, times[name], False, None, None)) for name in names]

    def _view(
        self, model: str, now: str, protected: bool, release: str | None, track: str | None
    ) -> Mapping[str, Any]:
        if self.watch is None:
            return NOTHING
        try:
            return quality_view(
                self.watch, model, protected=protected, now=now, release=release, track=track
            )
        except ProaError as error:  # the database is away: the rest of the page is still true
            _log.warning("no figures of quality for the page: %s", error.message)
            note = f"quality is not known now: {error.message}"
            none: dict[str, Any] = {
                "metrics": [],
                "coverage": None,
                "delay_seconds": None,
                "note": note,
            }
            return {**NOTHING, "quality": none}


def newest_point(view: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first metric's newest figure, of the measured ones where there are any."""
    for metric in (view["quality"] or {}).get("metrics", ()):
        known = [point for point in metric["points"] if point["value"] is not None]
        measured = [point for point in known if point["source"] == "measured"]
        for point in reversed(measured or known):
            return {"metric": metric["metric"], "unit": metric["unit"], **point}
    return None
