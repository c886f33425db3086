"""A model's own rules of retraining: the section `retrain:` of its project, kept by the
controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proa.project.check import check_settings
from proa.project.retrain import RetrainSection

__all__ = ["loosened", "parse_section"]

_FEWER_IS_LOOSER = {
    "lasts_days": "days that a finding must last",
    "fresh_days": "fresh days",
    "cooldown_days": "days of cooldown",
}


def parse_section(value: Mapping[str, Any], *, what: str = "retrain") -> RetrainSection | None:
    """Read a section as JSON; an empty one is none.

    Raises:
        InvalidInput: names the key, its value and what was expected.
    """
    return check_settings(RetrainSection, dict(value), what=what) if value else None


def loosened(before: RetrainSection | None, after: RetrainSection | None) -> list[str]:
    """What the new section lets happen that the old one did not, one sentence each."""
    if after is None:
        return []
    if before is None:
        more = " and be promoted by itself" if after.promote == "auto" else ""
        return [f"a retraining may start{more}"]
    found = [f"{name} may ask" for name in after.when if name not in before.when]
    for key, word in _FEWER_IS_LOOSER.items():
        was, now = getattr(before, key), getattr(after, key)
        if now < was:
            found.append(f"{word} went from {was} down to {now}")
    if after.attempts > before.attempts:
        found.append(f"exams of one request went from {before.attempts} up to {after.attempts}")
    rates = [section.budget / section.budget_days for section in (before, after)]
    if after.budget > before.budget or rates[1] > rates[0]:
        found.append(
            f"the budget went from {before.budget} in {before.budget_days} days to {after.budget} "
            f"in {after.budget_days}"
        )
    if before.approval and not after.approval:
        found.append("approval of a retraining is no longer asked for")
    if (before.promote, after.promote) == ("never", "auto"):
        found.append("a candidate that passed may be promoted by itself")
    return found
