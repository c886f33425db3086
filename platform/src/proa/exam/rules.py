"""The rules of an exam, version 1: the keys of `exam.yaml`. They travel with the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from proa.errors import InvalidInput
from proa.exam.metrics import SIGNED, metric_named, names_of
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
    """How much worse than the champion a metric may be.

    Attributes:
        margin: in the metric's own unit.
        ratio: instead of a margin, how many times the champion's value it may be (a latency:
            1.5); below 1 where more is better.
        must: of a guardrail. `harmless`: it blocks when harm is proven. `not_worse`: it must be
            proven not worse than the margin allows, as the primary metric always must.
    """

    metric: str
    margin: float | None = Field(default=None, ge=0)
    ratio: float | None = Field(default=None, gt=0)
    higher_is_better: bool
    suite: Suites = []
    must: Literal["harmless", "not_worse"] = "harmless"

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.margin is None) == (self.ratio is None):
            raise ValueError("expected one of margin and ratio")
        if self.ratio is not None and (self.ratio < 1) != self.higher_is_better:
            word = "below 1, since higher is" if self.higher_is_better else "1 or more, as lower is"
            raise ValueError(f"ratio = {self.ratio:g}: expected {word} better")
        return self


class Safety(_Rule):
    """A suite in which no task may fail.

    `max_failure_rate`: the suite must also have tasks enough to show, at 95 %, that the true rate
    of failures is below this; 59 tasks show 5 %, 299 show 1 %.
    """

    suite: str
    max_failure_rate: float | None = Field(default=None, gt=0, lt=1)


class Judging(_Rule):
    """Who rates answers by a rubric, and when that counts.

    Attributes:
        labelled: a file beside `exam.yaml` with answers that people labelled.
        min_agreement: what the interval of Cohen's kappa with those labels must reach; below it
            scores are reported, and no task passes or fails by them.
        ask: the criterion that the labels answer; `min` is the score, of 5, that says yes.
        engine: an engine's identity; else one that is not under test.
    """

    labelled: str
    min_agreement: float = Field(ge=0, le=1)
    ask: str = Field(min_length=1)
    min: int = Field(default=4, ge=2, le=5)
    engine: str | None = None


class Bootstrap(_Rule):
    """How intervals are made: resamples of whole units, two-sided confidence."""

    resamples: int = Field(default=2000, ge=200, le=20_000)
    confidence: float = Field(default=0.95, ge=0.8, le=0.999)
    min_units: int = Field(default=5, ge=2)


class File(_Rule):
    """A file beside `exam.yaml`."""

    path: str


class RuleFault(ValueError):
    """A rule that does not fit the others, with its dotted key in `exam.yaml`."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(f"{key}: {sentence}")
        self.key = key


class Rules(_Rule):
    """An exam's rules, with the model's kind and task: all that a verdict needs but the results.

    `unit` says what is independent: `day`, `user`, `task`, …; every result carries its own.
    `safety` names suites in which not one task may fail, each as a text or as `Safety`.
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
    safety: list[str | Safety] = []
    classes: list[str] = []
    bootstrap: Bootstrap = Bootstrap()
    data: str | File | None = None
    tasks: str | None = None
    judge: Judging | None = None

    @property
    def measured(self) -> list[Floor | Comparison]:
        """Every rule about a metric."""
        return [rule for _, rule in self._rules()]

    @property
    def safe(self) -> list[Safety]:
        """The suites in which nothing may fail, with what each must show."""
        return [Safety(suite=rule) if isinstance(rule, str) else rule for rule in self.safety]

    def _rules(self) -> Iterator[tuple[str, Floor | Comparison]]:
        yield "primary", self.primary
        yield from ((f"floors.{place}", rule) for place, rule in enumerate(self.floors))
        yield from ((f"guardrails.{place}", rule) for place, rule in enumerate(self.guardrails))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for key, rule in self._rules():
            self._check_metric(key, rule)
        if (self.kind == "classic") != (self.data is not None):
            raise RuleFault("data", "expected for a classic model, and only for one")
        if (self.kind == "llm") != (self.tasks is not None):
            raise RuleFault("tasks", "expected for an llm, and only for one")
        if self.judge is not None and self.kind == "classic":
            raise RuleFault("judge", "expected for an llm only")
        if self.safety and self.kind == "classic":
            raise RuleFault("safety", "a classic exam has no suites")
        if self.task == "multiclass" and len(self.classes) < 2:
            raise RuleFault("classes", "expected the model's classes, in its order")
        if self.slices and self.primary.ratio is not None and self.slice_margin is None:
            raise RuleFault("slice_margin", "expected, since primary has a ratio and no margin")
        return self

    def _check_metric(self, key: str, rule: Floor | Comparison) -> None:
        if metric_named(self.kind, self.task, rule.metric) is None:
            what = self.kind if self.task is None else f"task {self.task}"
            known = ", ".join(names_of(self.kind, self.task))
            raise RuleFault(f"{key}.metric", f"{rule.metric!r}: expected one of {known} for {what}")
        if isinstance(rule, Comparison) and rule.metric in SIGNED:
            raise RuleFault(
                f"{key}.metric", f"{rule.metric!r} is best in the middle: bound it by two floors"
            )
        if rule.suite and self.kind == "classic":
            raise RuleFault(f"{key}.suite", "a classic exam has no suites")


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
