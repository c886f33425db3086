"""Into which bin a prediction falls: one grid for all releases of a task, so that two compare.

Bins made of a release's own reference could not tell two releases apart: each would be even on its
own. Probabilities are cut by half a logit (0.5 is the edge of bins -1 and 0, 0.01 lies in -10);
classes by their place in the release's list; other numbers on asinh(1000 x), which is
even around 0 and has bins of 1.6 % width from 0.01 on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from proa.http.facts import MOST_BINS, encode_facts
from proa.release.manifest import ClassicSpec
from proa.release.scoring import Outputs

__all__ = ["facts_of", "number_bin", "probability_bin"]

_LOGIT_MOST: Final = 40
_PER_RATIO: Final = 64
_ENDLESS: Final = 99_999
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def probability_bin(value: float) -> int:
    """Half logits, from -40 (0) to 39 (1)."""
    if value <= 0.0:
        return -_LOGIT_MOST
    if value >= 1.0:
        return _LOGIT_MOST - 1
    place = math.floor(2.0 * math.log(value / (1.0 - value)))
    return max(-_LOGIT_MOST, min(_LOGIT_MOST - 1, place))


def number_bin(value: float) -> int:
    """Bins of 1.6 % on either side of 0, finer than 0.00002 around it."""
    if not math.isfinite(value):
        return _ENDLESS if value > 0 else -_ENDLESS
    return math.floor(_PER_RATIO * math.asinh(1000.0 * value))


def facts_of(spec: ClassicSpec) -> Callable[[Outputs], bytes]:
    """The function that turns n answered rows into the value of `x-proa-facts`."""
    if spec.task == "binary":
        return lambda outputs: _encode(
            outputs["probability"], probability_bin, _decisions(outputs.get("label"))
        )
    if spec.task == "multiclass":
        places = {name: number for number, name in enumerate(spec.classes)}
        letters = {name: _ALPHABET[n] for name, n in places.items() if n < len(_ALPHABET)}
        told = letters if len(letters) == len(places) else {}
        return lambda outputs: _encode(
            outputs["label"],
            lambda label: places.get(str(label), -1),
            "".join(told.get(str(label), "") for label in outputs["label"]),
        )
    return lambda outputs: _encode(
        outputs["prediction"], number_bin, _decisions(outputs.get("label"))
    )


def _encode(values: Sequence[Any], place: Callable[[Any], int], decisions: str) -> bytes:
    rows = len(values)
    if rows == 1:
        return encode_facts(1, decisions, {place(values[0]): 1})
    bins = Counter(map(place, values))
    if len(bins) > MOST_BINS:  # evenly spaced order statistics say the same in fewer words
        ordered = sorted(bins.elements())
        bins = Counter(ordered[i * rows // MOST_BINS] for i in range(MOST_BINS))
    return encode_facts(rows, decisions if len(decisions) == rows else "", bins)


def _decisions(labels: Sequence[Any] | None) -> str:
    return "" if labels is None else "".join(["1" if label else "0" for label in labels])
