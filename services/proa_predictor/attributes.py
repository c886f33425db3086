"""Protected attributes of the rows asked about: for the event, never for the model."""

from __future__ import annotations

from typing import Any, Final

import orjson

from proa.errors import InvalidInput

__all__ = ["attributes_of"]

_MOST: Final = 16
_NAME: Final = 64
"""Characters of a name. Both bounds are those of an event (`proa.events.check`)."""
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def attributes_of(value: Any, rows: int) -> dict[str, list[Any]] | None:
    """Read `{name: [a value per row]}`; of one row the value alone will do.

    Args:
        value: from the request: an object, or the same as a JSON text, since the Open Inference
            Protocol's parameters are plain values; None when there are none.

    Raises:
        InvalidInput: names the attribute, what was sent and what was expected. Values are not
            repeated: they may be personal.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    if not isinstance(value, dict) or len(value) > _MOST:
        raise _wrong("attributes", f"an object of at most {_MOST} names with a value per row")
    found = {}
    for name, values in value.items():
        listed = [values] if rows == 1 and not isinstance(values, list) else values
        if not 0 < len(name) <= _NAME:
            raise _wrong("attributes", f"names of 1 to {_NAME} characters")
        if not isinstance(listed, list) or len(listed) != rows:
            raise _wrong(f"attributes.{name}", f"a list of {rows:,} values")
        if not _SCALARS.issuperset(map(type, listed)):
            raise _wrong(f"attributes.{name}", "strings, numbers, booleans or nulls")
        found[name] = listed
    return found


def _wrong(what: str, expected: str) -> InvalidInput:
    return InvalidInput(f"{what}: expected {expected}", code="wrong_type", param="attributes")
