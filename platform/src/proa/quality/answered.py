"""One answered row with what came true of it, in the three forms of a classic model's answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = [
    "AnsweredRow",
    "Form",
    "agrees",
    "entities_of",
    "entity_word",
    "form_of",
    "truth_of",
    "word_of",
]

Form = Literal["probability", "label", "number"]
"""`probability` of being true, with a decision perhaps; a `label`; a `number`."""

_LONG: Final = 256
"""Characters of an entity that are kept as they are."""
_WORDS: Final[Mapping[str, float]] = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """One row.

    Attributes:
        said: the probability or the number; None for a label.
        decided: the label that was answered, as text: `true` or `false` of a binary model.
        truth: what came true, as it was sent; None while nobody said so.
        delay: seconds from the answer to its truth.
        reasons: contribution by feature, when they were kept.
    """

    form: Form
    said: float | None
    decided: str | None
    truth: Any = None
    delay: float | None = None
    reasons: Mapping[str, float] | None = None


def form_of(outputs: Mapping[str, Sequence[Any]]) -> Form | None:
    """Which form outputs have; None when no truth can be set against them."""
    if "probability" in outputs:
        return "probability"
    if "label" in outputs:
        return "label"
    return "number" if "prediction" in outputs else None


def truth_of(form: Form, value: Any) -> float | str | None:
    """A truth as a number (0 or 1 for a probability) or a label; None when it does not fit."""
    if form == "label":
        return word_of(value)
    if isinstance(value, str) and form == "probability":
        return _WORDS.get(value.lower())
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if form == "probability":
        return number if number in (0.0, 1.0) else None
    return number if math.isfinite(number) else None


def word_of(value: Any) -> str:
    """A label as text; true and false as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def agrees(decided: str | None, truth: str) -> bool:
    """Whether a label is the one that was answered; 1 and 0 are a truth of yes and no as well."""
    if decided in ("true", "false"):
        return truth_of("probability", truth) == _WORDS[decided]
    return decided == truth


def entities_of(rows: int, entity: Sequence[Any] | None, unit: str | None) -> list[str | None]:
    """Whom each row of a call is about: its entity, else the unit of a call of one row.

    A unit stands for no row of several: nobody could say which.
    """
    if entity:
        return [None if one is None else entity_word(one) for one in entity[:rows]]
    return [unit] if rows == 1 else [None] * rows


def entity_word(entity: Any) -> str:
    """An entity as text; a compound key the same however it is ordered, a long one by its hash."""
    if isinstance(entity, dict):
        text = ",".join(f"{key}={entity[key]}" for key in sorted(entity))
    else:
        text = str(entity)
    if len(text) <= _LONG:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
