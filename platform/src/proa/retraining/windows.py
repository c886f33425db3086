"""The windows of one run: trained up to `until` - fresh days, examined on those fresh days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

__all__ = ["Windows", "midnight", "shift"]


@dataclass(frozen=True, slots=True)
class Windows:
    """`trained` is where training ends and the exam begins, `until` where the exam ends."""

    trained: datetime
    until: datetime

    def overrides(self) -> dict[str, str]:
        """As keys of a classic project's proa.yaml."""
        return {
            "data.train.end": self.trained.isoformat(),
            "data.exam.start": self.trained.isoformat(),
            "data.exam.end": self.until.isoformat(),
        }


def shift(until: datetime, fresh_days: int, zone: str) -> Windows:
    """Windows of whole days of `zone`, the newest ending at or before `until`.

    Days are days of the calendar: one may have 23 or 25 hours, none is cut in two.
    """
    last = until.astimezone(ZoneInfo(zone)).date()
    return Windows(
        trained=midnight(last - timedelta(days=fresh_days), zone), until=midnight(last, zone)
    )


def midnight(day: date, zone: str) -> datetime:
    """The first moment of a day, with its offset from UTC."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(zone))
