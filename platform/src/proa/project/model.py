"""The keys of `proa.yaml`, version 1. Unknown keys are refused; values are never converted."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proa.project.retrain import RetrainSection
from proa.project.rollout import RolloutSection
from proa.release.manifest import (
    ContextBudget,
    FeatureView,
    Name,
    Sampling,
    Task,
    Trust,
)

_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _function(text: str) -> str:
    if not _FUNCTION.fullmatch(text):
        raise ValueError("expected module:function")
    return text


def _inner(text: str) -> str:
    if not text or text.startswith("/") or ".." in text.split("/"):
        raise ValueError("expected a path inside the project's folder")
    return text


def _moment(value: Any) -> Any:
    """Make ISO text of what YAML reads as a date or as a datetime."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("expected a date or an RFC 3339 time") from error
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).isoformat()
    raise ValueError("expected a date or an RFC 3339 time")


Function = Annotated[str, AfterValidator(_function)]
"""`module:function`, the module relative to the project's folder."""
InnerPath = Annotated[str, AfterValidator(_inner)]
"""A file of the project, relative to its folder."""
Moment = Annotated[str, BeforeValidator(_moment)]
"""A point in time, ISO 8601 in UTC; a bare date is its midnight."""


class Settings(BaseModel):
    """A section: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Window(Settings):
    """A span of event time, `start` included and `end` excluded."""

    start: Moment
    end: Moment

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if datetime.fromisoformat(self.start) >= datetime.fromisoformat(self.end):
            raise ValueError(f"expected start before end, got {self.start} and {self.end}")
        return self


def _later(one: str, other: str) -> bool:
    return datetime.fromisoformat(one) > datetime.fromisoformat(other)


class Data(Settings):
    """Where a classic model's rows come from and what their columns mean."""

    ingest: Function
    validate_: Function | None = Field(default=None, alias="validate")
    entity: str | None = None
    time: str
    unit: str | None = None
    """Column of the unit of independence; None means the day of `time`."""
    label: str
    train: Window
    exam: Window | None = None
    """The exam's rows, for a builder `build(start, end)`; a retraining moves both windows."""

    @model_validator(mode="after")
    def _exam_after_training(self) -> Self:
        if self.exam is not None and _later(self.train.end, self.exam.start):
            raise ValueError(
                f"exam: expected a start at or after the end of train, {self.train.end}, got "
                f"{self.exam.start}"
            )
        return self


class Features(Settings):
    """Feature views: the function or file that defines them, and which features the model reads."""

    definitions: Function
    views: list[FeatureView] = Field(min_length=1)


class Train(Settings):
    """How a classic model is made: `function(data, parameters)`, `search(trial) -> parameters`."""

    function: Function
    search: Function | None = None
    trials: int = Field(default=20, ge=1)
    metric: str = "log_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    parameters: dict[str, Any] = {}


class Calibrate(Settings):
    """How scores become probabilities."""

    method: Literal["isotonic", "sigmoid", "none"] = "none"


class Threshold(Settings):
    """How the decision threshold is chosen."""

    rule: Literal["f1", "youden", "cost", "fixed"] = "f1"
    value: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _value_of_fixed(self) -> Self:
        if (self.rule == "fixed") != (self.value is not None):
            raise ValueError("expected a value with rule fixed, and with no other rule")
        return self


class Serve(Settings):
    """How a classic model answers."""

    missing: Literal["allow", "refuse"] = "allow"
    explain: Literal["shap", "none"] = "none"
    unit: str | None = None
    """Column whose value keeps a caller on one track during a canary."""


class Runtime(Settings):
    """What the model runs on: None is the platform's own environment."""

    requirements: InnerPath | None = None


class Cost(Settings):
    """What a wrong decision costs, in any one unit; used by `threshold.rule: cost`."""

    false_positive: float = Field(default=1.0, ge=0)
    false_negative: float = Field(default=1.0, ge=0)


class Chunking(Settings):
    """How documents are cut, in the embedder's tokens."""

    max_tokens: int = Field(default=200, gt=0)
    overlap: int = Field(default=20, ge=0)

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.overlap >= self.max_tokens:
            raise ValueError("expected overlap below max_tokens")
        return self


class RetrievalSettings(Settings):
    """How the index is searched; both rankings are fused by reciprocal rank."""

    embedder: str
    top_k: int = Field(default=4, gt=0, le=50)
    candidates: int = Field(default=30, gt=0)
    rrf_k: int = Field(default=60, gt=0)
    lexical_weight: float = Field(default=1.0, ge=0)
    vector_weight: float = Field(default=1.0, ge=0)
    max_age_days: float | None = Field(default=None, gt=0)
    """How old the index's newest document may get before the monitor says so."""


class _Common(Settings):
    version: Literal[1]
    name: Name
    description: str = ""
    team: str = ""
    exam: InnerPath | None = None
    runtime: Runtime = Runtime()
    rollout: RolloutSection = RolloutSection()
    retrain: RetrainSection | None = None


class ClassicProject(_Common):
    """`proa.yaml` with `kind: classic`."""

    kind: Literal["classic"]
    task: Task
    data: Data
    features: Features | None = None
    train: Train
    calibrate: Calibrate = Calibrate()
    threshold: Threshold | None = None
    slices: list[str] = []
    serve: Serve = Serve()
    cost: Cost | None = None

    @model_validator(mode="after")
    def _threshold_fits(self) -> Self:
        if self.retrain is not None and self.data.exam is None:
            raise ValueError("retrain: expected data.exam as well, the window that moves with it")
        if self.threshold is not None and self.task not in ("binary", "anomaly"):
            raise ValueError(f"threshold: expected none for task {self.task}")
        if self.threshold is not None and self.threshold.rule == "cost" and self.cost is None:
            raise ValueError("threshold.rule = cost: expected a section cost")
        return self


class OwnServe(Settings):
    """A process of any kind that honours the HTTP contract (services/CONTRACT.md).

    `command`: argv; `{host}` and `{port}` say where to listen, `{python}` is the Python of
    `runtime.requirements`, else the platform's. `files`: what of the folder goes into the release;
    the process starts where they lie.
    """

    command: list[str] = Field(min_length=1)
    files: list[InnerPath] = []


class OwnProject(_Common):
    """`proa.yaml` of a classic model that was made elsewhere: name, task, label, unit are enough.

    `from`: `models:/NAME/VERSION`, `runs:/…`, or a file or MLflow folder; `data`: a sample of rows
    as Parquet, CSV or JSON lines; both may come from the command line instead. `unit`, `id` and
    `time` name columns of the sample; unit `row` means that every row stands for itself.
    `classes`: binary: the negative and the positive label; multiclass: the model's order.
    `holdout`: share of the units that the exam gets.
    """

    version: Literal[1] = 1
    kind: Literal["classic"] = "classic"
    task: Task
    label: str | None = None
    unit: str = "row"
    from_: str | None = Field(default=None, alias="from")
    data: str | None = None
    id: str | None = None
    time: str | None = None
    columns: list[str] = []
    classes: list[str] = []
    threshold: float | None = None
    missing: Literal["allow", "refuse"] = "allow"
    explain: Literal["shap", "none"] = "none"
    slices: list[str] = []
    holdout: float = Field(default=0.5, gt=0, lt=1)
    trust: Trust = "formats"
    serve: OwnServe | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.retrain is not None:
            raise ValueError("retrain: expected none, a model made elsewhere has no pipeline")
        if self.serve is not None and self.from_ is not None:
            raise ValueError("expected one of from (a model) and serve.command (a process)")
        if self.serve is not None and self.trust != "own-code":
            raise ValueError("serve.command runs your code: expected trust: own-code beside it")
        if self.threshold is not None and self.task not in ("binary", "anomaly"):
            raise ValueError(f"threshold: expected none for task {self.task}")
        return self


class LlmProject(_Common):
    """`proa.yaml` with `kind: llm`."""

    kind: Literal["llm"]
    documents: Function | None = None
    chunking: Chunking = Chunking()
    retrieval: RetrievalSettings | None = None
    prompt: InnerPath
    context: ContextBudget
    sampling: Sampling = Sampling()
    engine: str
    guard: InnerPath | None = None
    citations: bool = True

    @model_validator(mode="after")
    def _documents_with_retrieval(self) -> Self:
        if (self.documents is None) != (self.retrieval is None):
            raise ValueError("expected documents and retrieval together, or neither")
        return self


FILES = ("exam", "prompt", "guard", "runtime.requirements")
"""Keys that name a file of the project; a named file must exist."""
