"""Groundedness: which share of an answer the cited passages support, by rules and embeddings.

A sentence is supported when a passage says something close to it and has every number and most of
the names in it. Limits, all seen: a sentence that turns its passage round ("is not closed") is as
close as the true one; a true sentence put together from two passages may lie far from both; a
sentence that only repeats the question is supported when a passage does so too. It finds what was
made up, not what was misread; `contains`, `regex` and a judge look at the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLOSE: Final = 0.55
"""Cosine from which a sentence of a passage supports one of an answer."""
NAMES: Final = 0.5
"""Share of a sentence's names that must stand in the passages."""
_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z])|\n{2,}")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,:]\d+)*(?!\w)")
# What code and proper names look like: dotted, with underscores, calls, capitals inside a word.
_NAME = re.compile(r"\w+(?:\.\w+)+|\w*_\w+|\w+(?=\()|[A-Za-z]+[A-Z]\w*|[A-Z]\w*-\d+")
_SAYS = re.compile(r"\w\w")


def groundedness(
    answer: str,
    passages: Sequence[str],
    *,
    embed: Callable[[list[str]], NDArray[np.float32]],
) -> float:
    """The share of an answer's sentences that passages support, rounded to 4 places.

    Returns:
        0.0 for an answer without a sentence or without passages.
    """
    claims = sentences(answer)
    stated = [sentence for passage in passages for sentence in [passage, *sentences(passage)]]
    if not claims or not stated:
        return 0.0
    vectors = embed([*claims, *stated])
    near = (vectors[: len(claims)] @ vectors[len(claims) :].T).max(axis=1)
    text = " ".join(" ".join(passages).split()).casefold()
    supported = [
        float(cosine) >= CLOSE and _facts_stand_in(claim, text)
        for claim, cosine in zip(claims, near, strict=True)
    ]
    return round(sum(supported) / len(supported), 4)


def sentences(text: str) -> list[str]:
    """The sentences of a text that say something."""
    parts = (" ".join(part.split()) for part in _END.split(text))
    return [part for part in parts if _SAYS.search(part)]


def _facts_stand_in(claim: str, text: str) -> bool:
    if any(number not in _numbers(text) for number in _numbers(claim)):
        return False
    names = {name.casefold() for name in _NAME.findall(claim)}
    found = sum(name in text for name in names)
    return not names or found / len(names) >= NAMES


def _numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(text))
