"""Events: every request becomes one at a real monitor, whatever happens to it meanwhile."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from proa.http.ids import new_id
from proa.ledger.keys import KeyStore
from tests.classic_release import Built, infer_body
from tests.processes import Processes, Started, free_port, wait_until

INFER = "/v2/models/flight-delay/infer"
HEADERS = {
    "x-proa-track": "challenger",
    "x-proa-purpose": "gate",
    "x-proa-team": "operations",
    "x-proa-feature": "board",
    "x-proa-unit": "caf%C3%A9",
    "x-proa-event-time": "2013-04-01T12:00:00Z",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


class Watched:
    """A monitor's folder, keys and address, and the predictor that reports to it."""

    def __init__(self, processes: Processes, flight: Built, home: Path) -> None:
        self.processes, self.flight, self.home = processes, flight, home
        store = KeyStore(home / "ledger.db")
        rights = {"key": ["events", "internal"], "read": ["read"]}
        self.keys = {
            name: store.create(team="t", feature="f", rights=given).text
            for name, given in rights.items()
        }
        store.close()
        (home / "key").write_text(self.keys["key"])
        self.port = free_port()

    def monitor(self) -> Started:
        argv = ["python", "-m", "proa_monitor", "--port", "{port}"]
        argv += ["--events", str(self.home / "events"), "--reports", str(self.home / "reports")]
        argv += ["--bundles", f"file://{self.flight.store.blobs.root}"]
        argv += ["--ledger", f"sqlite:///{self.home / 'ledger.db'}"]
        return self.processes.start(argv, port=self.port, deadline=60)

    def predictor(self, *settings: str) -> Started:
        more = [
            *settings,
            "--monitor",
            f"http://127.0.0.1:{self.port}",
            "--key-file",
            str(self.home / "key"),
        ]
        return self.processes.start(self.flight.argv(self.home / "work", *more), deadline=60)

    def known(self) -> set[str]:
        """Requests the monitor has events for."""
        url = f"http://127.0.0.1:{self.port}/v1/requests"
        asked = {"since": "2013-01-01T00:00:00Z", "model": "flight-delay"}
        headers = {"authorization": f"Bearer {self.keys['read']}"}
        answer = httpx.get(url, params=asked, headers=headers)
        answer.raise_for_status()
        return set(answer.json()["requests"])

    def lines(self) -> list[dict[str, Any]]:
        """Events that the monitor has on disk, before they are compacted."""
        text = "".join(
            path.read_text() for path in (self.home / "events").rglob("*.jsonl") if path.is_file()
        )
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def watched(processes: Processes, flight: Built, tmp_path: Path) -> Watched:
    return Watched(processes, flight, tmp_path)


def counters(url: str) -> dict[str, int]:
    text = httpx.get(f"{url}/metrics").text
    names = {line.split()[0]: line.split()[1] for line in text.splitlines() if line[0] != "#"}
    return {
        name: int(float(names[f"proa_predictor_events_{name}_total"]))
        for name in ("sent", "dropped", "rejected")
    }


def test_every_request_has_one_event_and_failures_too(watched: Watched) -> None:
    watched.monitor()
    _, url = watched.predictor("--reasons-share", "1")
    rows = watched.flight.rows(40)
    requests = [new_id() for _ in range(40)]

    def ask(number: int) -> int:
        headers = {**HEADERS, "x-proa-request": requests[number]}
        body: Any = infer_body(rows[number : number + 1], parameters={"explain": number == 3})
        if number == 5:
            body = {}
        return httpx.post(url + INFER, json=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(40)))
    assert statuses == [400 if number == 5 else 200 for number in range(40)]
    wait_until(lambda: watched.known() == set(requests), 20, what="all events")
    wait_until(lambda: counters(url)["sent"] == 40, 10, what="the emitter knows")
    assert counters(url) == {"sent": 40, "dropped": 0, "rejected": 0}
    lines = watched.lines()
    event = next(line for line in lines if line["request"] == requests[3])
    assert event["release"] == str(watched.flight.ref)
    assert (event["track"], event["purpose"], event["team"]) == ("challenger", "gate", "operations")
    assert (event["feature"], event["unit"]) == ("board", "café")
    assert event["trace"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert event["time"] == "2013-04-01T12:00:00.000000Z"
    assert (event["rows"], event["status"]) == (1, 200)
    assert event["inputs"] == {name: [value] for name, value in rows[3].items()}
    assert set(event["outputs"]) == {"probability", "label"}
    assert event["reasons"][0][0]["feature"] in rows[3]
    failed = next(line for line in lines if line["request"] == requests[5])
    assert (failed["rows"], failed["status"], failed["inputs"]) == (0, 400, {})
    # a user's answer: its reasons are kept unasked; what is protected goes to the event alone
    body = infer_body(rows[:2], parameters={"attributes": {"sex": ["f", None]}})
    answer = httpx.post(url + INFER, json=body, timeout=60)
    assert [one["name"] for one in answer.json()["outputs"]] == ["probability", "label"]
    kept = wait_until(lambda: watched.lines()[40:], 60, what="the event")[0]
    assert kept["attributes"] == {"sex": ["f", None]}
    assert "sex" not in kept["inputs"]
    assert [row[0]["feature"] in kept["inputs"] for row in kept["reasons"]] == [True, True]


def test_a_monitor_that_is_down_holds_nothing_up_and_loses_nothing(watched: Watched) -> None:
    """The predictor starts first, answers, and its events arrive when the monitor comes."""
    _, url = watched.predictor()
    requests = {new_id() for _ in range(20)}
    for request in requests:
        headers = {"x-proa-request": request}
        answer = httpx.post(url + INFER, json=infer_body(watched.flight.rows(1)), headers=headers)
        assert answer.status_code == 200
    watched.monitor()
    wait_until(lambda: watched.known() == requests, 30, what="the events of before")


def test_a_drain_sends_what_is_queued(watched: Watched) -> None:
    watched.monitor()
    started = watched.predictor()
    request = new_id()
    body = infer_body(watched.flight.rows(1))
    httpx.post(started.url + INFER, json=body, headers={"x-proa-request": request})
    assert watched.processes.stop(started.proc) == 0
    assert watched.known() == {request}
