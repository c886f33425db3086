"""A model's own rules: the section `rollout:` of its project, kept by the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proa.project.check import check_settings
from proa.project.rollout import Freeze, RolloutSection
from proa.rollout.policy import Policy, parse_policy

_ADMISSION = ("approval", "freeze")


@dataclass(frozen=True, slots=True)
class Rules:
    """How a model's releases move and what must be so before.

    Attributes:
        policy: the canary's settings.
        approval: a second person must approve each release.
        freeze: when nothing is promoted.
        said: the section as it was written.
    """

    policy: Policy
    approval: bool
    freeze: tuple[Freeze, ...]
    said: Mapping[str, Any]


def parse_rules(value: Mapping[str, Any], *, what: str = "rollout") -> Rules:
    """Read a section as JSON.

    Raises:
        InvalidInput: names the key, its value and what was expected.
    """
    section = check_settings(RolloutSection, dict(value), what=what)
    said = section.to_json()
    canary = {key: item for key, item in said.items() if key not in _ADMISSION}
    return Rules(parse_policy(canary), section.approval, tuple(section.freeze), said)


def over(rules: Rules, policy: Mapping[str, Any]) -> Policy:
    """The model's canary settings with what one request says laid over them."""
    canary = {key: item for key, item in rules.said.items() if key not in _ADMISSION}
    return parse_policy({**canary, **policy})


def loosened(before: Rules, after: Rules) -> list[str]:
    """What the new rules no longer ask for, one sentence each; nothing when they are no looser."""
    found = []
    if before.approval and not after.approval:
        found.append("approval is no longer asked for")
    gone = [window for window in before.freeze if window not in after.freeze]
    return found + [f"the freeze {spoken(window)} is gone" for window in gone]


def spoken(window: Freeze) -> str:
    """`fri 16:00 to 24:00 Europe/Berlin`."""
    days = ",".join(window.days)
    return f"{days + ' ' if days else ''}{window.from_} to {window.to} {window.zone}"
