"""An exam: rules with sealed rows (classic) or golden tasks (llm), digested on their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from proa.errors import InvalidInput
from proa.exam.evidence import exam_digest
from proa.exam.rules import File, Rules
from proa.exam.scorers import Expect
from proa.project import Project
from proa.project import load as load_project
from proa.project.check import check_settings
from proa.project.functions import resolve
from proa.project.yamlfile import parse_yaml
from proa.release.canonical import digest_bytes

Scalar = bool | int | float | str | None


class Message(BaseModel):
    """One message of a task's conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class GoldenTask(BaseModel):
    """A golden task: a question or a conversation, and what its answer must be like."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    suite: str
    question: str | None = None
    messages: list[Message] = []
    unit: str | None = None
    expect: Expect

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if (self.question is None) == (not self.messages):
            raise ValueError("expected one of question and messages")
        return self

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The messages to send."""
        if self.question is not None:
            return [{"role": "user", "content": self.question}]
        return [message.model_dump() for message in self.messages]


@dataclass(frozen=True, slots=True)
class Row:
    """A sealed row of a classic exam; `inputs` are raw columns."""

    id: str
    unit: str
    label: float | str
    inputs: Mapping[str, Scalar]
    slices: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Exam:
    """What both sides sit. `data` is the digest of rows or tasks, `digest` of rules and data."""

    rules: Rules
    data: str
    rows: tuple[Row, ...] = ()
    tasks: tuple[GoldenTask, ...] = ()

    @property
    def digest(self) -> str:
        """The exam's identity, to which a verdict is bound."""
        return exam_digest(self.rules.model_dump(mode="json"), self.data)

    @property
    def size(self) -> int:
        """Rows or tasks."""
        return len(self.rows) + len(self.tasks)


def load(source: Project | Path | str) -> Exam:
    """Load a project's exam; the rows are built or read now.

    Args:
        source: a project, or its folder.

    Raises:
        InvalidInput: names file, key or line and id, and what was expected.
        NotFound: the project, or a function it names, is missing.
    """
    project = source if isinstance(source, Project) else load_project(source)
    path = project.path("exam")
    if path is None:
        raise InvalidInput(
            f"{project.name}: proa.yaml names no exam",
            hint="write exam.yaml beside it and add the line `exam: exam.yaml`",
            param="exam",
        )
    value, lines = parse_yaml(path.read_bytes(), what=path.name)
    if not isinstance(value, dict):
        raise InvalidInput(f"{path.name}: expected keys with values")
    for key in ("kind", "task"):
        if key in value:
            raise InvalidInput(f"{path.name}: {key} stands in proa.yaml, not here", param=key)
    task = project.classic.task if project.kind == "classic" else None
    rules = check_settings(
        Rules, {**value, "kind": project.kind, "task": task}, what=path.name, lines=lines
    )
    return _with_tasks(rules, path) if rules.kind == "llm" else _with_rows(rules, path, project)


def _with_tasks(rules: Rules, path: Path) -> Exam:
    file = _beside(path, rules.tasks or "", "tasks")
    data = file.read_bytes()
    tasks = tuple(
        check_settings(GoldenTask, value, what=f"{file.name}: line {number}")
        for number, value in _json_lines(data, file.name)
    )
    _check_ids([task.id for task in tasks], file.name)
    suites = {task.suite for task in tasks}
    named = {suite for rule in rules.measured for suite in rule.suite}
    for suite in sorted((named | set(rules.safety)) - suites):
        raise InvalidInput(
            f"{path.name}: the suite {suite!r} has no task in {file.name}; it has "
            f"{', '.join(sorted(suites))}",
            param="suite",
        )
    return Exam(rules, digest_bytes(data), tasks=tasks)


def _with_rows(rules: Rules, path: Path, project: Project) -> Exam:
    if isinstance(rules.data, File):
        file = _beside(path, rules.data.path, "data.path")
        what = file.name
        found: Any = [value for _, value in _json_lines(file.read_bytes(), what)]
    else:
        what = str(rules.data)
        builder = resolve(project.folder, what, where=f"{path.name}: data")
        found = (
            _records(builder(project.folder), rules)
            if _takes_one(builder)
            else _records(builder(), rules)
        )
    rows = tuple(_row(value, rules, what) for value in found)
    _check_ids([row.id for row in rows], what)
    return Exam(rules, _rows_digest(rows), rows=rows)


def _takes_one(builder: Any) -> bool:
    import inspect

    return len(inspect.signature(builder).parameters) > 0


def _records(built: Any, rules: Rules) -> Iterable[Mapping[str, Any]]:
    """Rows from a builder's list, or from its DataFrame's columns."""
    if not hasattr(built, "to_dict"):
        return list(built)
    for column in ("id", "unit", "label"):
        if column not in built.columns:
            raise InvalidInput(f"exam data: the column {column!r} is missing", param="data")
    reserved = {"id", "unit", "label", "time"}
    records = []
    for record in built.to_dict("records"):
        inputs = {key: value for key, value in record.items() if key not in reserved}
        records.append(
            {
                "id": str(record["id"]),
                "unit": str(record["unit"]),
                "label": record["label"],
                "time": record.get("time"),
                "inputs": inputs,
                "slices": {name: str(inputs.get(name)) for name in rules.slices},
            }
        )
    return records


def _row(value: Any, rules: Rules, what: str) -> Row:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what}: expected a row with id, unit, label and inputs")
    name = value.get("id")
    unknown = set(value) - {"id", "unit", "label", "inputs", "slices", "time"}
    for key in sorted(unknown):
        raise InvalidInput(f"{what}: row {name!r}: {key} is not a key", param=key)
    for key in ("id", "unit"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise InvalidInput(f"{what}: row {name!r}: {key}: expected a text", param=key)
    if not isinstance(value.get("inputs"), Mapping) or not value["inputs"]:
        raise InvalidInput(f"{what}: row {name!r}: inputs: expected columns", param="inputs")
    inputs = {str(key): scalar(item) for key, item in value["inputs"].items()}
    given = value.get("slices") or {}
    slices = {name: str(given.get(name, inputs.get(name))) for name in rules.slices}
    time = scalar(value.get("time"))
    return Row(
        id=value["id"],
        unit=value["unit"],
        label=_label(value.get("label"), rules, f"{what}: row {name!r}"),
        inputs=inputs,
        slices=slices,
        time=None if time is None else str(time),
    )


def _label(value: Any, rules: Rules, where: str) -> float | str:
    value = scalar(value)
    if rules.task == "multiclass":
        if value not in rules.classes:
            raise InvalidInput(f"{where}: label = {value!r}: expected one of {rules.classes}")
        return str(value)
    if not isinstance(value, bool | int | float):
        raise InvalidInput(f"{where}: label = {value!r}: expected a number", param="label")
    if rules.task in ("binary", "anomaly") and value not in (0, 1):
        raise InvalidInput(f"{where}: label = {value!r}: expected 0 or 1", param="label")
    return float(value)


def scalar(value: Any) -> Scalar:
    """A plain JSON scalar of a Python, NumPy or pandas one; NaN and NaT become None."""
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, datetime | date):
        return value.isoformat() if value == value else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return None if value != value else str(value)


def _beside(path: Path, name: str, key: str) -> Path:
    file = path.parent / name
    if not file.is_file() or not file.resolve().is_relative_to(path.parent.resolve()):
        raise InvalidInput(
            f"{path.name}: {key} = {name!r}: no such file in {path.parent}", param=key
        )
    return file


def _json_lines(data: bytes, what: str) -> list[tuple[int, Any]]:
    found = []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                found.append((number, orjson.loads(line)))
            except orjson.JSONDecodeError as error:
                raise InvalidInput(f"{what}: line {number} is not JSON: {error}") from error
    return found


def _check_ids(ids: Sequence[str], what: str) -> None:
    if not ids:
        raise InvalidInput(f"{what}: the exam is empty")
    seen: set[str] = set()
    for key in ids:
        if key in seen:
            raise InvalidInput(f"{what}: the id {key!r} is given twice", param="id")
        seen.add(key)


def _rows_digest(rows: Sequence[Row]) -> str:
    return digest_bytes(orjson.dumps([*rows], option=orjson.OPT_SORT_KEYS))
