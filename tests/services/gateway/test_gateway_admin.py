"""`/proa/v1`, and the life of the process: start, drain, a taken port."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from tests.processes import answers, free_port, wait_until

from .conftest import CHAMPION, House

INFER = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}


def slow(wait_ms: int) -> dict[str, Any]:
    return {**INFER, "parameters": {"standin": {"wait_ms": wait_ms}}}


def test_keys_are_made_listed_and_revoked(running: House) -> None:
    admin = running.client("admin")
    wish = {
        "team": "t", "feature": "f", "rights": ["call"], "models": ["m"],
        "expires": "2100-01-01T00:00:00Z",
    }  # fmt: skip
    made = admin.post("/proa/v1/keys", json=wish)
    assert made.status_code == 201
    text, identity = made.json()["key"], made.json()["id"]
    client = running.client_with(text)
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    listed = admin.get("/proa/v1/keys").text
    assert identity in listed
    assert text not in listed
    assert admin.delete(f"/proa/v1/keys/{identity}").json()["revoked"]
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 401
    assert admin.delete("/proa/v1/keys/nobody").json()["error"]["code"] == "unknown_key"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "team = None: expected a string"),
        ({"team": "t", "feature": "f", "rights": ["fly"]}, "rights = fly: expected"),
        ({"team": "t", "feature": "f", "rights": "call"}, "expected a list of strings"),
        ({"team": "t", "feature": "f", "rights": ["call"], "expires": "soon"}, "expires = 'soon'"),
        ({"team": "t", "feature": "f", "rights": ["call"], "admin": True}, "unknown admin"),
    ],
)
def test_bad_wishes_for_keys(running: House, wish: dict[str, Any], message: str) -> None:
    answer = running.client("admin").post("/proa/v1/keys", json=wish)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/proa/v1/calls", "read"),
        ("GET", "/proa/v1/costs", "read"),
        ("GET", "/proa/v1/counts?model=m", "read"),
        ("GET", "/proa/v1/routes", "read"),
        ("GET", "/proa/v1/keys", "admin"),
        ("POST", "/proa/v1/keys", "admin"),
        ("DELETE", "/proa/v1/keys/x", "admin"),
        ("GET", "/v1/models", "call"),
    ],
)
def test_every_page_asks_for_its_right(running: House, method: str, path: str, right: str) -> None:
    others = {"call", "read", "engine", "judge", "internal"} - {right}
    answer = running.client(*others).request(method, path)
    assert answer.status_code == 403
    assert f"lacks the right '{right}'" in answer.json()["error"]["message"]
    assert running.client_with(None).request(method, path).status_code == 401


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("calls?since=today", "since = 'today': expected RFC 3339"),
        ("calls?limit=many", "limit = 'many': expected a whole number"),
        ("calls?limit=0", "limit = 0: expected 1 to 10,000"),
        ("calls?modle=m", "unknown modle: expected since, model"),
        ("costs?by=colour", "by = 'colour': expected one of team"),
        ("counts", "the query lacks model=NAME"),
    ],
)
def test_bad_questions(running: House, query: str, message: str) -> None:
    answer = running.reader.get(f"/proa/v1/{query}")
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_since_takes_any_time_zone(running: House) -> None:
    client = running.client("call")
    client.post("/v2/models/m/infer", json=INFER)
    first = running.calls()[0]["started"]
    client.post("/v2/models/m/infer", json=INFER)
    second = running.calls()[1]
    assert running.calls(since=second["started"]) == [second]
    assert running.calls(since=first.replace("Z", "+00:00"), limit=1)[0]["started"] == first
    assert running.calls(since="2100-01-01T00:00:00+02:00") == []


def test_a_drain_finishes_what_is_under_way(alone: House) -> None:
    assert alone.proc is not None
    answers_got: list[httpx.Response] = []
    key = alone.key("call").text

    def ask() -> None:
        client = alone.client_with(key)
        answers_got.append(client.post("/v2/models/m/infer", json=slow(1200)))

    thread = threading.Thread(target=ask)
    thread.start()
    up = alone.upstreams["predictor"].url

    def arrived() -> bool:
        return bool(httpx.get(f"{up}/seen", trust_env=False).json()["seen"])

    wait_until(arrived)
    alone.proc.terminate()
    wait_until(lambda: not answers(f"{alone.url}/readyz"), 5, every=0.005)
    thread.join()
    assert answers_got[0].status_code == 200
    assert alone.proc.wait(10) == 0
    alone.start()
    assert [call["status"] for call in alone.calls()] == [200]


def test_readyz_says_503_while_draining_and_healthz_stays(house: House) -> None:
    house.extra = ("--linger-seconds", "3")
    house.start()
    assert house.proc is not None
    house.proc.terminate()
    wait_until(lambda: answers(f"{house.url}/readyz", 503), 2, every=0.005)
    assert answers(f"{house.url}/healthz")
    assert answers(f"{house.engine_url}/readyz", 503)
    house.proc.terminate()  # a second signal skips the linger
    assert house.proc.wait(2) == 0


def test_a_taken_port_is_named(running: House) -> None:
    assert running.proc is not None
    argv = ["python", "-m", "proa_gateway", "--port", str(running.port), "--engine-port"]
    argv += [str(free_port()), "--ledger", f"sqlite:///{running.home}/ledger.db", "--spool"]
    argv += [f"{running.home}/spool", "--routes", f"file://{running.home}/routes.json"]
    second = running.processes.start([*argv, "--engines", "file:///none"], ready=None)
    assert second.proc.wait(20) == 5
    assert running.processes.log(second.proc) == (
        f"proa_gateway: the address http://127.0.0.1:{running.port} is already in use "
        "(stop what listens there, or name another port)\n"
    )


def test_a_bad_argument_is_named(house: House) -> None:
    argv = ["python", "-m", "proa_gateway", "--port", "1", "--engine-port", "2", "--spool"]
    argv += [f"{house.home}/s", "--routes", "r.json", "--engines", "e", "--ledger"]
    for ledger, message in (
        ("mysql://x", "the scheme 'mysql': expected sqlite or postgresql"),
        (f"sqlite:///{house.home}/l.db", "--routes = 'r.json': expected file:///absolute/path"),
    ):
        proc = house.processes.start([*argv, ledger], ready=None).proc
        assert proc.wait(20) == 2
        assert message in house.processes.log(proc)


def test_a_full_disk_refuses_answers_instead_of_losing_calls(alone: House) -> None:
    """Faked: the limit on the file's size stands in for a full disk; the error is the kernel's."""
    import resource

    assert alone.proc is not None
    client = alone.client("call")
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    resource.prlimit(alone.proc.pid, resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
    statuses = [client.post("/v2/models/m/infer", json=INFER) for _ in range(3)]
    assert [answer.status_code for answer in statuses][-1] == 503
    assert statuses[-1].json()["error"]["code"] == "spool_unwritable"
    chat = {"model": "python-help", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    content = client.post("/v1/chat/completions", json=chat).content
    assert b"[DONE]" not in content
    assert json.loads(content.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(alone.proc.pid, resource.RLIMIT_FSIZE, unlimited)
    answer = client.post("/v2/models/m/infer", json=INFER)
    assert answer.status_code == 200
    good = [one for one in statuses if one.status_code == 200]
    assert len(alone.calls(model="m")) == 2 + len(good)


def test_costs_and_counts_of_an_idle_gateway_are_empty(house: House) -> None:
    house.start()
    assert house.reader.get("/proa/v1/costs").json() == {"by": "team", "costs": []}
    counts = house.reader.get("/proa/v1/counts?model=m").json()
    assert counts == {"model": "m", "since": None, "purpose": "user", "releases": {}}
    assert CHAMPION not in house.reader.get("/v1/models", headers={}).text
