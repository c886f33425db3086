"""An exam: rules with sealed rows (classic) or golden tasks (llm), digested on their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from proa.errors import InvalidInput
from proa.exam.agreement import Labelled, load_labelled
from proa.exam.evidence import exam_digest
from proa.exam.rules import Comparison, File, RuleFault, Rules
from proa.exam.scorers import Expect
from proa.project import ClassicProject, Project
from proa.project import load as load_project
from proa.project.check import check_settings
from proa.project.functions import resolve
from proa.project.yamlfile import Lines, parse_yaml
from proa.release.canonical import digest_bytes

Scalar = bool | int | float | str | None
_CALIBRATION = Comparison(metric="calibration_gap", margin=0.05, higher_is_better=False)
_PLAIN_KEYS = ("id", "unit", "label", "time", "group", "origin", "horizon", "baseline", "scale")


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
    paraphrase_of: str | None = None
    expect: Expect

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if (self.question is None) == (not self.messages):
            raise ValueError("expected one of question and messages")
        if self.expect.consistent and self.paraphrase_of is None:
            raise ValueError("consistent: expected paraphrase_of, the task to agree with")
        return self

    @property
    def independent(self) -> str:
        """Its unit: a question and its paraphrases are one, other tasks are each their own."""
        return self.unit or self.paraphrase_of or self.id

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The messages to send."""
        if self.question is not None:
            return [{"role": "user", "content": self.question}]
        return [message.model_dump() for message in self.messages]


@dataclass(frozen=True, slots=True)
class Row:
    """A sealed row of a classic exam; `inputs` are raw columns.

    Attributes:
        time: when the label's event took place, or the answer was due; RFC 3339.
        group: ranking: the query this row is a candidate of.
        origin: forecasting: when the forecast is made, which training must precede; RFC 3339.
        horizon: forecasting: steps from origin to the forecast moment; may be a slice.
        baseline: forecasting: the seasonal naive forecast of this row.
        scale: forecasting: mean absolute error of that forecast in the series' own past.
    """

    id: str
    unit: str
    label: float | str
    inputs: Mapping[str, Scalar]
    slices: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None
    group: str | None = None
    origin: str | None = None
    horizon: int | None = None
    baseline: float | None = None
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class Exam:
    """What both sides sit.

    Attributes:
        data: the digest of rows or tasks, and of `labelled`; `digest` is of rules and data.
        labelled: answers that people labelled, which a judge of rubrics is held against.
    """

    rules: Rules
    data: str
    rows: tuple[Row, ...] = ()
    tasks: tuple[GoldenTask, ...] = ()
    labelled: tuple[Labelled, ...] = ()

    @property
    def digest(self) -> str:
        """The exam's identity, to which a verdict is bound."""
        return exam_digest(self.rules.model_dump(mode="json"), self.data)

    @property
    def measures_ttft(self) -> bool:
        """Whether a rule or a task asks for the time to the first token."""
        by_rule = any(rule.metric.startswith("ttft") for rule in self.rules.measured)
        return by_rule or any(task.expect.max_ttft_ms is not None for task in self.tasks)

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
    path = _file_of(project)
    rules = load_rules(project)
    return _with_tasks(rules, path) if rules.kind == "llm" else _with_rows(rules, path, project)


def load_rules(project: Project) -> Rules:
    """Only the rules of a project's exam: no row is built, nothing of the project is imported.

    Raises:
        InvalidInput: there is no exam, or a key at fault.
    """
    path = _file_of(project)
    value, lines = parse_yaml(path.read_bytes(), what=path.name)
    if not isinstance(value, dict):
        raise InvalidInput(f"{path.name}: expected keys with values")
    for key in ("kind", "task"):
        if key in value:
            raise InvalidInput(f"{path.name}: {key} stands in proa.yaml, not here", param=key)
    return _read_rules({**value, "kind": project.kind, "task": project.task}, path.name, lines)


def _file_of(project: Project) -> Path:
    path = project.path("exam")
    if path is None:
        raise InvalidInput(
            f"{project.name}: proa.yaml names no exam",
            hint="write exam.yaml beside it and add the line `exam: exam.yaml`",
            param="exam",
        )
    return path


def _read_rules(value: dict[str, Any], what: str, lines: Lines) -> Rules:
    """The rules, or the first mistake with its key, its line and what was expected.

    A binary exam that says nothing of calibration gets a guardrail: probabilities that shift by
    more than 0.05 are harm which an AUC cannot see.
    """
    try:
        rules = check_settings(Rules, value, what=what, lines=lines)
    except InvalidInput as error:
        cause = error.__cause__
        first: Any = cause.errors()[0] if isinstance(cause, ValidationError) else {}
        found = first.get("ctx", {}).get("error")
        if not isinstance(found, RuleFault):
            raise
        line = lines.get(found.key) or lines.get(found.key.rpartition(".")[0])
        where = f" (line {line})" if line is not None else ""
        raise InvalidInput(f"{what}: {found}{where}", param=found.key) from error
    watched = {rule.metric for rule in rules.measured} & {"calibration_gap", "ece", "brier"}
    if rules.task == "binary" and not watched:
        return rules.model_copy(update={"guardrails": [*rules.guardrails, _CALIBRATION]})
    return rules


def _with_tasks(rules: Rules, path: Path) -> Exam:
    file = _beside(path, rules.tasks or "", "tasks")
    data = file.read_bytes()
    tasks = tuple(
        check_settings(GoldenTask, value, what=f"{file.name}: line {number}")
        for number, value in _json_lines(data, file.name)
    )
    _check_ids([task.id for task in tasks], file.name)
    _check_paraphrases(tasks, file.name)
    suites = {task.suite for task in tasks}
    named = {suite for rule in rules.measured for suite in rule.suite}
    for suite in sorted((named | {rule.suite for rule in rules.safe}) - suites):
        raise InvalidInput(
            f"{path.name}: the suite {suite!r} has no task in {file.name}; it has "
            f"{', '.join(sorted(suites))}",
            param="suite",
        )
    labelled: tuple[Labelled, ...] = ()
    if rules.judge is not None:
        labels = _beside(path, rules.judge.labelled, "judge.labelled")
        labelled = load_labelled(labels)
        data += labels.read_bytes()
    elif rubric := next((task.id for task in tasks if task.expect.rubric is not None), None):
        raise InvalidInput(
            f"{file.name}: task {rubric!r} has a rubric: expected judge in {path.name}, with "
            "answers that people labelled",
            param="judge",
        )
    return Exam(rules, digest_bytes(data), tasks=tasks, labelled=labelled)


def _with_rows(rules: Rules, path: Path, project: Project) -> Exam:
    if isinstance(rules.data, File):
        file = _beside(path, rules.data.path, "data.path")
        what = file.name
        found: Any = [value for _, value in _json_lines(file.read_bytes(), what)]
    else:
        what = str(rules.data)
        builder = resolve(project.folder, what, where=f"{path.name}: data")
        found = _records(builder(**_wanted(builder, project, what)), rules)
    rows = tuple(_row(value, rules, what) for value in found)
    _check_ids([row.id for row in rows], what)
    _check_task(rows, rules, what)
    return Exam(rules, _rows_digest(rows), rows=rows)


def _wanted(builder: Any, project: Project, what: str) -> dict[str, Any]:
    """What a builder asks for by its parameters: `start` and `end` of `data.exam`; one of another
    name is the project's folder.

    Raises:
        InvalidInput: the project names a window which the builder does not take, or the other way
            round.
    """
    import inspect

    names = list(inspect.signature(builder).parameters)
    spec = project.spec
    window = spec.data.exam if isinstance(spec, ClassicProject) else None
    if ("start" in names and "end" in names) != (window is not None):
        raise InvalidInput(
            f"{what} takes ({', '.join(names)}): expected (start, end) together with data.exam in "
            "proa.yaml, or neither",
            param="data.exam",
        )
    others = {name: project.folder for name in names if name not in ("start", "end")}
    if window is None:
        return others
    start, end = (datetime.fromisoformat(moment) for moment in (window.start, window.end))
    return {**others, "start": start, "end": end}


def _records(built: Any, rules: Rules) -> Iterable[Mapping[str, Any]]:
    """Rows from a builder's list, or from its DataFrame's columns."""
    if not hasattr(built, "to_dict"):
        return list(built)
    for column in ("id", "unit", "label"):
        if column not in built.columns:
            raise InvalidInput(f"exam data: the column {column!r} is missing", param="data")
    reserved = (
        set(_PLAIN_KEYS) if rules.task in ("ranking", "forecasting") else set(_PLAIN_KEYS[:4])
    )
    records = []
    for record in built.to_dict("records"):
        facts = {key: value for key, value in record.items() if key in reserved}
        inputs = {key: value for key, value in record.items() if key not in reserved}
        facts |= {"id": str(record["id"]), "unit": str(record["unit"]), "inputs": inputs}
        records.append(facts)
    return records


def _row(value: Any, rules: Rules, what: str) -> Row:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what}: expected a row with id, unit, label and inputs")
    name = value.get("id")
    for key in sorted(set(value) - {*_PLAIN_KEYS, "inputs", "slices"}):
        raise InvalidInput(f"{what}: row {name!r}: {key} is not a key", param=key)
    for key in ("id", "unit"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise InvalidInput(f"{what}: row {name!r}: {key}: expected a text", param=key)
    if not isinstance(value.get("inputs"), Mapping) or not value["inputs"]:
        raise InvalidInput(f"{what}: row {name!r}: inputs: expected columns", param="inputs")
    inputs = {str(key): scalar(item) for key, item in value["inputs"].items()}
    found = {key: scalar(value.get(key)) for key in _PLAIN_KEYS[3:]}
    given = {**{key: found[key] for key in ("horizon", "group")}, **inputs}
    given |= value.get("slices") or {}
    where = f"{what}: row {name!r}"
    return Row(
        id=value["id"],
        unit=value["unit"],
        label=_label(value.get("label"), rules, where),
        inputs=inputs,
        slices={column: str(given.get(column)) for column in rules.slices},
        time=_moment(found["time"], "time", where),
        group=None if found["group"] is None else str(found["group"]),
        origin=_moment(found["origin"], "origin", where),
        horizon=_whole(found["horizon"], "horizon", where),
        baseline=_number(found["baseline"], "baseline", where),
        scale=_number(found["scale"], "scale", where),
    )


def _number(value: Scalar, key: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool | str):
        raise InvalidInput(f"{where}: {key} = {value!r}: expected a number", param=key)
    return float(value)


def _whole(value: Scalar, key: str, where: str) -> int | None:
    number = _number(value, key, where)
    if number is not None and not number.is_integer():
        raise InvalidInput(f"{where}: {key} = {value!r}: expected a whole number", param=key)
    return None if number is None else int(number)


def _moment(value: Any, key: str, where: str) -> str | None:
    """An RFC 3339 time, or a date; without a zone it is read as UTC where times are compared."""
    if value is None:
        return None
    try:
        datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidInput(
            f"{where}: {key} = {value!r}: expected a time like 2013-03-01T05:00:00+00:00", param=key
        ) from error
    return str(value)


def _check_task(rows: Sequence[Row], rules: Rules, what: str) -> None:
    """What a task's metrics and the slices need of the rows."""
    for column in rules.slices:
        if all(row.slices[column] == "None" for row in rows):
            known = sorted({*rows[0].inputs, *rows[0].slices} - {column})
            raise InvalidInput(
                f"{what}: slices: no row has {column!r}: expected some of {', '.join(known)}",
                param="slices",
            )
    named = {rule.metric for rule in rules.measured}
    for row in rows:
        if "mase" in named and not (row.scale or 0) > 0:
            raise InvalidInput(
                f"{what}: row {row.id!r}: scale = {row.scale}: expected more than 0, the mean "
                "absolute error of the seasonal naive forecast; mase divides by it",
                param="scale",
            )
        if "relative_mae" in named and row.baseline is None:
            raise InvalidInput(
                f"{what}: row {row.id!r}: baseline: expected the seasonal naive forecast, which "
                "relative_mae compares with",
                param="baseline",
            )
    if rules.task == "ranking":
        _check_queries(rows, what)


def _check_queries(rows: Sequence[Row], what: str) -> None:
    """Every query lies in one unit and has something relevant to find."""
    units: dict[str, str] = {}
    relevant: set[str] = set()
    slices: dict[str, Mapping[str, str]] = {}
    for row in rows:
        if row.group is None:
            raise InvalidInput(f"{what}: row {row.id!r}: group: expected its query", param="group")
        if units.setdefault(row.group, row.unit) != row.unit:
            raise InvalidInput(
                f"{what}: query {row.group!r}: in the units {units[row.group]!r} and {row.unit!r}: "
                "expected one",
                param="unit",
            )
        if slices.setdefault(row.group, row.slices) != row.slices:
            raise InvalidInput(
                f"{what}: query {row.group!r}: its rows differ in their slices: expected slices "
                "of queries",
                param="slices",
            )
        if isinstance(row.label, float) and row.label > 0:
            relevant.add(row.group)
    for query in units:
        if query not in relevant:
            raise InvalidInput(
                f"{what}: query {query!r}: no row with a label above 0: no order of it is right "
                "or wrong",
                param="label",
            )


def _label(value: Any, rules: Rules, where: str) -> float | str:
    value = scalar(value)
    if rules.task == "multiclass":
        if value not in rules.classes:
            raise InvalidInput(f"{where}: label = {value!r}: expected one of {rules.classes}")
        return str(value)
    if not isinstance(value, bool | int | float):
        raise InvalidInput(f"{where}: label = {value!r}: expected a number", param="label")
    if rules.task == "ranking" and value < 0:
        raise InvalidInput(f"{where}: label = {value!r}: expected 0 or more", param="label")
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


def _check_paraphrases(tasks: Sequence[GoldenTask], what: str) -> None:
    first = {task.id for task in tasks if task.paraphrase_of is None}
    for task in tasks:
        if task.paraphrase_of is not None and task.paraphrase_of not in first:
            raise InvalidInput(
                f"{what}: task {task.id!r}: paraphrase_of = {task.paraphrase_of!r}: expected the "
                "id of a task that is no paraphrase itself",
                param="paraphrase_of",
            )


def _rows_digest(rows: Sequence[Row]) -> str:
    return digest_bytes(orjson.dumps([*rows], option=orjson.OPT_SORT_KEYS))
