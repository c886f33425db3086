"""Streams through a real gateway: true to the byte, true at the end, counted when cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.processes import wait_until

from .conftest import ASSISTANT, ENGINE, House

USAGE = b'"usage":{"prompt_tokens":7'


def chat(orders: dict[str, Any], *, model: str = "python-help", **more: Any) -> dict[str, Any]:
    content = json.dumps(orders)
    return {
        "model": model, "stream": True, "messages": [{"role": "user", "content": content}], **more
    }  # fmt: skip


def stream(client: httpx.Client, body: dict[str, Any]) -> tuple[httpx.Response, bytes]:
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        return answer, b"".join(answer.iter_raw())


def frames(content: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in content.split(b"\n\n")[:-1]]


def direct(house: House, upstream: str, body: dict[str, Any]) -> bytes:
    url = house.upstreams[upstream].url
    return httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False).content


def test_a_stream_is_what_the_upstream_sent(running: House) -> None:
    client = running.client("call")
    body = chat({"deltas": 20}, stream_options={"include_usage": True})
    answer, content = stream(client, body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-proa-release"] == ASSISTANT
    assert content == direct(running, "assistant", body)
    assert content.endswith(b"data: [DONE]\n\n")
    assert USAGE in content
    (call,) = running.calls()
    assert (call["stream"], call["complete"], call["status"]) == (True, True, 200)
    assert (call["tokens_in"], call["tokens_out"]) == (7, 20)
    assert 0 < call["ttft_ms"] <= call["latency_ms"]


def test_the_usage_is_counted_and_hidden_from_a_client_that_did_not_ask(
    running: House, seen: Callable[..., Any]
) -> None:
    client = running.client("call")
    body = chat({"deltas": 4})
    _, content = stream(client, body)
    assert USAGE not in content
    sent = json.loads(seen(running.upstreams["assistant"])["seen"][-1]["body"])
    assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == body
    assert content == direct(running, "assistant", body)
    assert running.calls()[0]["tokens_out"] == 4


def test_what_an_assistant_adds_always_reaches_the_client(running: House) -> None:
    _, content = stream(running.client("call"), chat({"proa": True}))
    assert b'"proa":{"citations":[]}' in frames(content)[-2]


@pytest.mark.parametrize("split", [1, 7])
def test_split_frames_odd_frames_and_garbage_pass_byte_equal(running: House, split: int) -> None:
    raw = [
        ": ping\r\n\r\n",
        "event: x\nid: 1\ndata: one\ndata: two\n\n",
        "data: {broken json\n\n",
        'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"x":1.50}]}}],"new":"ü"}\n\n',
        'data: {"choices":[{"delta":{"content":"\\u00fc"}}]}\n\n',
        "data: [DONE]\n\n",
    ]
    _, content = stream(running.client("call"), chat({"raw": raw, "split": split}))
    assert content == "".join(raw).encode()
    assert running.calls()[0]["tokens_out"] == 2


def test_nothing_but_the_end_is_held_back(running: House) -> None:
    client = running.client("call")
    pace = {"deltas": 5, "pace_ms": 150}
    got = []
    with client.stream("POST", "/v1/chat/completions", json=chat(pace)) as answer:
        for piece in answer.iter_raw():
            got.append(piece)  # noqa: PERF402 - how many pieces is the point
    assert len(got) >= 5
    assert all(piece.count(b'"w') <= 1 for piece in got)


@pytest.mark.parametrize("how", ["die_after", "cut_after"])
@pytest.mark.parametrize("door", ["user", "engine"])
def test_an_upstream_that_dies_mid_stream_ends_in_an_error_and_no_done(
    alone: House, how: str, door: str
) -> None:
    model = "python-help" if door == "user" else ENGINE
    client = alone.client("call", "engine", door=door)
    answer, content = stream(client, chat({"deltas": 5, how: 2, "pace_ms": 20}, model=model))
    assert answer.status_code == 200
    assert b"w1" in content
    assert b"[DONE]" not in content
    error = json.loads(frames(content)[-1].removeprefix(b"data: "))["error"]
    assert error["code"] == "broken_stream"
    assert error["request"] == answer.headers["x-proa-request"]
    (call,) = alone.calls()
    assert (call["complete"], call["error"], call["tokens_out"]) == (False, "broken_stream", 2)
    if door == "user":
        counts = alone.reader.get("/proa/v1/counts?model=python-help").json()["releases"]
        assert counts[ASSISTANT]["errors"] == 1
    else:
        assert call["cost_micro"] == 4


def test_an_error_told_inside_the_stream_is_not_followed_by_a_clean_end(running: House) -> None:
    client = running.client("engine", door="engine")
    body = chat({"deltas": 5, "error_after": 1}, model=ENGINE)
    _, content = stream(client, body)
    assert frames(content)[-1] == b'data: {"error":{"message":"engine died","code":500}}\n\n'
    assert b"[DONE]" not in content
    assert running.calls()[0]["error"] == "broken_stream"


def test_a_stream_without_its_end_mark_is_no_whole_answer(running: House) -> None:
    _, content = stream(running.client("call"), chat({"deltas": 2, "done": False}))
    assert b"ended the stream before its end" in frames(content)[-1]
    assert running.calls()[0]["complete"] is False


@pytest.mark.parametrize(
    ("orders", "status", "code"),
    [
        ({"status": 400}, 400, "standin_says_no"),
        ({"raw": []}, 503, "broken_stream"),
        ({"raw": ["data: half a frame"]}, 503, "broken_stream"),
    ],
)
def test_an_error_before_the_first_frame_is_that_error(
    running: House, orders: dict[str, Any], status: int, code: str
) -> None:
    answer, content = stream(running.client("call"), chat(orders))
    assert answer.headers["content-type"] == "application/json"
    assert (answer.status_code, json.loads(content)["error"]["code"]) == (status, code)
    assert running.calls()[0]["status"] == status


def test_a_stream_that_stalls_is_given_up(house: House) -> None:
    house.extra = ("--timeout-seconds", "0.4")
    up = house.upstream(ASSISTANT)
    house.route("python-help", "llm", champion=(ASSISTANT, up.url, True, 1))
    house.start()
    client = house.client("call")
    _, content = stream(client, chat({"deltas": 8, "pace_ms": 100}))
    assert content.endswith(b"data: [DONE]\n\n")  # long in all, never long between two pieces
    _, content = stream(client, chat({"deltas": 2, "pace_ms": 5000}))
    assert b"did not answer within 0.4 s" in frames(content)[-1]


def leave_after(client: httpx.Client, body: dict[str, Any], needle: bytes) -> None:
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        seen = b""
        for piece in answer.iter_raw():
            seen += piece
            if needle in seen:
                return
    raise AssertionError(seen)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_client_that_leaves_is_counted_and_the_upstream_cancelled(
    house: House, continuous: bool, seen: Callable[..., Any]
) -> None:
    engine = house.upstream("")
    house.engine(engine.url, continuous_usage=continuous)
    house.start()
    client = house.client("engine", door="engine")
    leave_after(client, chat({"deltas": 10_000, "pace_ms": 20}, model=ENGINE), b"w2")
    wait_until(lambda: seen(engine)["cut"] == 1, 10)
    (call,) = wait_until(house.calls, 10)
    assert (call["complete"], call["error"], call["status"]) == (False, "client_gone", 200)
    assert 3 <= call["tokens_out"] < 50
    # Only an engine that tells the usage as it goes says the prompt's tokens in time.
    assert call["tokens_in"] == (7 if continuous else None)
    assert call["cost_micro"] == call["tokens_out"] * 2 + (7 if continuous else 0)


def test_a_client_that_leaves_before_the_answer(running: House, seen: Callable[..., Any]) -> None:
    client = running.client("call")
    body = {**chat({"wait_ms": 5000}), "stream": False}
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body, timeout=0.3)
    (call,) = wait_until(running.calls, 3)
    assert (call["status"], call["error"], call["complete"]) == (499, "client_gone", False)
    query = {"model": "python-help", "since": running.since}
    counts = running.reader.get("/proa/v1/counts", params=query).json()["releases"][ASSISTANT]
    assert (counts["errors"], counts["client_gone"]) == (0, 1)


def test_a_stream_longer_than_the_drain_is_cut_without_a_clean_end(house: House) -> None:
    house.extra = ("--drain-seconds", "1")
    up = house.upstream(ASSISTANT)
    house.route("python-help", "llm", champion=(ASSISTANT, up.url, True, 1))
    house.start()
    assert house.proc is not None
    client, proc, got = house.client("call"), house.proc, []

    def read() -> None:
        body = chat({"deltas": 10_000, "pace_ms": 20})
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            for piece in answer.iter_raw():
                if not got:
                    proc.terminate()
                got.append(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    content = b"".join(got)
    assert b"w5" in content  # what was under way went on for a while
    assert b"[DONE]" not in content
    assert house.proc.wait(10) == 0
    house.start()
    (call,) = house.calls()
    assert (call["complete"], call["error"]) == (False, "shutdown")
    assert call["tokens_out"] > 5


def test_connections_are_used_again_after_a_stream(
    running: House, seen: Callable[..., Any]
) -> None:
    client = running.client("call")
    for _ in range(5):
        stream(client, chat({"deltas": 2}))
    seen_last = seen(running.upstreams["assistant"])["seen"][-5:]
    assert len({one["peer"] for one in seen_last}) == 1
