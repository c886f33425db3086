"""How far a model's time has come: a window that ends before that is over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from proa.http.clock import parse_time
from proa_monitor.windows import Windows

__all__ = ["is_live", "watermark"]

LIVE: Final = timedelta(hours=1)
"""A model whose newest event came within this of its event time lives by the wall clock."""
GRACE: Final = timedelta(minutes=1)
"""What emitters may still be holding back."""


def watermark(windows: Windows, model: str, now: datetime) -> datetime | None:
    """The moment up to which the events of a model have come.

    The greatest event time there was; for a model that lives now the wall clock, so that a window
    in which nothing comes ends as well. Never later than the wall clock: one event from the far
    future does not end every window. None before the first event.
    """
    latest = windows.latest.get(model)
    if latest is None:
        return None
    time = parse_time(latest[0])
    if is_live(windows, model):
        return max(min(time, now), now - GRACE)
    return min(time, now)


def is_live(windows: Windows, model: str) -> bool:
    """Whether a model's newest event came when it happened, and not from a replay."""
    latest = windows.latest.get(model)
    if latest is None:
        return False
    time, came = (parse_time(text) for text in latest)
    return abs(came - time) <= LIVE
