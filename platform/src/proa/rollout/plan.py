"""What a rollout would do, step by step, in sentences."""

from __future__ import annotations

from proa.release.reference import ReleaseRef
from proa.rollout.policy import Policy
from proa.rollout.state import Rollout


def steps_of(state: Rollout, release: ReleaseRef, policy: Policy) -> list[str]:
    """The steps of a promotion of `release` from this state, if nothing stops it."""
    short = release.short
    if state.champion is None:
        return [f"{short} gets all traffic at once: there is no champion yet", _reported(short)]
    champion = state.champion.short
    steps = [f"{short} starts beside {champion}, at weight 0"]
    if policy.shadow is not None:
        steps.append(f"shadow: {short} answers copies of calls, its answers are only recorded")
    steps += [
        f"canary at {weight} %: until {policy.minimum_units} units have been served and nothing is "
        f"worse by more than its margin, at most {policy.max_seconds:g} s"
        for weight in policy.steps
    ]
    if policy.steps:
        last = {"abort": "weight 0 and an end", "hold": "a hold until a person decides"}
        steps.append(
            f"harm that is proven means weight 0 at once; too little seen means "
            f"{last[policy.on_inconclusive]}"
        )
    steps.append(f"{short} replaces {champion}: all traffic")
    if policy.warm_seconds > 0:
        steps.append(
            f"{champion} stays running for {policy.warm_seconds:g} s: a rollback is a change of "
            "weights until then, later a rolling update"
        )
    return [*steps, _reported(short)]


def _reported(short: str) -> str:
    return f"the alias champion is set to {short}"
