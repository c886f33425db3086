"""Settings checked against a pydantic model, every mistake in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proa.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)


def check_settings(
    model: type[Model], value: Any, *, what: str, lines: Mapping[str, int] | None = None
) -> Model:
    """Validate decoded YAML or JSON.

    Args:
        model: the closed pydantic model.
        value: the decoded document.
        what: the file's name, which starts the message.
        lines: the line of each dotted key, when known.

    Raises:
        InvalidInput: `FILE: key = value: expected … (line N)` for the first mistake.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        line = (lines or {}).get(key)
        where = f" (line {line})" if line is not None else ""
        sentence = _sentence(first, key, model)
        raise InvalidInput(f"{what}: {sentence}{where}", param=key or None) from error


def _sentence(error: ErrorDetails, key: str, model: type[BaseModel]) -> str:
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(_keys_at(model, error["loc"][:-1])))
        return f"{key} is not a key; expected one of {known}" if known else f"{key} is not a key"
    expected = error["msg"].removeprefix("Value error, ")
    expected = expected.replace("Input should be ", "expected ")
    expected = expected.replace("a valid integer", "an integer").replace("a valid ", "a ")
    if not key:
        return expected
    shown = repr(error["input"])
    if isinstance(error["input"], Mapping):
        return f"{key}: {expected}"
    return f"{key} = {shown if len(shown) <= 80 else shown[:77] + '...'}: {expected}"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """The keys of the section at `loc`; none when it cannot be told (a union)."""
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            continue
        if current is None:
            return set()
        current = next(
            (
                _section_of(field.annotation)
                for name, field in current.model_fields.items()
                if part in (name, field.alias)
            ),
            None,
        )
    if current is None:
        return set()
    return {field.alias or name for name, field in current.model_fields.items()}


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [section for arg in get_args(annotation) if (section := _section_of(arg)) is not None]
    return found[0] if len(found) == 1 else None
