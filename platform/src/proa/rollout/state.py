"""The state of one model's rollout: ConfigMap `proa-rollout-NAME`, or a file when embedded.

`desired` says what the world should look like in each phase; the controller makes it so at every
tick. The rules that move from phase to phase are in `proa.rollout.machine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from proa.errors import InvalidInput
from proa.release.reference import ReleaseRef
from proa.rollout.policy import Policy, parse_policy

Phase = Literal["idle", "gating", "canary", "promoting", "returning"]
"""`returning` is a rollback on its way: traffic first, template after."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asked for a release, and why."""

    release: ReleaseRef
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """Everything the controller must remember about a model between two ticks.

    Attributes:
        sequence: number of transitions so far; makes journal entries idempotent.
        champion: the release reported as champion; None before the first promotion.
        applied: the release last written into the champion's template (an intent until seen).
        applying: the template's generation seen when that intent was recorded; None once done.
        candidate: the release in the challenger slot for a gate or a canary.
        previous: the release a rollback returns to.
        slot: id of the gate that holds the challenger slot.
        slot_until: epoch seconds after which an abandoned slot is freed.
        step: index into the policy's steps during a canary.
        step_since: epoch seconds since when the step's weights are in force on every gateway.
        warm_until: epoch seconds until which the previous release is kept running.
        held: alias version that is not a request again (the one present at an undo or a refusal).
        request: who asked for the movement under way.
        message: one sentence for `proa status`.
    """

    model: str
    kind: str
    sequence: int = 0
    phase: Phase = "idle"
    champion: ReleaseRef | None = None
    applied: ReleaseRef | None = None
    applying: int | None = None
    candidate: ReleaseRef | None = None
    previous: ReleaseRef | None = None
    slot: str | None = None
    slot_until: float | None = None
    step: int = 0
    step_since: float | None = None
    warm_until: float | None = None
    paused: bool = False
    held: int | None = None
    request: Request | None = None
    policy: Policy = field(default_factory=Policy)
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `parse_rollout` reads back to an equal value."""
        value = asdict(self)
        for key in _REFS:
            ref = getattr(self, key)
            value[key] = None if ref is None else str(ref)
        value["policy"] = self.policy.to_json()
        value["request"] = self.request and {
            "release": str(self.request.release),
            "who": self.request.who,
            "reason": self.request.reason,
        }
        return {"schema_version": 1, **value}


_REFS = ("champion", "applied", "candidate", "previous")


def parse_rollout(value: Mapping[str, Any]) -> Rollout:
    """Read a state file.

    Raises:
        InvalidInput: another schema version or another shape.
    """
    if value.get("schema_version") != 1:
        raise InvalidInput(
            f"rollout state: schema_version = {value.get('schema_version')!r}: expected 1"
        )
    fields = {key: item for key, item in value.items() if key != "schema_version"}
    for key in _REFS:
        fields[key] = None if fields[key] is None else ReleaseRef.parse(fields[key])
    if fields["request"] is not None:
        request = fields["request"]
        fields["request"] = Request(
            ReleaseRef.parse(request["release"]), request["who"], request["reason"]
        )
    fields["policy"] = parse_policy(fields["policy"])
    try:
        return Rollout(**fields)
    except TypeError as error:
        raise InvalidInput(f"rollout state of {value.get('model')!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be: a release per track and the challenger's weight in percent."""

    champion: ReleaseRef | None
    challenger: ReleaseRef | None
    weight: int


def desired(state: Rollout) -> Desired:
    """What the world should look like in this state."""
    match state.phase:
        case "gating":
            return Desired(state.applied, state.candidate, 0)
        case "canary":
            return Desired(state.applied, state.candidate, state.policy.steps[state.step])
        case "promoting":
            if state.champion is None or not state.policy.steps:
                return Desired(state.applied, _warm(state), 0)
            return Desired(state.applied, state.candidate, state.policy.steps[-1])
        case "returning":
            return Desired(state.applied, _warm(state), 100 if _warm(state) else 0)
        case "idle":
            return Desired(state.applied, _warm(state), 0)


def _warm(state: Rollout) -> ReleaseRef | None:
    return state.previous if state.warm_until is not None else None


def settle(state: Rollout, **changes: Any) -> Rollout:
    """`state` with changes, one transition later."""
    return replace(state, sequence=state.sequence + 1, **changes)
