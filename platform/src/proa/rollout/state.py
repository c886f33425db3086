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
from proa.rollout.aliases import Aliases, parse_aliases
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
        step_since: epoch seconds, by the clock everybody has, since when the step's weights are in
            force on every gateway.
        baseline_until: epoch seconds, of the same clock, before which the champion served alone.
        step_until: epoch seconds until which the step may stay inconclusive; None when unknown.
        warm_until: epoch seconds until which the previous release is kept running.
        aliases: what the registry's aliases said and what was made of it.
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
    step_until: float | None = None
    baseline_until: float | None = None
    warm_until: float | None = None
    paused: bool = False
    aliases: Aliases = field(default_factory=Aliases)
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
        value["aliases"] = self.aliases.to_json()
        value["request"] = self.request and {
            "release": str(self.request.release),
            "who": self.request.who,
            "reason": self.request.reason,
        }
        return {"schema_version": _VERSION, **value}


_VERSION = 2
_REFS = ("champion", "applied", "candidate", "previous")


def parse_rollout(value: Mapping[str, Any]) -> Rollout:
    """Read a state file.

    Raises:
        InvalidInput: another schema version or another shape.
    """
    version = value.get("schema_version")
    if version not in (1, _VERSION):
        raise InvalidInput(f"rollout state: schema_version = {version!r}: expected {_VERSION}")
    fields = {key: item for key, item in value.items() if key != "schema_version"}
    if version == 1:
        fields = _from_1(fields)
    for key in _REFS:
        fields[key] = None if fields[key] is None else ReleaseRef.parse(fields[key])
    if fields["request"] is not None:
        request = fields["request"]
        fields["request"] = Request(
            ReleaseRef.parse(request["release"]), request["who"], request["reason"]
        )
    fields["policy"] = parse_policy(fields["policy"])
    try:
        fields["aliases"] = parse_aliases(fields["aliases"])
        return Rollout(**fields)
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"rollout state of {value.get('model')!r}: {error}") from error


def _from_1(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Version 1 remembered a bare version of an alias: what it says at the first look is held."""
    policy = {key: item for key, item in fields["policy"].items() if key != "minimum_calls"}
    kept = {key: item for key, item in fields.items() if key != "held"}
    return {**kept, "policy": policy, "aliases": Aliases(holding=True).to_json()}


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
            return Desired(state.applied, state.candidate, state.policy.weights[state.step])
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
