"""The section `rollout:` of `proa.yaml`: how a release moves, and what must be so before it may.

The canary's keys are those of `proa.rollout.policy.Policy`, where their ranges are checked too;
a key that is left out takes the default there. `approval` and `freeze` are admission's.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00")
_EXPECTED = 'expected a clock time in quotes as "16:00", or a date, or a date with a time'

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _bound(value: Any) -> Any:
    """Text of a clock time, a date or a date-time; YAML reads the latter two as such."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        if _CLOCK.fullmatch(value):
            return value
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(_EXPECTED) from error
        if len(value) >= 10:
            return value
    raise ValueError(_EXPECTED)


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(value)
    except Exception as error:  # a missing zone, an absolute path, a wrong type: all the same fault
        raise ValueError("expected a time zone as Europe/Berlin or UTC") from error
    return value


Bound = Annotated[str, BeforeValidator(_bound)]


class Freeze(BaseModel):
    """A span in which nothing is promoted, `from` included and `to` excluded.

    With clock times it comes back every day, or on `days`; `to` at or before `from` lies on the
    next day. With dates it comes once; a bare date is its midnight. All in `zone`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    days: list[Day] = []
    from_: Bound = Field(alias="from")
    to: Bound
    zone: Annotated[str, BeforeValidator(_zone)] = "UTC"

    @property
    def recurs(self) -> bool:
        """Whether it comes back: clock times, no dates."""
        return _CLOCK.fullmatch(self.from_) is not None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.recurs != (_CLOCK.fullmatch(self.to) is not None):
            raise ValueError("expected two clock times or two dates in from and to")
        if self.recurs and (self.from_ == self.to or self.from_ == "24:00"):
            raise ValueError(f"expected from and to to differ, and from before 24:00: {self.from_}")
        if not self.recurs and self.days:
            raise ValueError("expected days only with clock times")
        if not self.recurs and self.local(self.from_) >= self.local(self.to):
            raise ValueError(f"expected from before to, got {self.from_} and {self.to}")
        return self

    def local(self, bound: str) -> datetime:
        """A date's or date-time's moment, zone aware."""
        moment = datetime.fromisoformat(bound)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(self.zone))

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Shadow(BaseModel):
    """What a first step at weight 0 must have seen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    units: int | None = None
    seconds: float | None = None
    labels: int | None = None


class RolloutSection(BaseModel):
    """`rollout:`; what is None was not said."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    steps: list[int] | None = None
    minimum_units: int | None = None
    max_seconds: float | None = None
    on_inconclusive: Literal["hold", "abort"] | None = None
    error_margin: float | None = None
    latency_ratio: float | None = None
    latency_floor_ms: float | None = None
    share_margin: float | None = None
    tokens_ratio: float | None = None
    distribution_margin: float | None = None
    baseline_seconds: float | None = None
    warm_seconds: float | None = None
    shadow: int | Shadow | None = None
    approval: bool = False
    freeze: list[Freeze] = []

    def to_json(self) -> dict[str, Any]:
        """What was said, as plain JSON."""
        said = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if self.freeze:
            said["freeze"] = [window.to_json() for window in self.freeze]
        return said
