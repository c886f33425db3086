"""One thing looked at in one window: did it hold, how large was it, what would be ordinary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["GROUPS", "PATIENCE", "FindingType", "Group", "Observation", "Severity"]

Severity = Literal["info", "warning", "critical"]
Group = Literal["data", "drift", "quality", "fairness", "language", "operations"]

GROUPS: Final[Mapping[str, Group]] = {
    # the data are not what they should be: nothing is learned from them
    "null_burst": "data",
    "invalid_values": "data",
    "new_category": "data",
    "category_flood": "data",
    "schema": "data",
    "stale_feature": "data",
    "volume": "data",
    "skew": "data",
    # the data are sound and others than before
    "feature_drift": "drift",
    "prediction_drift": "drift",
    "reasons_drift": "drift",
    "semantic_drift": "drift",
    # the answers are worse, or seem so
    "quality": "quality",
    "calibration": "quality",
    "estimated_quality": "quality",
    "slice_quality": "quality",
    "label_delay": "quality",
    "fairness": "fairness",
    # what only a language model has
    "retrieval": "language",
    "index_stale": "language",
    "refusals": "language",
    "groundedness": "language",
    "length": "language",
    "finish_reason": "language",
    "guard": "language",
    "cache": "language",
    "judged_quality": "language",
    "judge_agreement": "language",
    "feedback": "language",
    # the service
    "errors": "operations",
    "latency": "operations",
    "first_token": "operations",
    "tokens": "operations",
    "cost": "operations",
    "event_without_call": "operations",
    "call_without_event": "operations",
}
"""Every type of finding and its group."""

FindingType = str
"""A key of `GROUPS`."""

PATIENCE: Final[Mapping[str, int]] = dict.fromkeys(
    ("feature_drift", "prediction_drift", "reasons_drift", "semantic_drift"), 2
) | {"estimated_quality": 2, "volume": 2}
"""Windows running that must show a thing before it is a finding; 1 for types not named."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one judge saw in one window.

    Attributes:
        type: a key of `GROUPS`.
        subject: a feature, `metric`, `carrier=UA`, a guard's rule …; empty for the whole model.
        holds: True when the thing is there, False when it is not, None when nobody can say
            (too few rows): then nothing opens and nothing closes.
        effect, limit, unit: how large it was, what would still be ordinary, in which unit
            (`psi`, `sigma`, `share`, `points`, `seconds`, …); None when no number says it.
        message: one sentence for people: what, how much, against what.
        evidence: the numbers behind it, small (at most 4 KiB as JSON), never a raw text of a user.
    """

    type: FindingType
    subject: str
    holds: bool | None
    effect: float | None
    limit: float | None
    unit: str
    message: str
    severity: Severity = "warning"
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.type not in GROUPS:
            raise ValueError(f"type = {self.type!r}: expected one of {', '.join(GROUPS)}")

    @property
    def group(self) -> Group:
        return GROUPS[self.type]
