"""A gateway process on a real Postgres that is late, goes away, freezes and comes back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from proa.http import rights
from proa.ledger.keys import KeyStore, new_key_text
from proa.ledger.migrations import LATEST
from proa.ledger.postgres import Postgres
from tests.postgres import Server
from tests.processes import Processes, answers, free_port, wait_until
from tests.services.gateway.conftest import CHAMPION, House

BODY = {"inputs": [{"name": "x", "data": [1.0]}]}


@dataclass
class ServedHouse(House):
    """A house whose ledger is on Postgres; its keys come in by the migration."""

    server: Server = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.url_of_ledger = self.server.create()
        (self.home / "ledger-url").write_text(self.url_of_ledger + "\n")
        self.keys_folder = self.home / "keys"
        self.keys_folder.mkdir()
        self.texts = {name: new_key_text() for name in rights.PARTS}
        for name, text in self.texts.items():
            (self.keys_folder / f"{name}.key").write_text(text + "\n")
        self.metrics_port = free_port()
        self.extra = ("--metrics-port", str(self.metrics_port))

    def ledger(self) -> list[str]:
        return ["--ledger-file", str(self.home / "ledger-url")]

    def migrate(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "proa_controller.migrate"]
        argv += ["--ledger-file", str(self.home / "ledger-url"), "--keys", str(self.keys_folder)]
        return subprocess.run(
            [*argv, *map(str, more)], capture_output=True, text=True, check=False, timeout=120
        )

    def migrated(self) -> None:
        done = self.migrate()
        assert done.returncode == 0, done.stderr
        self.keys = KeyStore(Postgres(self.url_of_ledger, connections=1))

    def furnished(self) -> None:
        predictor = self.upstream(CHAMPION)
        self.upstreams["predictor"] = predictor
        self.route("m", champion=(CHAMPION, predictor.url, True, 100))
        self.start()

    def infer(self, client: httpx.Client) -> httpx.Response:
        return client.post("/v2/models/m/infer", json=BODY)

    def stored(self) -> int:
        with psycopg.connect(self.url_of_ledger) as connection:
            found = connection.execute("SELECT COUNT(*) FROM proa.calls").fetchone()
        assert found is not None
        return int(found[0])

    def log(self) -> str:
        assert self.proc is not None
        return self.processes.log(self.proc)


@pytest.fixture
def house(processes: Processes, tmp_path: Path, postgres: Server) -> Iterator[ServedHouse]:
    house = ServedHouse(processes, tmp_path, server=postgres)
    yield house
    house.close()


@pytest.fixture
def served(house: ServedHouse) -> ServedHouse:
    """Migrated, started, ready."""
    house.migrated()
    house.furnished()
    return house


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    return answer.status_code, body["error"]["code"] if "error" in body else ""


def test_before_the_migration_it_waits_and_says_for_what(house: ServedHouse) -> None:
    house.upstreams["predictor"] = house.upstream(CHAMPION)
    house.route("m", champion=(CHAMPION, house.upstreams["predictor"].url, True, 100))
    house.write()
    argv = ["python", "-m", "proa_gateway", "--port", "{port}", "--engine-port"]
    argv += [str(house.engine_port), *house.ledger(), "--spool", f"{house.home}/spool"]
    started = house.processes.start([*argv, *house.sources()], port=house.port, ready="/healthz")

    def reason() -> str:
        return httpx.get(f"{house.url}/readyz", trust_env=False).json()["status"]

    wait_until(lambda: f"is at step 0 and {LATEST} is needed" in reason(), 20)
    assert "python -m proa_controller.migrate has not run" in reason()
    early = house.client_with(house.texts["pipelines"])
    assert code_of(house.infer(early)) == (503, "keys_unreachable")
    house.migrated()
    wait_until(lambda: answers(f"{house.url}/readyz"), 20)
    assert house.infer(early).status_code == 200
    assert started.proc.poll() is None


def test_metrics_have_a_port_of_their_own(served: ServedHouse) -> None:
    with httpx.Client(trust_env=False) as client:
        own = client.get(f"http://127.0.0.1:{served.metrics_port}/metrics")
        assert "proa_gateway_spool_backlog_bytes" in own.text
        for url in (served.url, served.engine_url):
            assert client.get(f"{url}/metrics").status_code == 404


def test_an_outage_stops_no_call_and_loses_and_doubles_none(served: ServedHouse) -> None:
    known = served.key("call")
    client = served.client_with(known.text)
    wait_until(lambda: served.infer(client).status_code == 200, 5)
    served.reader.get("/proa/v1/costs")  # a connection that will be cut
    stop, answered, slowest = threading.Event(), [0], [0.0]

    def ask() -> None:
        with httpx.Client(
            base_url=served.url, headers=client.headers, timeout=20, trust_env=False
        ) as own:
            while not stop.is_set():
                begun = time.monotonic()
                assert served.infer(own).status_code == 200
                answered[0] += 1
                slowest[0] = max(slowest[0], time.monotonic() - begun)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        before = answered[0]
        served.server.stop()
        wait_until(lambda: "calls wait in the spool" in served.log(), 20)
        wait_until(lambda: answered[0] > before + 100, 30)
        stranger = served.client_with(new_key_text())
        wait_until(lambda: code_of(served.infer(stranger)) == (503, "keys_unreachable"), 10)
        costs = served.reader.get("/proa/v1/costs")
        assert (costs.status_code, answers(f"{served.url}/readyz")) == (503, True)
        during = answered[0]
        served.server.start()
        wait_until(lambda: answered[0] > during + 20, 30)
    finally:
        stop.set()
        asking.join(30)
        if not _is_up(served.server):
            served.server.start()
    wait_until(lambda: code_of(served.infer(stranger))[0] == 401, 20)
    asked = answered[0] + 1
    wait_until(lambda: served.stored() == asked, 30)
    # keys and calls have a connection each, and each tries again by its own backoff
    wait_until(lambda: served.reader.get("/proa/v1/costs").status_code == 200, 20)
    assert len(served.calls(limit=10_000)) == asked
    assert slowest[0] < 2.0  # nobody waited for the database: its timeouts are longer
    assert "calls wait in the spool" in served.log()
    assert "Traceback" not in served.log()


def test_a_key_revoked_while_it_was_away_is_refused_once_it_is_back(served: ServedHouse) -> None:
    issued = served.key("call")
    client = served.client_with(issued.text)
    wait_until(lambda: served.infer(client).status_code == 200, 5)
    served.server.stop()
    try:
        wait_until(lambda: "known keys work on" in served.log(), 20)
        assert served.infer(client).status_code == 200
    finally:
        served.server.start()
    # another process' connection: ours here still keeps off the server for its backoff
    KeyStore(Postgres(served.url_of_ledger, connections=1)).revoke(issued.key.id)
    wait_until(lambda: served.infer(client).status_code == 401, 10)
    assert "the ledger's keys can be read again" in served.log()


def test_a_server_that_takes_connections_and_answers_nothing_holds_nobody(
    served: ServedHouse,
) -> None:
    client = served.client_with(served.key("call").text)
    wait_until(lambda: served.infer(client).status_code == 200, 5)
    slowest, asked = 0.0, 0
    served.server.freeze()
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            begun = time.monotonic()
            assert served.infer(client).status_code == 200
            slowest, asked = max(slowest, time.monotonic() - begun), asked + 1
            if "calls wait in the spool" in served.log() and "known keys work on" in served.log():
                break
        else:
            raise AssertionError("nobody noticed")
    finally:
        served.server.thaw()
    assert slowest < 2.0
    wait_until(lambda: served.stored() == asked + 1, 40)


def test_killed_while_the_database_is_away_it_starts_again_with_its_spool(
    served: ServedHouse,
) -> None:
    client = served.client_with(served.key("call").text)
    wait_until(lambda: served.infer(client).status_code == 200, 5)
    served.server.stop()
    try:
        for _ in range(30):
            assert served.infer(client).status_code == 200
        assert served.proc is not None
        served.processes.kill(served.proc)
    finally:
        served.server.start()
    served.start()
    wait_until(lambda: served.stored() == 31, 20)


def test_it_ends_well_while_the_database_is_away(served: ServedHouse) -> None:
    client = served.client_with(served.key("call").text)
    wait_until(lambda: served.infer(client).status_code == 200, 5)
    served.server.stop()
    try:
        assert served.infer(client).status_code == 200
        assert served.proc is not None
        assert served.processes.stop(served.proc, 30) == 0
        assert "calls wait in the spool for the next process" in served.log()
    finally:
        served.server.start()
    served.start()
    wait_until(lambda: served.stored() == 2, 20)


def _is_up(server: Server) -> bool:
    try:
        psycopg.connect(server.url(), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
