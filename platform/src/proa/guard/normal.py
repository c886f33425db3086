"""Text as rules see it: one form for the many ways to write a word, with the way back.

Unicode NFKC, letters that look like Latin ones folded, invisible and control characters left out,
case folded. Every character of the normal form knows the character it came from, so that a match
can be masked in the original.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_KEPT_CONTROLS = frozenset("\n\r\t ")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LOOKALIKES = str.maketrans(
    "авекмнорстухіјѕԁһԛԝӏɡıοανρτυχικεβημ",
    "abekmhopctyxijsdhqwlgioavptuxikebnm",
)


@dataclass(frozen=True, slots=True)
class Normal:
    """`text` in normal form; `origin[i]` is where its i-th character stood, None when unmoved."""

    text: str
    origin: tuple[int, ...] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that gave `text[start:end]`."""
        if self.origin is None or start >= end:
            return start, end
        return self.origin[start], self.origin[end - 1] + 1


def normalise(text: str) -> Normal:
    """The normal form of a text."""
    if text.isascii() and not _CONTROLS.search(text):
        return Normal(text.lower(), None)
    characters: list[str] = []
    origin: list[int] = []
    for index, character in enumerate(text):
        folded = _fold(character)
        characters.append(folded)
        origin += [index] * len(folded)
    return Normal("".join(characters), tuple(origin))


def plain(text: str) -> Normal:
    """Only case folded, for policies that switch normalisation off."""
    lowered = text.lower()
    return Normal(lowered, None) if len(lowered) == len(text) else normalise(text)


def _fold(character: str) -> str:
    if character in _KEPT_CONTROLS:
        return character
    if character < "\x7f" and character >= " ":
        return character.lower()
    folded = unicodedata.normalize("NFKC", character).casefold().translate(_LOOKALIKES)
    return "".join(
        " " if unicodedata.category(part) == "Zs" else part
        for part in folded
        if unicodedata.category(part) not in ("Cc", "Cf", "Co", "Cs", "Mn")
    )
