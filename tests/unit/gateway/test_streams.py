from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.errors import InvalidInput
from proa.http.bodies import ClientGone
from proa_gateway.streams import StreamTally, WhileConnected, ask_usage, relay

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
TOOL = (
    b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\\"a\\": 1"}}]}}]}\n\n'
)
FRAMES = [
    b": ping\r\n\r\n",
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"W\xc3\xb6rter"}}], "unknown": [1.50]}\r\r',
    TOOL,
    b"data: not json at all\n\n",
    b"data: [1]\n\n",
    b"event: other\ndata: 1\n\n",
]
DONE = b"data: [DONE]\n\n"


def run(stream: bytes, cuts: list[int], tally: StreamTally) -> bytes:
    places = sorted({min(cut, len(stream)) for cut in cuts})
    out: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        for a, b in zip([0, *places], [*places, len(stream)], strict=True):
            yield stream[a:b]

    async def send(frames: bytes) -> None:
        out.append(frames)

    asyncio.run(relay(pieces(), tally, send, on_content=lambda: None))
    return b"".join(out)


@given(st.lists(st.integers(0, 600), max_size=12))
def test_frames_pass_byte_equal_however_they_are_cut(cuts: list[int]) -> None:
    tally = StreamTally()
    stream = b"".join([*FRAMES, USAGE])
    assert run(stream + DONE, cuts, tally) == stream
    assert (tally.deltas, tally.tokens_in, tally.tokens_out) == (2, 7, 2)
    assert tally.end == DONE
    assert not tally.failed


def test_only_a_usage_frame_nobody_asked_for_is_hidden() -> None:
    stream = b"".join(FRAMES)
    assert run(stream + USAGE + DONE, [], StreamTally(hide_usage=True)) == stream
    assistant = b'data: {"choices":[],"usage":{"completion_tokens":2},"proa":{"citations":[]}}\n\n'
    assert run(assistant + DONE, [], StreamTally(hide_usage=True)) == assistant


def test_without_usage_the_pieces_are_counted() -> None:
    tally = StreamTally()
    run(b"".join(FRAMES), [], tally)
    assert (tally.done, tally.tokens_in, tally.tokens_out) == (False, None, 2)


def test_what_follows_the_end_mark_is_not_passed() -> None:
    assert run(DONE + b"data: late\n\n", [], StreamTally()) == b""


def test_an_error_inside_the_stream_is_noticed() -> None:
    tally = StreamTally()
    error = b'data: {"error":{"message":"engine died"}}\n\n'
    assert run(error + DONE, [], tally) == error
    assert tally.failed


BODY: dict[str, Any] = {"model": "m", "stream": True, "seed": 12345678901234567890}


@pytest.mark.parametrize("tail", ["", " \n\t"])
def test_usage_is_asked_for_by_one_member_more(tail: str) -> None:
    body = (json.dumps(BODY) + tail).encode()
    asked, by_client = ask_usage(body, json.loads(body), continuous=False)
    assert not by_client
    assert asked.startswith(json.dumps(BODY)[:-1].encode())
    assert json.loads(asked) == {**BODY, "stream_options": {"include_usage": True}}


def test_a_client_that_asked_is_passed_on_unchanged() -> None:
    chat = {**BODY, "stream_options": {"include_usage": True}}
    body = json.dumps(chat).encode()
    assert ask_usage(body, chat, continuous=False) == (body, True)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False, "x": 1}])
def test_other_options_are_kept(options: Any) -> None:
    chat = {**BODY, "seed": 1, "stream_options": options}
    body, asked = ask_usage(json.dumps(chat).encode(), chat, continuous=True)
    wanted = {**(options or {}), "include_usage": True, "continuous_usage_stats": True}
    assert json.loads(body) == {**chat, "stream_options": wanted}
    assert not asked


def test_stream_options_of_another_type_are_refused() -> None:
    with pytest.raises(InvalidInput, match="stream_options = yes: expected an object"):
        ask_usage(b"{}", {"stream_options": "yes"}, continuous=False)


def test_a_block_ends_when_the_client_leaves() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        with WhileConnected(receive):  # nobody leaves
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, gone.set)
        with pytest.raises(ClientGone), WhileConnected(receive):
            await asyncio.sleep(30)
        await asyncio.sleep(0)  # the cancellation did not outlive its block

    asyncio.run(main())


def test_a_cancellation_from_outside_stays_one() -> None:
    async def main() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def block() -> None:
            with WhileConnected(receive):
                await asyncio.sleep(30)

        task = asyncio.create_task(block())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
