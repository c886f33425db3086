"""Personal data and secrets, found by shape and, where there is one, by checksum.

Detectors get text in normal form and yield spans in it. Every repetition is bounded, so that no
input takes more than linear time.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

Span = tuple[int, int]
Detector = Callable[[str], Iterator[Span]]

_CARD: Final = re.compile(r"(?<![\d.])[2-6](?:[ -]?\d){12,18}(?![\d])")
_IBAN_START: Final = re.compile(r"(?<![a-z0-9])([a-z]{2})\d{2}(?=[ ]?[a-z0-9])")
_EMAIL: Final = re.compile(
    r"(?<![a-z0-9._%+-])[a-z0-9._%+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,6}[a-z]{2,24}(?![a-z0-9-])"
)
_PHONE: Final = re.compile(
    r"(?<![\w.+])(?:\+[1-9]\d{0,2}(?:[ .()/-]{0,2}\d){7,12}"
    r"|(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4})(?![\w-]|\.\d)"
)
_IP: Final = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d]|\.\d)")
_SSN: Final = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_API_KEY: Final = re.compile(
    r"(?<![a-z0-9])(?:"
    r"sk-[a-z0-9_-]{20,200}"
    r"|akia[0-9a-z]{16}"
    r"|gh[pousr]_[a-z0-9]{36,255}"
    r"|github_pat_[a-z0-9_]{22,255}"
    r"|xox[abprs]-[a-z0-9-]{10,200}"
    r"|aiza[0-9a-z_-]{35}"
    r"|proa_[a-z0-9]{4,40}_[a-z0-9_-]{20,200}"
    r"|eyj[a-z0-9_-]{10,2000}\.[a-z0-9_-]{10,4000}\.[a-z0-9_-]{10,1000}"
    r")(?![a-z0-9])"
    r"|-----begin [a-z ]{0,30}private key-----"
    r"[a-z0-9+/=\s]{0,8000}(?:-----end [a-z ]{0,30}private key-----)?"
)

# Lengths by country: the IBAN registry of SWIFT, release 99.
_IBAN_LENGTHS: Final = {
    "ad": 24, "ae": 23, "al": 28, "at": 20, "az": 28, "ba": 20, "be": 16, "bg": 22, "bh": 22,
    "br": 29, "by": 28, "ch": 21, "cr": 22, "cy": 28, "cz": 24, "de": 22, "dk": 18, "do": 28,
    "ee": 20, "eg": 29, "es": 24, "fi": 18, "fo": 18, "fr": 27, "gb": 22, "ge": 22, "gi": 23,
    "gl": 18, "gr": 27, "gt": 28, "hr": 21, "hu": 28, "ie": 22, "il": 23, "iq": 23, "is": 26,
    "it": 27, "jo": 30, "kw": 30, "kz": 20, "lb": 28, "lc": 32, "li": 21, "lt": 20, "lu": 20,
    "lv": 21, "mc": 27, "md": 24, "me": 22, "mk": 19, "mr": 27, "mt": 31, "mu": 30, "nl": 18,
    "no": 15, "pk": 24, "pl": 28, "ps": 29, "pt": 25, "qa": 29, "ro": 24, "rs": 22, "sa": 24,
    "sc": 31, "se": 24, "si": 19, "sk": 24, "sm": 27, "tn": 24, "tr": 26, "ua": 29, "vg": 24,
    "xk": 20,
}  # fmt: skip


def cards(text: str) -> Iterator[Span]:
    """Payment card numbers: 13 to 19 digits of a card's industry with a valid Luhn digit."""
    for match in _CARD.finditer(text):
        digits = [int(c) for c in match[0] if c.isdigit()]
        if len(set(digits)) > 1 and luhn(digits):
            yield match.span()


def luhn(digits: list[int]) -> bool:
    """Whether the last digit is right (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def ibans(text: str) -> Iterator[Span]:
    """IBANs of a known country with its length and a right check number (ISO 13616)."""
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match[1])
        end = None if length is None else _take(text, match.start(), length)
        if end is not None and _mod97(text[match.start() : end]) == 1:
            yield match.start(), end


def _take(text: str, start: int, length: int) -> int | None:
    """Where `length` letters and digits end, single spaces between them allowed."""
    position, taken = start, 0
    while position < len(text) and taken < length:
        character = text[position]
        if character.isascii() and character.isalnum():
            taken += 1
        elif character != " " or text[position - 1] == " ":
            return None
        position += 1
    after = text[position : position + 1]
    return None if taken < length or (after.isascii() and after.isalnum()) else position


def _mod97(text: str) -> int:
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97


def ips(text: str) -> Iterator[Span]:
    """IPv4 addresses that are reachable from anywhere; private and test networks are left."""
    for match in _IP.finditer(text):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if address.is_global:
            yield match.span()


def _by(pattern: re.Pattern[str]) -> Detector:
    def detect(text: str) -> Iterator[Span]:
        return (match.span() for match in pattern.finditer(text))

    return detect


DETECTORS: Final[Mapping[str, Detector]] = {
    "card": cards,
    "iban": ibans,
    "email": _by(_EMAIL),
    "phone": _by(_PHONE),
    "ip": ips,
    "us_ssn": _by(_SSN),
    "api_key": _by(_API_KEY),
}
