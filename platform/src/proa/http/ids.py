"""Request and event ids: ULIDs (48 bits of Unix milliseconds, 80 random bits, Crockford base 32).

Form: github.com/ulid/spec. 26 characters that sort by time.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHIFTS: Final = tuple(range(120, -10, -10))
_RANDOM_BITS: Final = 80

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A new ULID, greater than every one this process made before, from any thread.

    Within one millisecond, and when the wall clock steps back, the last value counts on by one.
    """
    global _last
    value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(10))
    with _lock:
        if value >> _RANDOM_BITS <= _last >> _RANDOM_BITS:
            value = _last + 1
        _last = value
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def is_id(text: str) -> bool:
    """Whether `text` has the form of a ULID."""
    return len(text) == 26 and text[0] in "01234567" and not set(text) - set(_ALPHABET)
