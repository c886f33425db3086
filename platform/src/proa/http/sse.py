"""Server-sent events as bytes: where one frame ends, and what its data says.

Framing of the WHATWG HTML standard §9.2.6: lines end with CRLF, LF or CR; an empty line ends a
frame; a line that begins with a colon is a comment. Frames come out byte for byte as they came
in, however the stream was cut, so that what is not understood passes unharmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from proa.errors import InvalidInput

__all__ = ["FRAME_LIMIT", "FrameParser", "data_of"]

FRAME_LIMIT: Final = 4 << 20
"""Bytes one frame may have; a stream without line ends must not fill the memory."""

# A CR at the very end may be half of a CRLF: it is decided with the next byte.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2}")
_LONGEST_END: Final = 4


class FrameParser:
    """Cuts a byte stream into frames, each with the empty line that ends it.

    Any way of splitting the same bytes over calls of `feed` gives the same frames.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes.

        Raises:
            InvalidInput: more than `FRAME_LIMIT` bytes without the end of a frame.
        """
        seen = len(self._rest)
        buffer = self._rest + data if seen else data
        frames, start = [], 0
        for match in _END.finditer(buffer, max(0, seen - _LONGEST_END)):
            frames.append(buffer[start : match.end()])
            start = match.end()
        self._rest = buffer[start:] if start else buffer
        if len(self._rest) > FRAME_LIMIT:
            raise InvalidInput(
                f"a server-sent event has no end after {FRAME_LIMIT:,} bytes",
                code="frame_too_large",
            )
        return frames

    def close(self) -> list[bytes]:
        """The frames that only the end of the stream completes: a last one that ends in CR."""
        rest, self._rest = self._rest, b""
        if rest.endswith(b"\r") and _END.search(rest + b"x"):
            return [rest]
        self._rest = rest
        return []

    @property
    def rest(self) -> bytes:
        """Bytes of a frame which has not ended."""
        return self._rest


def data_of(frame: bytes) -> bytes | None:
    """The value of a frame's `data` lines, joined by LF; None when it has none (a comment)."""
    if frame.startswith(b"data: ") and frame.find(b"\n") == len(frame) - 2 and b"\r" not in frame:
        return frame[6:-2]
    values = list(_data_lines(frame))
    return b"\n".join(values) if values else None


def _data_lines(frame: bytes) -> Iterator[bytes]:
    for line in frame.splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            yield value.removeprefix(b" ")
