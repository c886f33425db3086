"""A real gateway process in front of stand-in upstreams."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from proa.http.clock import WallClock, rfc3339
from proa.ledger.keys import IssuedKey, KeyStore
from tests.processes import Processes, Started, answers, free_port, wait_until

DIGEST = "sha256:" + "ab" * 32
CHAMPION = f"m/1@{DIGEST}"
CHALLENGER = f"m/2@{DIGEST}"
ASSISTANT = f"python-help/3@{DIGEST}"
ENGINE = "smollm2-0123abcd"


@dataclass
class House:
    """A gateway's home, its process, and clients with keys of all sorts."""

    processes: Processes
    home: Path
    port: int = field(default_factory=free_port)
    engine_port: int = field(default_factory=free_port)
    proc: subprocess.Popen[bytes] | None = None
    extra: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    upstreams: dict[str, Started] = field(default_factory=dict)
    _clients: list[httpx.Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since = rfc3339(WallClock().now())
        self.keys = KeyStore(self.home / "ledger.db")
        self.models: dict[str, Any] = {}
        self.engines: dict[str, Any] = {}
        self.generation = 0
        self.url = f"http://127.0.0.1:{self.port}"
        self.engine_url = f"http://127.0.0.1:{self.engine_port}"

    def start(self) -> None:
        self.write()
        argv = ["python", "-m", "proa_gateway", "--port", "{port}", "--engine-port"]
        argv += [str(self.engine_port), *self.ledger()]
        argv += ["--spool", f"{self.home}/spool", "--linger-seconds", "0.1", *self.sources()]
        self.proc = self.processes.start([*argv, *self.extra], self.env, port=self.port).proc

    def ledger(self) -> list[str]:
        """Which ledger the gateway uses."""
        return ["--ledger", f"sqlite:///{self.home}/ledger.db"]

    def sources(self) -> list[str]:
        """Where the gateway finds routes and engines."""
        files = {"--routes": "routes.json", "--engines": "platform.json"}
        return [
            part for flag, name in files.items() for part in (flag, f"file://{self.home}/{name}")
        ]

    def upstream(self, release: str = "", *more: str, ready: str | None = "/readyz") -> Started:
        argv = ["python", "-m", "tests.standins.upstream", "--port", "{port}"]
        return self.processes.start([*argv, "--release", release, *more], ready=ready)

    def route(
        self, name: str, kind: str = "classic", unit: str | None = None, **tracks: Any
    ) -> None:
        names = ("release", "url", "ready", "weight", "shadow")
        spec = {track: dict(zip(names, values, strict=False)) for track, values in tracks.items()}
        self.models[name] = {"kind": kind, "unit": unit, "tracks": spec}

    def engine(self, url: str, **more: Any) -> None:
        prices = {"input_per_million_micro": 1_000_000, "output_per_million_micro": 2_000_000}
        self.engines[ENGINE] = {"url": url, "key_file": None, "prices": prices, **more}

    def write(self) -> int:
        """Write routes and engines atomically; returns the new generation."""
        self.generation += 1
        routes = {"schema_version": 1, "generation": self.generation, "models": self.models}
        platform = {
            "engines": self.engines,
            "prices": {"classic_call_micro": 20},
            "currency": "USD",
            "urls": {"someone": "else's section"},
        }
        for name, value in (("routes.json", routes), ("platform.json", platform)):
            fresh = self.home / f"{name}.tmp"
            fresh.write_text(json.dumps(value))
            fresh.replace(self.home / name)
        return self.generation

    def key(self, *rights: str, **more: Any) -> IssuedKey:
        return self.keys.create(
            **{"team": "team-a", "feature": "feature-a", "rights": rights, **more}
        )

    def client(self, *rights: str, door: str = "user", **more: Any) -> httpx.Client:
        """A client with a new key that has these rights."""
        return self.client_with(self.key(*rights, **more).text, door=door)

    def client_with(self, key: str | None, *, door: str = "user") -> httpx.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        url = self.url if door == "user" else self.engine_url
        client = httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False)
        self._clients.append(client)
        return client

    def calls(self, **query: Any) -> list[dict[str, Any]]:
        """The calls of this test, unless `since` is given."""
        query = {"since": self.since, **query}
        answer = self.reader.get("/proa/v1/calls", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["calls"]

    @property
    def reader(self) -> httpx.Client:
        if not hasattr(self, "_reader"):
            self._reader = self.client("read", team="platform", feature="controller")
        return self._reader

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.keys.close()


@pytest.fixture
def house(processes: Processes, tmp_path: Path) -> Iterator[House]:
    """Nothing started yet."""
    house = House(processes, tmp_path)
    yield house
    house.close()


def furnish(house: House) -> House:
    """A classic model `m`, an llm `python-help` and an engine, a stand-in each, and a gateway."""
    up = house.upstreams
    up["predictor"] = house.upstream(CHAMPION, ready=None)
    up["assistant"] = house.upstream(ASSISTANT, ready=None)
    up["engine"] = house.upstream("", "--model", ENGINE, ready=None)
    house.route("m", champion=(CHAMPION, up["predictor"].url, True, 100))
    house.route("python-help", "llm", champion=(ASSISTANT, up["assistant"].url, True, 100))
    house.engine(up["engine"].url)
    house.start()
    for started in up.values():
        wait_until(lambda url=started.url: answers(f"{url}/readyz"), 30)
    return house


@pytest.fixture
def alone(house: House) -> House:
    """A furnished house of this test's own: it may kill what it likes."""
    return furnish(house)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("shared")
    processes = Processes(folder)
    house = House(processes, folder)
    try:
        yield furnish(house)
    finally:
        house.close()
        processes.close()


@pytest.fixture
def running(shared: House) -> House:
    """A furnished house that this module's tests share: only their own calls are shown."""
    shared.since = rfc3339(WallClock().now())
    return shared


@pytest.fixture
def seen() -> Callable[[Started], dict[str, Any]]:
    """What an upstream saw."""

    def ask(upstream: Started) -> dict[str, Any]:
        return httpx.get(f"{upstream.url}/seen", trust_env=False).json()

    return ask
