"""What a canary stands on: units that stay, counts that are exact or missing, copies for a shadow.

The gateways are real processes; the releases behind them are `tests.standins.upstream`, which say
of their answers (`x-proa-facts`) what a test needs.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from proa.http.clock import WallClock, rfc3339
from proa.ledger.tally import Tally, parse_tally
from proa.release.reference import ReleaseRef
from proa_controller.gateways import Gateways
from tests.processes import Processes, Started, answers, wait_until

from .conftest import CHALLENGER, CHAMPION, House

REQUESTS = 10_000
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
).encode()


def canary(house: House, weight: int, *, shadow: bool = False, unit: str | None = None) -> None:
    """Champion and challenger of `m`, the one deciding 1 and the other 0."""
    up = house.upstreams
    if "champion" not in up:
        up["champion"] = house.upstream(CHAMPION, "--facts", '1;1;{"2":1}', ready=None)
        up["challenger"] = house.upstream(CHALLENGER, "--facts", '1;0;{"-4":1}', ready=None)
        for name in ("champion", "challenger"):
            wait_until(lambda url=up[name].url: answers(f"{url}/readyz"), 30)
    route(house, weight, shadow=shadow, unit=unit)
    if house.proc is None:
        house.start()
    house.since = rfc3339(WallClock().now())  # a step begins once there is a ledger


def route(house: House, weight: int, *, shadow: bool = False, unit: str | None = None) -> None:
    up = house.upstreams
    challenger = (CHALLENGER, up["challenger"].url, True, weight, shadow)
    house.route("m", unit=unit, champion=(CHAMPION, up["champion"].url, True, 100 - weight),
                challenger=challenger)  # fmt: skip
    generation = house.write()
    if house.proc is not None:
        wait_until(lambda: loaded(house) == generation, 10)


def loaded(house: House) -> int:
    return int(house.reader.get("/proa/v1/routes").json()["generation"])


def second_gateway(house: House, processes: Processes, folder: Path) -> Started:
    """Another process with the same routes, keys and ledger."""
    from tests.processes import free_port

    argv = ["python", "-m", "proa_gateway", "--port", "{port}", "--engine-port", str(free_port())]
    argv += ["--ledger", f"sqlite:///{house.home}/ledger.db", "--spool", f"{folder}/spool-2"]
    argv += ["--routes", f"file://{house.home}/routes.json"]
    argv += ["--engines", f"file://{house.home}/platform.json"]
    return processes.start(argv)


def ask(url: str, key: str, units: list[str], header: str = "x-proa-unit") -> list[str]:
    """One call per unit; the track that answered each."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as client:
        answers = [
            client.post("/v2/models/m/infer", content=BODY, headers={header: unit})
            for unit in units
        ]
        return [answer.headers["x-proa-track"] for answer in answers]


def ask_at_once(
    url: str, key: str, units: list[str], header: str = "x-proa-unit"
) -> dict[str, str]:
    """The same over 16 connections; the track of each unit."""
    tracks: dict[str, str] = {}

    async def worker(session: aiohttp.ClientSession, mine: list[str]) -> None:
        for unit in mine:
            async with session.post("/v2/models/m/infer", data=BODY, headers={header: unit}) as got:
                tracks[unit] = got.headers["x-proa-track"]

    async def main() -> None:
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(url, headers=headers) as session:
            await asyncio.gather(*(worker(session, units[start::16]) for start in range(16)))

    asyncio.run(main())
    return tracks


def gateways(house: House, *urls: str) -> Gateways:
    clients = []
    for url in urls or (house.url,):
        client = house.client("read")
        client.base_url = url
        clients.append(client)
    return Gateways(clients)


def tally(house: House, release: str, **query: Any) -> Tally:
    found = gateways(house).tallies("m", house.since, **query)
    assert found is not None
    return found.get(ReleaseRef.parse(release), Tally())


def test_ten_percent_of_the_units_and_they_stay(
    house: House, processes: Processes, tmp_path: Path
) -> None:
    canary(house, 10)
    other = second_gateway(house, processes, tmp_path)
    key, another = house.key("call").text, house.key("call", team="other").text
    units = [f"unit-{number}" for number in range(REQUESTS)]
    ten = ask_at_once(house.url, key, units)
    inside = {unit for unit, track in ten.items() if track == "challenger"}
    assert len(inside) / REQUESTS == pytest.approx(0.10, abs=0.01)
    # The other gateway and another key say the same of every unit.
    some = [*sorted(inside)[:200], *units[:200]]
    assert ask_at_once(other.url, another, some) == {unit: ten[unit] for unit in some}
    # Who is in at 10 % is in at 50 %.
    route(house, 50)
    half = ask_at_once(house.url, key, some)
    assert {unit for unit in some if half[unit] == "champion"}.isdisjoint(inside)
    # Both processes wrote into one ledger: every gateway tells all of it, once.
    both = gateways(house, house.url, other.url).tallies("m", house.since)
    assert both is not None
    assert sum(one.calls for one in both.values()) == REQUESTS + 2 * len(some)
    assert sum(one.units for one in both.values()) >= REQUESTS


@pytest.mark.parametrize("header", ["x-proa-unit", "x-proa-user", "x-proa-conversation"])
def test_who_is_served_decides_never_the_key(house: House, header: str) -> None:
    canary(house, 50)
    units = [f"u{number}" for number in range(40)]
    keys = [house.key("call").text for _ in range(2)]
    first = ask_at_once(house.url, keys[0], units, header=header)
    assert first == ask_at_once(house.url, keys[1], units, header=header)
    assert set(first.values()) == {"champion", "challenger"}  # one key, both tracks


def test_the_entity_comes_before_the_user(house: House) -> None:
    canary(house, 50, unit="flight")
    client = house.client("call")
    for flight in ("UA1", "UA2", "UA3", "DL4", "DL5", "DL6"):
        tracks = {
            client.post(
                "/v1/models/m/predict",
                json={"rows": [{"flight": flight}]},
                headers={"x-proa-user": f"user-{number}"},
            ).headers["x-proa-track"]
            for number in range(8)
        }
        assert len(tracks) == 1
    assert {call["unit"] for call in house.calls()} == {"UA1", "UA2", "UA3", "DL4", "DL5", "DL6"}


def test_tallies_are_exact_and_survive_kill_9(house: House) -> None:
    canary(house, 50)
    key = house.key("call").text
    units = [f"u{number}" for number in range(60)] * 3
    tracks = ask(house.url, key, units)
    bad = house.client_with(key)
    body = {"inputs": [{"name": "x", "data": [1.0]}], "parameters": {"standin": {"status": 500}}}
    for _ in range(4):
        headers = {"x-proa-unit": "u0"}
        assert bad.post("/v2/models/m/infer", json=body, headers=headers).status_code == 500
    before = {release: tally(house, release) for release in (CHAMPION, CHALLENGER)}
    assert house.proc is not None
    house.processes.kill(house.proc)
    asked = gateways(house)
    assert asked.tallies("m", house.since) is None  # missing, not small
    house.start()
    for release, track in ((CHAMPION, "champion"), (CHALLENGER, "challenger")):
        found = tally(house, release)
        assert found == before[release]
        served = [unit for unit, where in zip(units, tracks, strict=True) if where == track]
        errors = 4 if tracks[0] == track else 0
        assert (found.calls, found.units) == (len(served) + errors, len(set(served)))
        assert found.of("errors").total == errors
        assert sum(found.latency.values()) == len(served)
        assert found.predictions == {2 if track == "champion" else -4: len(served)}
        assert found.of("errors").size_squares == sum(
            (3 + (errors if unit == "u0" else 0)) ** 2 for unit in set(served)
        )


def test_a_ledger_younger_than_the_step_is_missing(house: House) -> None:
    canary(house, 50)
    early = house.since
    assert gateways(house).tallies("m", rfc3339(WallClock().now())) == {}
    late = gateways(house).tallies("m", "2020-01-01T00:00:00.000000Z", until=early)
    assert late == {}  # a baseline may reach back to before there was a ledger
    assert gateways(house).tallies("m", "2020-01-01T00:00:00.000000Z") is None


def test_a_language_answer_says_how_it_ended(running: House) -> None:
    last = (
        '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9},'
        '"proa":{"refused":true,"guard":[{"rule":"r"}]}}'
    )
    frames = [
        'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n',
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n',
        f"data: {last}\n\n",
        "data: [DONE]\n\n",
    ]
    client = running.client("call")
    for orders in ({"raw": frames}, {"deltas": 2}):
        message = {"role": "user", "content": json.dumps(orders)}
        body = {"model": "python-help", "stream": True, "messages": [message]}
        answer = client.post("/v1/chat/completions", json=body, headers={"x-proa-user": "ann"})
        assert answer.text.endswith("data: [DONE]\n\n")
    one, two = running.calls()
    assert (one["finish_reason"], one["refused"], one["guard_hits"]) == ("length", True, 1)
    assert (two["finish_reason"], two["refused"], two["user"]) == ("stop", None, "ann")
    wire = running.reader.get(
        "/proa/v1/tallies", params={"model": "python-help", "since": running.since}
    ).json()
    (found,) = [parse_tally(one) for one in wire["releases"].values()]
    assert (found.calls, found.units) == (2, 1)
    assert found.of("length_stops").mean == 0.5
    assert (found.of("refusals").calls, found.of("guard_hits").total) == (1, 1)
    assert found.of("tokens_out").total == 11


def test_a_shadow_answers_copies_that_serve_nobody(house: House, seen: Any) -> None:
    canary(house, 0, shadow=True)
    key = house.key("call", team="search")
    tracks = ask(house.url, key.text, [f"u{number % 10}" for number in range(30)])
    assert set(tracks) == {"champion"}
    wait_until(lambda: tally(house, CHALLENGER, purpose="shadow").calls == 30, 20)
    shadow = tally(house, CHALLENGER, purpose="shadow")
    assert (shadow.units, shadow.predictions) == (10, {-4: 30})
    assert (shadow.of("agreed").calls, shadow.of("agreed").mean) == (30, 0.0)  # it decides 0, not 1
    assert tally(house, CHALLENGER).calls == 0
    users = {call["request"] for call in house.calls() if call["purpose"] == "user"}
    copies = [call for call in house.calls() if call["purpose"] == "shadow"]
    assert {call["parent"] for call in copies} == users
    assert {call["cost_micro"] for call in copies} == {0}
    got = [one["headers"] for one in seen(house.upstreams["challenger"])["seen"]]
    assert {one["x-proa-request"] for one in got} == users  # events meet by the user's request id
    assert {one["x-proa-purpose"] for one in got} == {"shadow"}
    bill = house.reader.get("/proa/v1/costs", params={"by": "team"}).json()["costs"]
    assert [(line["key"], line["calls"]) for line in bill] == [("search", 30)]


def test_a_shadow_that_hangs_holds_nobody_up(house: House, processes: Processes) -> None:
    canary(house, 0)
    slow = house.upstream(CHALLENGER, "--delay-ms", "60000", ready="/readyz")
    house.upstreams["challenger"] = slow
    route(house, 0, shadow=True)
    key = house.key("call").text
    tracks = ask_at_once(house.url, key, [f"u{number}" for number in range(1200)])
    assert set(tracks.values()) == {"champion"}
    wire = house.reader.get("/proa/v1/tallies", params={"model": "m", "since": house.since}).json()
    assert wire["releases"][CHAMPION]["calls"] == 1200
    # 4 on their way, 1,000 wait, the rest was counted and forgotten.
    assert wire["shadows_dropped"] == 1200 - 1004
    processes.kill(slow.proc)
