"""The guard policy, version 1: what `guard.yaml` of a release says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proa.errors import InvalidInput
from proa.guard.pii import DETECTORS
from proa.project.check import check_settings
from proa.project.yamlfile import parse_yaml

Where = Literal["input", "history", "retrieved", "output"]
Action = Literal["block", "mask", "drop", "flag"]
INJECTION = "injection"
_PATTERN_LENGTH = 500
# A repeated group that itself holds a repetition: the shape that takes exponential time.
_NESTED = re.compile(r"\((?:[^()\\]|\\.)*(?<!\\)[+*](?:[^()\\]|\\.)*\)(?:[+*]|\{\d+,\d*\})")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rule(_Section):
    """What to look for, where, and what to do with it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    where: list[Where] = Field(min_length=1)
    detect: str | None = None
    pattern: str | None = Field(default=None, min_length=1, max_length=_PATTERN_LENGTH)
    any_of: list[str] | None = Field(default=None, min_length=1)
    action: Action
    refusal: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sum(item is not None for item in (self.detect, self.pattern, self.any_of)) != 1:
            raise ValueError("expected one of detect, pattern and any_of")
        if self.detect is not None and self.detect not in (*DETECTORS, INJECTION):
            known = ", ".join((*DETECTORS, INJECTION))
            raise ValueError(f"detect = {self.detect!r}: expected one of {known}")
        if self.pattern is not None:
            _check_pattern(self.pattern)
        if self.action == "drop" and self.where != ["retrieved"]:
            raise ValueError("action drop: expected where: [retrieved]")
        if self.action == "mask" and self.detect == INJECTION and self.where != ["retrieved"]:
            raise ValueError("mask with detect injection: expected where: [retrieved]")
        if self.refusal is not None and self.action != "block":
            raise ValueError("refusal: expected action block")
        return self


def _check_pattern(pattern: str) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern: expected a regular expression: {error}") from error
    if compiled.search(""):
        raise ValueError("pattern: it matches the empty text")
    if _NESTED.search(pattern):
        raise ValueError("pattern: a repetition inside a repetition can take forever")


class Policy(_Section):
    """A release's guard. `refusals` are the fixed texts; `default` is always there."""

    version: Literal[1]
    refusals: dict[str, str]
    rules: list[Rule] = []
    on_no_context: Literal["refuse", "answer"] = "answer"
    min_score: float = Field(default=0.0, ge=-1, le=1)
    normalise: bool = True
    hold_back: int = Field(default=64, ge=0, le=1024)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "default" not in self.refusals:
            raise ValueError("refusals: expected the text default")
        if not all(text.strip() for text in self.refusals.values()):
            raise ValueError("refusals: expected texts that say something")
        ids = [rule.id for rule in self.rules]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"rules: the id {name!r} is given twice")
        for rule in self.rules:
            if rule.refusal is not None and rule.refusal not in self.refusals:
                raise ValueError(
                    f"rule {rule.id}: refusal = {rule.refusal!r}: expected one of "
                    f"{', '.join(self.refusals)}"
                )
        return self

    def refusal(self, name: str | None) -> str:
        """The fixed text of that name, or the default one."""
        return self.refusals.get(name or "default", self.refusals["default"])


def load_policy(path: Path) -> Policy:
    """Read `guard.yaml`.

    Raises:
        InvalidInput: names file, key, value, what was expected and, where known, the line.
    """
    return parse_policy(path.read_bytes(), what=path.name)


def parse_policy(data: bytes | str, *, what: str = "guard.yaml") -> Policy:
    """Read the text of a policy; `what` starts the message of an error."""
    value, lines = parse_yaml(data, what=what)
    if not isinstance(value, dict):
        raise InvalidInput(f"{what}: expected keys with values")
    return check_settings(Policy, value, what=what, lines=lines)
