"""Canonical JSON (RFC 8785) and the digests made from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import rfc8785

from proa.errors import InvalidInput

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no white space, shortest numbers.

    Raises:
        InvalidInput: NaN, an infinity, an integer beyond 2**53 or a type JSON lacks.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise InvalidInput(f"cannot be written as canonical JSON: {error}") from error


def parse_json(data: bytes, *, what: str) -> Any:
    """Decode UTF-8 JSON, naming `what` when it is not.

    A whole number beyond 2**53 can only come from a float (RFC 8785 writes 1e16 without a point),
    so it is read as one: the value keeps its digest.
    """
    try:
        return json.loads(data, parse_int=_number)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidInput(f"{what} is not valid JSON: {error}") from error


def _number(text: str) -> int | float:
    value = int(text)
    return value if abs(value) < 2**53 else float(text)


def digest_bytes(data: bytes) -> str:
    """`sha256:` and the hex digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_json(value: Any) -> str:
    """The digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """`sha256:` and the hex digest of a file's bytes, read in chunks of 1 MiB."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return f"sha256:{sha.hexdigest()}"
