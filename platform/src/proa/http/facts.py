"""`x-proa-facts`: what a service says about an answer, for whoever counts answers.

`3;011;{"-4":1,"2":2}`: rows; the decision of each row, or nothing; how many rows fell into which
bin of predictions. The gateway reads it and never passes it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

__all__ = ["MOST_BINS", "MOST_DECISIONS", "Facts", "encode_facts", "parse_facts"]

MOST_DECISIONS: Final = 256
"""Rows whose decisions are told; a header has an end."""
MOST_BINS: Final = 256


@dataclass(frozen=True, slots=True)
class Facts:
    """One answer's facts.

    Attributes:
        decisions: one character a row, equal where the decision is equal; empty when the model
            decides nothing or there are more than `MOST_DECISIONS` rows.
        bins: JSON object, bin → rows.
    """

    rows: int
    decisions: str
    bins: str


def encode_facts(rows: int, decisions: str, bins: Mapping[int, int]) -> bytes:
    """The header's value."""
    told = decisions if len(decisions) <= MOST_DECISIONS else ""
    counts = ",".join([f'"{key}":{count}' for key, count in bins.items()])
    return f"{rows};{told};{{{counts}}}".encode("latin-1")


def parse_facts(text: str | None) -> Facts | None:
    """Read the header; None for anything that is not one, since any container may send it."""
    if text is None:
        return None
    parts = text.split(";", 2)
    if len(parts) != 3 or not parts[0].isdecimal() or len(parts[0]) > 9:
        return None
    rows, decisions, bins = int(parts[0]), parts[1], parts[2]
    try:
        counts = orjson.loads(bins)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(counts, dict) or not 0 < len(counts) <= MOST_BINS or len(decisions) > rows:
        return None
    for key, count in counts.items():
        if type(count) is not int or not 0 < count <= rows or not _is_bin(key):
            return None
    return Facts(rows, decisions, bins)


def _is_bin(key: str) -> bool:
    return len(key) <= 6 and key.removeprefix("-").isdecimal() and key.isascii()
