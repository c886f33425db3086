"""The user door of a real gateway process; what answers behind it is `tests.standins.upstream`."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from proa.http.ids import is_id
from tests.processes import wait_until

from .conftest import ASSISTANT, CHALLENGER, CHAMPION, House

INFER = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0, 2.0]}]}


def chat(orders: dict[str, Any] | str = "hi", **more: Any) -> dict[str, Any]:
    content = orders if isinstance(orders, str) else json.dumps(orders)
    return {"model": "python-help", "messages": [{"role": "user", "content": content}], **more}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    return answer.json()["error"]


def test_both_kinds_answer_and_every_call_is_recorded(running: House) -> None:
    client = running.client("call", team="search", feature="box")
    infer = client.post("/v2/models/m/infer", json=INFER, headers={"x-proa-unit": "UA1"})
    assert infer.status_code == 200
    assert infer.json()["outputs"][0]["shape"] == [2]
    assert infer.headers["x-proa-release"] == CHAMPION
    assert infer.headers["x-proa-track"] == "champion"
    assert is_id(infer.headers["x-proa-request"])
    predict = client.post("/v1/models/m/predict", json={"rows": [{"a": 1}]})
    assert predict.json()["predictions"] == [{"probability": 0.5}]
    talk = client.post("/v1/chat/completions", json=chat({"deltas": 4}, user="alice"))
    assert talk.json()["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "
    assert talk.headers["x-proa-release"] == ASSISTANT
    one, two, three = running.calls()
    assert [call["request"] for call in (one, two, three)] == [
        answer.headers["x-proa-request"] for answer in (infer, predict, talk)
    ]
    assert (one["team"], one["feature"], one["unit"], one["rows"]) == ("search", "box", "UA1", 2)
    assert (one["cost_micro"], one["price"], one["kind"]) == (20, "call:20", "classic")
    assert (two["rows"], two["release"], two["track"]) == (1, CHAMPION, "champion")
    assert (three["tokens_in"], three["tokens_out"], three["user"]) == (7, 4, "alice")
    assert (three["unit"], three["model"], three["complete"]) == ("alice", "python-help", True)
    assert all(call["status"] == 200 and call["latency_ms"] > 0 for call in (one, two, three))


def test_a_service_sees_the_caller_and_nothing_of_the_client(
    running: House, seen: Callable[..., Any]
) -> None:
    client = running.client("call", team="search", feature="box")
    forged = {"x-proa-team": "rich", "x-proa-track": "challenger", "cookie": "c", "x-other": "1"}
    answer = client.post("/v2/models/m/infer", json=INFER, headers=forged)
    got = seen(running.upstreams["predictor"])["seen"][-1]["headers"]
    assert got["x-proa-request"] == answer.headers["x-proa-request"]
    assert (got["x-proa-team"], got["x-proa-feature"]) == ("search", "box")
    assert (got["x-proa-purpose"], got["x-proa-track"]) == ("user", "champion")
    assert not {"authorization", "cookie", "x-other", "accept-encoding"} & got.keys()


def test_bodies_are_forwarded_byte_equal(running: House, seen: Callable[..., Any]) -> None:
    client = running.client("call")
    body = ' { "model" : "python-help", "messages":[{"role":"user","content":"{}"}],"seed":1.50 }'
    client.post("/v1/chat/completions", content=body)
    assert seen(running.upstreams["assistant"])["seen"][-1]["body"] == body


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no key was sent"),
        ("Bearer sk-something", "not of the form proa_"),
        (f"Bearer proa_{'a' * 12}_{'b' * 43}", "key aaaaaaaaaaaa is unknown"),
    ],
)
def test_unknown_keys(running: House, header: str | None, message: str) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = running.client_with(None).post("/v2/models/m/infer", json=INFER, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert message in error_of(answer)["message"]
    assert running.calls() == []


def test_an_expired_and_a_revoked_key(running: House) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    client = running.client("call", expires=soon)
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200

    def refused(client: httpx.Client, why: str) -> bool:
        answer = client.post("/v2/models/m/infer", json=INFER)
        return answer.status_code == 401 and why in error_of(answer)["message"]

    wait_until(lambda: refused(client, "expired at"), 5)
    issued = running.key("call")
    client = running.client_with(issued.text)
    assert client.post("/v2/models/m/infer", json=INFER).status_code == 200
    running.keys.revoke(issued.key.id)
    wait_until(lambda: refused(client, "was revoked at"), 1.5)


def test_a_key_without_the_right_or_for_another_model(running: House) -> None:
    answer = running.client("read").post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, error_of(answer)["code"]) == (403, "right_missing")
    other = running.client("call", models=["other"])
    answer = other.post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, error_of(answer)["code"]) == (403, "model_not_allowed")
    assert other.get("/v1/models").json()["data"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        ("/v1/chat/completions", b"", 400, "invalid_json", "is empty"),
        ("/v1/chat/completions", b"{", 400, "invalid_json", "not valid JSON"),
        ("/v1/chat/completions", b"[]", 400, "invalid_json", "is a JSON array"),
        ("/v1/chat/completions", b'{"a":"\xff"}', 400, "invalid_json", "not valid JSON"),
        ("/v1/chat/completions", b"{}", 400, "wrong_type", "model is missing"),
        ("/v1/chat/completions", b'{"model":7}', 400, "wrong_type", "model = 7"),
        ("/v1/chat/completions", b'{"model":"x"}', 404, "unknown_model", "no model 'x'"),
        ("/v1/chat/completions", b'{"model":"m"}', 400, "wrong_kind", "/v2/models/m/infer"),
        (
            "/v1/chat/completions", b'{"model":"python-help","stream":"yes"}', 400, "wrong_type",
            "stream = yes: expected true or false",
        ),
        (
            "/v1/chat/completions", b'{"model":"python-help","user":{}}', 400, "wrong_type",
            "user = {}: expected a string",
        ),
        (
            "/v1/chat/completions", b'{"model":"python-help","stream":true,"stream_options":1}',
            400, "wrong_type", "stream_options = 1",
        ),
        ("/v2/models/x/infer", b"{}", 404, "unknown_model", "the models are: m, python-help"),
        ("/v2/models/python-help/infer", b"{}", 400, "wrong_kind", "/v1/chat/completions"),
        ("/v1/models/%0d%0a/predict", b"{}", 404, "unknown_model", "no model"),
        ("/v2/models/a%2Fb/infer", b"{}", 404, "unknown_path", "no such path"),
        ("/nowhere", b"{}", 404, "unknown_path", "POST /nowhere: there is no such path"),
    ],
)  # fmt: skip
def test_bad_input_is_told_apart(
    running: House, path: str, body: bytes, status: int, code: str, message: str
) -> None:
    answer = running.client("call").post(path, content=body)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (status, code), error
    assert message in error["message"]
    if code != "unknown_path":
        (call,) = running.calls()
        assert (call["status"], call["error"], call["complete"]) == (status, code, True)
        assert call["request"] == error["request"] == answer.headers["x-proa-request"]


def test_a_wrong_method(running: House) -> None:
    answer = running.client("call").get("/v1/chat/completions")
    assert (answer.status_code, error_of(answer)["code"]) == (405, "wrong_method")


def test_a_one_megabyte_prompt_passes_and_a_larger_body_is_refused(running: House) -> None:
    client = running.client("call")
    assert client.post("/v1/chat/completions", json=chat("x" * 1_000_000)).status_code == 200
    answer = client.post("/v1/chat/completions", json=chat("x" * (1 << 20)))
    assert (answer.status_code, error_of(answer)["code"]) == (413, "body_too_large")
    assert "at most 1,048,576 are allowed" in error_of(answer)["message"]

    def parts() -> Any:
        for _ in range(20):
            yield b"x" * 65536

    answer = client.post("/v1/chat/completions", content=parts())
    assert (answer.status_code, error_of(answer)["code"]) == (413, "body_too_large")
    assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    answer = client.post("/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
    assert "without compression" in error_of(answer)["message"]


def raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR) if not request.endswith(b"\r\n") else None
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("size", [33 << 10, 200 << 10])
def test_headers_have_a_limit(running: House, size: int) -> None:
    client = running.client("call")
    answer = client.get("/v1/models", headers={"x-large": "x" * size})
    assert (answer.status_code, error_of(answer)["code"]) == (431, "headers_too_large")
    assert client.get("/v1/models", headers={"x-large": "x" * (30 << 10)}).status_code == 200


def test_headers_without_end_are_cut_off(running: House) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: h\r\n")
        answer = b""
        try:
            for number in range(1000):
                sock.sendall(b"x-%d: %b\r\n" % (number, b"y" * 1000))
            answer = sock.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert running.client("call").get("/v1/models").status_code == 200


def test_what_is_not_http_is_told_so(running: House) -> None:
    answer = raw(running.port, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"this is not HTTP/1.1" in answer


def test_models_are_listed_as_openai_does(running: House) -> None:
    listed = running.client("call").get("/v1/models").json()
    assert listed["object"] == "list"
    assert [(one["id"], one["object"], one["kind"]) for one in listed["data"]] == [
        ("m", "model", "classic"),
        ("python-help", "model", "llm"),
    ]
    assert listed["data"][0]["releases"] == {"champion": CHAMPION}


def two_tracks(house: House, weight: int, *, unit: str | None = None) -> None:
    one, two = house.upstream(CHAMPION), house.upstream(CHALLENGER)
    house.upstreams.update(champion=one, challenger=two)
    house.route(
        "m",
        unit=unit,
        champion=(CHAMPION, one.url, True, 100 - weight),
        challenger=(CHALLENGER, two.url, True, weight),
    )
    house.start()


def test_a_unit_sticks_to_its_track_and_weights_hold(house: House) -> None:
    two_tracks(house, 30)
    client = house.client("call")

    def track(unit: str) -> str:
        answer = client.post("/v2/models/m/infer", json=INFER, headers={"x-proa-unit": unit})
        assert answer.headers["x-proa-release"] == (
            CHALLENGER if answer.headers["x-proa-track"] == "challenger" else CHAMPION
        )
        return answer.headers["x-proa-track"]

    first = {f"unit-{n}": track(f"unit-{n}") for n in range(100)}
    assert {f"unit-{n}": track(f"unit-{n}") for n in range(100)} == first
    assert 12 <= list(first.values()).count("challenger") <= 50
    counts = house.reader.get("/proa/v1/counts", params={"model": "m"}).json()["releases"]
    assert {release: count["calls"] for release, count in counts.items()} == {
        release: 2 * list(first.values()).count(name)
        for name, release in (("champion", CHAMPION), ("challenger", CHALLENGER))
    }
    assert sum(count["units"] for count in counts.values()) == 100


def test_the_unit_is_found_in_the_body_when_the_route_names_its_column(house: House) -> None:
    two_tracks(house, 50, unit="flight")
    client = house.client("call")
    for name in ("UA1", "UA2"):
        body = {"inputs": [{"name": "flight", "datatype": "BYTES", "shape": [1], "data": [name]}]}
        client.post("/v2/models/m/infer", json=body)
        client.post("/v1/models/m/predict", json={"entities": [{"flight": name}]})
        client.post("/v2/models/m/infer", json=body, headers={"x-proa-unit": "mine"})
    calls = house.calls()
    assert [call["unit"] for call in calls] == ["UA1", "UA1", "mine", "UA2", "UA2", "mine"]
    assert len({call["track"] for call in calls if call["unit"] == "UA1"}) == 1
    answer = client.post("/v2/models/m/infer", content=b"{")
    assert error_of(answer)["code"] == "invalid_json"


def test_a_judge_pins_a_track_and_exam_traffic_is_kept_apart(house: House) -> None:
    two_tracks(house, 0)
    pin = {"x-proa-track": "challenger", "x-proa-purpose": "gate"}
    judge = house.client("call", "judge")
    answer = judge.post("/v2/models/m/infer", json=INFER, headers=pin)
    assert answer.headers["x-proa-release"] == CHALLENGER
    answer = house.client("call").post("/v2/models/m/infer", json=INFER, headers=pin)
    assert answer.headers["x-proa-release"] == CHAMPION
    ask = house.reader.get
    assert set(ask("/proa/v1/counts?model=m").json()["releases"]) == {CHAMPION}
    gate = ask("/proa/v1/counts?model=m&purpose=gate").json()["releases"]
    assert set(gate) == {CHALLENGER}
    assert [cost["calls"] for cost in ask("/proa/v1/costs?by=team").json()["costs"]] == [1]
    answer = judge.post("/v2/models/m/infer", json=INFER, headers={"x-proa-track": "blue"})
    assert (answer.status_code, error_of(answer)["code"]) == (404, "unknown_track")
    answer = judge.post("/v2/models/m/infer", json=INFER, headers={"x-proa-purpose": "fun"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "x-proa-purpose")


def test_event_time_passes_for_a_replay_only(running: House, seen: Callable[..., Any]) -> None:
    moment = {"x-proa-event-time": "2013-04-01T00:00:00Z"}
    for rights, expected in ((["call"], None), (["call", "replay"], "2013-04-01T00:00:00.000000Z")):
        running.client(*rights).post("/v2/models/m/infer", json=INFER, headers=moment)
        got = seen(running.upstreams["predictor"])["seen"][-1]["headers"]
        assert got.get("x-proa-event-time") == expected


def test_routes_are_followed_within_a_moment_and_a_bad_file_changes_nothing(house: House) -> None:
    two_tracks(house, 0)
    client, ask = house.client("call"), house.reader.get
    assert ask("/proa/v1/routes").json() == {"generation": 1, "error": None}
    (house.home / "routes.json").write_text('{"schema_version": 1')
    wait_until(lambda: ask("/proa/v1/routes").json()["error"], 5)
    assert ask("/proa/v1/routes").json()["generation"] == 1
    assert client.post("/v2/models/m/infer", json=INFER).headers["x-proa-release"] == CHAMPION
    house.models["m"]["tracks"]["champion"]["weight"] = 0
    house.models["m"]["tracks"]["challenger"]["weight"] = 100
    assert house.write() == 2
    wait_until(lambda: ask("/proa/v1/routes").json() == {"generation": 2, "error": None}, 5)
    assert client.post("/v2/models/m/infer", json=INFER).headers["x-proa-release"] == CHALLENGER
    house.models["m"]["tracks"]["challenger"]["ready"] = False
    house.models["m"]["tracks"]["champion"]["ready"] = False
    house.write()
    wait_until(lambda: ask("/proa/v1/routes").json()["generation"] == 3, 5)
    answer = client.post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready")
    house.models["m"]["tracks"] = {}
    house.write()
    wait_until(lambda: ask("/proa/v1/routes").json()["generation"] == 4, 5)
    answer = client.post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "no_release")


def test_a_gateway_starts_before_there_are_routes(house: House) -> None:
    house.write = lambda: 0  # type: ignore[method-assign]  # nothing is written
    house.start()
    answer = house.client("call").post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "unknown_model")
    assert "the models are: none yet" in error_of(answer)["message"]


def test_an_upstream_s_own_error_passes_and_is_named_in_the_ledger(running: House) -> None:
    client = running.client("call")
    answer = client.post(
        "/v2/models/m/infer", json={**INFER, "parameters": {"standin": {"status": 422}}}
    )
    assert (answer.status_code, error_of(answer)["code"]) == (422, "standin_says_no")
    answer = client.post("/v1/chat/completions", json=chat({"status": 500}))
    assert (answer.status_code, answer.headers["x-proa-release"]) == (500, ASSISTANT)
    one, two = running.calls()
    assert (one["status"], one["error"], one["cost_micro"]) == (422, "standin_says_no", 0)
    assert (two["status"], two["error"]) == (500, "standin_says_no")


def test_an_upstream_that_is_down_or_dies_is_unavailable_and_counted(alone: House) -> None:
    client = alone.client("call")
    answer = client.post(
        "/v2/models/m/infer", json={**INFER, "parameters": {"standin": {"die_after": 0}}}
    )
    assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_lost")
    assert answer.headers["retry-after"] == "1"
    answer = client.post("/v2/models/m/infer", json=INFER)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_down")
    message = error_of(answer)["message"]
    assert message == f"the champion of 'm', {CHAMPION}, cannot be reached"
    counts = alone.reader.get("/proa/v1/counts?model=m").json()["releases"][CHAMPION]
    assert (counts["calls"], counts["errors"], counts["latency_ms"]) == (2, 2, None)


def test_an_upstream_that_is_late_is_given_up(house: House) -> None:
    house.extra = ("--timeout-seconds", "0.3")
    up = house.upstream(CHAMPION)
    house.route("m", champion=(CHAMPION, up.url, True, 1))
    house.start()
    slow = {**INFER, "parameters": {"standin": {"wait_ms": 3000}}}
    answer = house.client("call").post("/v2/models/m/infer", json=slow)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_late")
    assert "did not answer within 0.3 s" in error_of(answer)["message"]


def test_metrics_name_releases_and_no_client_text(alone: House) -> None:
    client = alone.client("call")
    client.post("/v2/models/m/infer", json=INFER)
    client.post("/v2/models/my-secret-model/infer", json=INFER)
    alone.client_with(None).post("/v2/models/m/infer", json=INFER)
    text = httpx.get(f"{alone.url}/metrics", trust_env=False).text
    assert (
        'proa_gateway_calls_total{door="user",model="m",release="m/1",status="200",'
        'track="champion"} 1.0' in text
    )
    assert 'proa_gateway_refused_total{code="unauthenticated",door="user"} 1.0' in text
    assert "proa_gateway_routes_generation 1.0" in text
    assert "my-secret-model" not in text
