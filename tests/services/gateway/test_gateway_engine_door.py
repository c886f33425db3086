"""The engine door of a real gateway process; the engine is `tests.standins.upstream`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.processes import answers, wait_until

from .conftest import ENGINE, House


def chat(orders: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    content = json.dumps(orders or {})
    return {"model": ENGINE, "messages": [{"role": "user", "content": content}], **more}


def ask(client: httpx.Client, body: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post("/v1/chat/completions", json=body, headers=headers)


def test_tokens_and_cost_are_the_caller_s(running: House) -> None:
    assistant = running.client("engine", "internal", door="engine", team="platform")
    passed_on = {
        "x-proa-parent": "01J0000000000000000000000A",
        "x-proa-team": "search",
        "x-proa-feature": "box",
        "x-proa-purpose": "judge",
        "x-proa-release": "python-help/3@sha256:" + "0" * 64,
        "x-proa-track": "champion",
    }
    answer = ask(assistant, chat({"deltas": 5}), **passed_on)
    assert answer.status_code == 200
    (call,) = running.calls()
    assert (call["door"], call["engine"], call["parent"]) == (
        "engine", ENGINE, "01J0000000000000000000000A",
    )  # fmt: skip
    assert (call["team"], call["feature"], call["purpose"]) == ("search", "box", "judge")
    assert (call["model"], call["track"]) == ("python-help", "champion")
    assert (call["tokens_in"], call["tokens_out"]) == (7, 5)
    assert (call["cost_micro"], call["price"]) == (7 * 1 + 5 * 2, "tokens:1000000:2000000")
    query = {"by": "purpose", "since": running.since}
    costs = running.reader.get("/proa/v1/costs", params=query).json()["costs"]
    assert costs[0]["key"] == "judge"
    assert (costs[0]["tokens_in"], costs[0]["tokens_out"]) == (7, 5)


def test_the_engine_sees_its_own_key_and_no_caller(house: House, seen: Callable[..., Any]) -> None:
    engine = house.upstream("")
    (house.home / "engine.key").write_text("engine-secret\n")
    house.engine(engine.url, key_file=str(house.home / "engine.key"))
    house.start()
    client = house.client("engine", "internal", door="engine")
    answer = ask(client, chat(), **{"x-proa-team": "search"})
    got = seen(engine)["seen"][-1]["headers"]
    assert got["authorization"] == "Bearer engine-secret"
    assert not any(name.startswith("x-proa-") for name in got)
    assert "engine-secret" not in f"{answer.headers} {answer.text} {house.calls()}"
    refused = ask(client, chat({"status": 401}))
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "engine_key")


def test_an_engine_behind_a_unix_socket(house: House) -> None:
    path = house.home / "engine.sock"
    argv = ["python", "-m", "tests.standins.upstream", "--uds", path]
    house.processes.start(argv, ready=None)
    wait_until(path.exists)
    house.engine(f"unix://{path}")
    house.start()
    client = house.client("engine", door="engine")
    assert ask(client, chat()).status_code == 200
    assert ask(client, chat(stream=True)).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("rights", "body", "status", "code"),
    [
        (["call"], chat(), 403, "right_missing"),
        (["engine"], {**chat(), "model": "python-help"}, 404, "unknown_engine"),
        (["engine"], {"messages": []}, 400, "wrong_type"),
    ],
)
def test_who_and_what_is_let_in(
    running: House, rights: list[str], body: dict[str, Any], status: int, code: str
) -> None:
    answer = ask(running.client(*rights, door="engine"), body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_without_the_right_internal_a_caller_speaks_for_itself_only(running: House) -> None:
    client = running.client("engine", door="engine", team="mine")
    ask(client, chat(), **{"x-proa-team": "rich", "x-proa-parent": "P", "x-proa-purpose": "gate"})
    (call,) = running.calls()
    assert (call["team"], call["parent"], call["purpose"]) == ("mine", None, "user")


def test_the_identity_the_engine_itself_does_not_know(house: House) -> None:
    engine = house.upstream("", "--model", "another")
    house.engine(engine.url)
    house.start()
    answer = ask(house.client("engine", door="engine"), chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_no_way_past_the_doors(running: House) -> None:
    """The engine door has no admin pages and the user door knows no engine."""
    admin = running.client("admin", door="engine")
    assert admin.get("/proa/v1/calls").status_code == 404
    user = running.client("call", "engine")
    answer = user.post("/v1/chat/completions", json=chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")
    assert answers(f"{running.engine_url}/readyz")
