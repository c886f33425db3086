"""What is asked: rows by raw columns or by entity, read from either wire form.

`POST /v2/models/{name}/infer` is the Open Inference Protocol, version 2, JSON only
(github.com/kserve/open-inference-protocol): one input tensor per column, shape [n] or [n, 1], null
for a missing value. `POST /v1/predict` takes rows as people write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proa.errors import InvalidInput
from proa.release.manifest import ClassicSpec
from proa.release.scoring import columns_of_rows
from proa_predictor.attributes import attributes_of

__all__ = ["Question", "Reader"]

_INTEGERS: Final = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
_DATATYPES: Final[Mapping[str, frozenset[str]]] = {
    "boolean": frozenset({"BOOL"}),
    "long": _INTEGERS,
    "double": _FLOATS | _INTEGERS,
    "string": frozenset({"BYTES"}),
    "datetime": frozenset({"BYTES"}),
}
_ALL_DATATYPES: Final = _INTEGERS | _FLOATS | {"BOOL", "BYTES"}
_REASONS: Final = "reasons"


@dataclass(slots=True)
class Question:
    """n rows to answer.

    Attributes:
        rows: n.
        columns: every raw column with n values, or None when asked by entity.
        entities: join key to n values; beside raw columns they only say who was asked about.
        explain: whether reasons are wanted.
        id: the client's own id, sent back in an infer answer.
        wanted: outputs an infer request named; empty for all.
        attributes: protected attribute to n values; the event has them, the model never.
    """

    rows: int
    columns: dict[str, list[Any]] | None
    entities: dict[str, list[Any]] = field(default_factory=dict)
    explain: bool = False
    id: str | None = None
    wanted: tuple[str, ...] = ()
    attributes: dict[str, list[Any]] | None = None


class Reader:
    """Reads both wire forms for one release.

    Args:
        spec: the manifest's classic section.
        outputs: names this release answers with, `reasons` aside.
        online: whether features can be read by entity here.
        max_rows: rows one request may have.
    """

    def __init__(
        self, spec: ClassicSpec, *, outputs: Sequence[str], online: bool, max_rows: int
    ) -> None:
        self._spec = spec
        self._outputs = frozenset(outputs)
        self._online = online
        self._max_rows = max_rows
        self._types = {column.name: column.type for column in spec.columns}
        keys = [view.join_key for view in spec.feature_views if view.from_feature is None]
        self._keys = frozenset(keys)
        named = {*keys, spec.entity} - {None}
        self._who = frozenset(str(name) for name in named) - self._types.keys()

    def infer(self, body: Mapping[str, Any]) -> Question:
        """Read an infer request.

        Raises:
            InvalidInput: names the input, what was sent and what was expected.
        """
        inputs = body.get("inputs")
        if type(inputs) is not list or not inputs:
            raise _wrong("inputs", inputs, "a list of tensors, one per column")
        found: dict[str, list[Any]] = {}
        for number, tensor in enumerate(inputs):
            name, values = self._tensor(number, tensor)
            if name in found:
                raise InvalidInput(f"inputs name {name!r} twice", code="wrong_shape", param=name)
            found[name] = values
        parameters = body.get("parameters")
        explain = _flag(parameters, "explain")
        wanted = self._wanted(body["outputs"]) if "outputs" in body else ()
        identity = body.get("id")
        if identity is not None and type(identity) is not str:
            raise _wrong("id", identity, "a string")
        question = self._question(found, explain or _REASONS in wanted)
        question.id, question.wanted = identity, wanted
        if type(parameters) is dict and "attributes" in parameters:
            question.attributes = attributes_of(parameters["attributes"], question.rows)
        return question

    def _tensor(self, number: int, tensor: Any) -> tuple[str, list[Any]]:
        if type(tensor) is not dict:
            raise _wrong(f"inputs[{number}]", tensor, "an object with name, shape, datatype, data")
        name, datatype = tensor.get("name"), tensor.get("datatype")
        shape, data = tensor.get("shape"), tensor.get("data")
        if type(name) is not str:
            raise _wrong(f"inputs[{number}].name", name, "the name of a column")
        kind = self._types.get(name)
        expected = _ALL_DATATYPES if kind is None else _DATATYPES[kind]
        if type(datatype) is not str or datatype not in expected:
            what = f"one of {', '.join(sorted(expected))}" + (
                f" (column is {kind})" if kind else ""
            )
            raise _wrong(f"inputs[{number}] {name!r}: datatype", datatype, what, param=name)
        if type(data) is not list:
            raise _wrong(f"inputs[{number}] {name!r}: data", data, "a list of values", param=name)
        size = self._size(number, name, shape)
        if data and type(data[0]) is list:
            data = [value for row in data for value in (row if type(row) is list else [row])]
        if len(data) != size:
            raise InvalidInput(
                f"inputs[{number}] {name!r}: {len(data)} values, but shape {shape} says {size}",
                code="wrong_shape",
                param=name,
            )
        return name, data

    def _size(self, number: int, name: str, shape: Any) -> int:
        rest = shape[1:] if type(shape) is list else None
        if rest is None or not shape or type(shape[0]) is not int or rest not in ([], [1]):
            raise InvalidInput(
                f"inputs[{number}] {name!r}: shape = {shape!r:.80}: expected [n] or [n, 1]",
                code="wrong_shape",
                param=name,
            )
        return int(shape[0])

    def _wanted(self, outputs: Any) -> tuple[str, ...]:
        names = [item.get("name") if type(item) is dict else None for item in _list(outputs)]
        known = self._outputs | {_REASONS}
        for name in names:
            if type(name) is not str or name not in known:
                raise _wrong("outputs: name", name, f"one of {', '.join(sorted(known))}")
        return tuple(str(name) for name in names)

    def predict(self, body: Mapping[str, Any]) -> Question:
        """Read `{"rows": [{column: value}] | "entities": [{key: value}], "explain": bool,
        "attributes": {name: [value]}}`.

        Raises:
            InvalidInput: names row, column, value and what was expected.
        """
        unknown = body.keys() - {"rows", "entities", "explain", "attributes"}
        if unknown:
            name = sorted(unknown)[0]
            raise InvalidInput(
                f"{name!r}: expected rows or entities, and explain, attributes", param=name
            )
        if ("rows" in body) == ("entities" in body):
            raise InvalidInput("expected either rows or entities", param="rows")
        question = self._plain(body, _flag(body, "explain"))
        question.attributes = attributes_of(body.get("attributes"), question.rows)
        return question

    def _plain(self, body: Mapping[str, Any], explain: bool) -> Question:
        if "rows" in body:
            rows = _list(body["rows"])
            self._check_count(len(rows))
            who = {name for name in self._who if any(type(r) is dict and name in r for r in rows)}
            found = {name: [row.get(name) for row in rows if type(row) is dict] for name in who}
            plain = [
                {key: value for key, value in row.items() if key not in who}
                if who and type(row) is dict
                else row
                for row in rows
            ]
            columns = columns_of_rows(self._spec, plain)
            return Question(len(rows), columns, found, explain)
        return self._question(self._entities(_list(body["entities"])), explain)

    def _entities(self, entities: list[Any]) -> dict[str, list[Any]]:
        for number, entity in enumerate(entities):
            if type(entity) is not dict or entity.keys() != self._keys:
                raise _wrong(f"entities[{number}]", entity, f"an object with {self._listed_keys()}")
        self._check_count(len(entities))
        return {key: [entity[key] for entity in entities] for key in self._keys}

    def _question(self, found: dict[str, list[Any]], explain: bool) -> Question:
        """Decide by the names whether this asks by entity or by raw columns."""
        rows = len(next(iter(found.values())))
        self._check_count(rows)
        for name, values in found.items():
            if len(values) != rows:
                lengths = {key: len(value) for key, value in found.items()}
                raise InvalidInput(
                    f"inputs differ in length: {lengths}: expected one",
                    code="row_count",
                    param=name,
                )
        if found.keys() <= self._who:
            self._check_online(found)
            return Question(rows, None, found, explain)
        who = {name: found.pop(name) for name in self._who & found.keys()}
        return Question(rows, found, who, explain)

    def _check_online(self, found: Mapping[str, Any]) -> None:
        if not self._keys:
            raise InvalidInput(
                "this release reads no features by entity: send its columns", code="no_features"
            )
        if not self._online:
            raise InvalidInput(
                "this predictor was started without a feature server: send the raw columns",
                code="no_features",
            )
        if not self._keys <= found.keys():
            lacking = sorted(self._keys - found.keys())
            raise InvalidInput(
                f"missing entity {lacking[0]!r}: expected {self._listed_keys()}",
                code="missing_column",
                param=lacking[0],
            )

    def _listed_keys(self) -> str:
        return ", ".join(sorted(self._keys)) or "no key: this release has no features by entity"

    def _check_count(self, rows: int) -> None:
        if not 1 <= rows <= self._max_rows:
            raise InvalidInput(
                f"{rows:,} rows: expected 1 to {self._max_rows:,}", code="row_count", param="rows"
            )


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise InvalidInput(f"{value!r:.80}: expected a list", code="wrong_type")
    return value


def _flag(body: Any, name: str) -> bool:
    if body is None:
        return False
    value = body.get(name, False) if type(body) is dict else body
    if type(value) is not bool:
        raise _wrong(name, value, "true or false")
    return value


def _wrong(what: str, value: Any, expected: str, *, param: str | None = None) -> InvalidInput:
    shown = "null" if value is None else f"{value!r:.80}"
    return InvalidInput(
        f"{what} = {shown}: expected {expected}",
        code="wrong_type",
        param=param or what.partition("[")[0],
    )
