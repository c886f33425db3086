"""How far each model has been judged, in event time: what those who act on findings count by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from proa.errors import ProaError
from proa.http.clock import rfc3339
from proa_monitor.judged import Judged
from proa_monitor.quality import QualityWatch
from proa_monitor.windows import Track, Windows, window_end

__all__ = ["Progress"]

_TRACKS = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """Asks the database: not for the event loop."""

    windows: Windows
    judged: Judged
    quality: QualityWatch

    def of(self, model: str | None) -> dict[str, dict[str, str | None]]:
        """By model: `judged`, the end of the newest window that was judged; `labelled`, the end of
        the newest day whose labels have come. None where there is none.

        Args:
            model: only this one; `labelled` is told then alone.
        """
        names = self.windows.models if model is None else [model]
        return {name: self._of(name, labelled=model is not None) for name in names}

    def _of(self, model: str, *, labelled: bool) -> dict[str, str | None]:
        ends: list[str] = []
        mature: list[str] = []
        for track in self.windows.of_model(model)[:_TRACKS]:
            newest = self.judged.newest(track.key)
            if newest is None:
                continue
            ends.append(rfc3339(window_end(newest)))
            if labelled and (day := self._labelled(track, ends[-1])) is not None:
                mature.append(day)
        return {"judged": max(ends, default=None), "labelled": max(mature, default=None)}

    def _labelled(self, track: Track, now: str) -> str | None:
        try:
            days = self.quality.recent(*track.key, now=now).mature
        except ProaError:
            return None
        if not days:
            return None
        following = date.fromisoformat(days[-1].day) + timedelta(days=1)
        return f"{following.isoformat()}T00:00:00.000000Z"
