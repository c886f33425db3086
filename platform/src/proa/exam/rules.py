"""The rules of an exam, version 1: the keys of `exam.yaml`. They travel with the evidence."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from proa.errors import InvalidInput
from proa.exam.metrics import metrics_of
from proa.release.manifest import Kind, Task

Suites = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Floor(_Rule):
    """An absolute bound on one metric, over the suites named or everything."""

    metric: str
    suite: Suites = []
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.min is None) == (self.max is None):
            raise ValueError("expected one of min and max")
        return self


class Comparison(_Rule):
    """How much worse than the champion a metric may be; `margin` is in the metric's own unit."""

    metric: str
    margin: float = Field(ge=0)
    higher_is_better: bool
    suite: Suites = []


class Bootstrap(_Rule):
    """How intervals are made: resamples of whole units, two-sided confidence."""

    resamples: int = Field(default=2000, ge=200, le=20_000)
    confidence: float = Field(default=0.95, ge=0.8, le=0.999)
    min_units: int = Field(default=5, ge=2)


class File(_Rule):
    """A file beside `exam.yaml`."""

    path: str


class Rules(_Rule):
    """An exam's rules, with the model's kind and task: all that a verdict needs but the results.

    `unit` says what is independent: `day`, `user`, `task`, …; every result carries its own.
    `safety` names suites in which not one task may fail.
    """

    version: Literal[1]
    kind: Kind
    task: Task | None = None
    unit: str
    primary: Comparison
    floors: list[Floor] = []
    guardrails: list[Comparison] = []
    slices: list[str] = []
    slice_margin: float | None = Field(default=None, ge=0)
    safety: list[str] = []
    classes: list[str] = []
    bootstrap: Bootstrap = Bootstrap()
    data: str | File | None = None
    tasks: str | None = None

    @property
    def measured(self) -> list[Floor | Comparison]:
        """Every rule about a metric."""
        return [self.primary, *self.floors, *self.guardrails]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = metrics_of(self.kind, self.task)
        for rule in self.measured:
            if rule.metric not in known:
                what = self.kind if self.task is None else f"task {self.task}"
                raise ValueError(
                    f"metric {rule.metric!r}: expected one of {', '.join(sorted(known))} for {what}"
                )
        if (self.kind == "classic") != (self.data is not None):
            raise ValueError("expected data for a classic model, and only for one")
        if (self.kind == "llm") != (self.tasks is not None):
            raise ValueError("expected tasks for an llm, and only for one")
        if self.task == "multiclass" and len(self.classes) < 2:
            raise ValueError("classes: expected the model's classes, in its order")
        return self


def rules_from_json(value: Any) -> Rules:
    """Read the rules that evidence carries.

    Raises:
        InvalidInput: they are not the rules of an exam.
    """
    try:
        return Rules.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"evidence: rules.{key}: {first['msg']}", param="rules") from error
