from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.http import sse
from proa.http.sse import FrameParser, data_of

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.one_of(
    st.binary(max_size=12).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"")),
    st.sampled_from([b"data: {}", b"data:x", b": ping", b"event: e", b"id: 1", b"data", b""]),
)
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=30).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def parse(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    parser = FrameParser()
    frames = [frame for piece in pieces for frame in parser.feed(piece)]
    return [*frames, *parser.close()], parser.rest


def reference(stream: bytes) -> list[list[bytes]]:
    """Lines of each frame by the book: read line by line, an empty line ends a frame."""
    frames: list[list[bytes]] = []
    lines: list[bytes] = []
    for line in stream.splitlines(keepends=True):
        if not line.endswith((b"\r", b"\n")):
            break
        lines.append(line.rstrip(b"\r\n"))
        if not lines[-1]:
            frames.append([one for one in lines if one])
            lines = []
    return [frame for frame in frames if frame]


@given(STREAMS, st.lists(st.integers(min_value=0, max_value=300), max_size=20))
@example(b"data: a\r\nfoo\r\n\r\n", [8])
@example(b"data: a\r\r\ndata: b\r\r", [8, 9])
def test_any_split_gives_the_same_frames(stream: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(stream)) for cut in cuts})
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert parse(pieces) == parse([stream])
    assert parse([stream[i : i + 1] for i in range(len(stream))]) == parse([stream])


@given(STREAMS)
def test_no_byte_is_lost_and_frames_are_those_of_the_standard(stream: bytes) -> None:
    frames, rest = parse([stream])
    assert b"".join(frames) + rest == stream
    ours = [[line for line in frame.splitlines() if line] for frame in frames]
    assert [lines for lines in ours if lines] == reference(stream)


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\r\n\r\n", b"{}"),
        (b"event: e\ndata: one\ndata: two\n\n", b"one\ntwo"),
        (b": ping\n\n", None),
        (b"data\n\n", b""),
        (b"data:  x\n\n", b" x"),
        (b"data: x\r\n\n", b"x"),
        (b"\n\n", None),
        (b"database: no\n\n", None),
    ],
)
def test_data_of_a_frame(frame: bytes, data: bytes | None) -> None:
    assert data_of(frame) == data


def test_a_frame_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FRAME_LIMIT", 100)
    parser = FrameParser()
    parser.feed(b"data: " + b"x" * 90)
    with pytest.raises(InvalidInput, match="no end after 100 bytes"):
        parser.feed(b"x" * 10)
