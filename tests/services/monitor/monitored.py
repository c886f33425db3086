"""A real monitor over loopback, with a bundle store that holds one release of each kind."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from proa.events.event import answer_event, prediction_event
from proa.http.ids import new_id
from proa.ledger.keys import KeyStore
from proa.profile import reference
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import check_manifest
from tests.processes import Processes, wait_until

DAYS = 25
ROWS_PER_DAY = 150
CARRIERS = ("UA", "DL", "AA", "B6")
DIGEST = "sha256:" + "00" * 32


def flights(pick: random.Random, rows: int, *, shift: float = 0.0) -> dict[str, list[Any]]:
    """Columns as the flight model's: wind (moved by `shift`), hour, carrier."""
    return {
        "wind": [pick.gauss(10 + shift, 3) if pick.random() > 0.02 else None for _ in range(rows)],
        "hour": [pick.randrange(5, 23) for _ in range(rows)],
        "carrier": [pick.choices(CARRIERS, (4, 3, 2, 1))[0] for _ in range(rows)],
    }


def outputs(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A made-up model: later and windier is worse."""
    probability = [
        min(1.0, hour / 40 + (wind or 10.0) / 50)
        for hour, wind in zip(columns["hour"], columns["wind"], strict=True)
    ]
    return {"probability": probability, "label": [p > 0.6 for p in probability]}


@dataclass
class Home:
    """Folders and keys of a monitor."""

    root: Path
    flight: str = ""
    help: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.flight:
            return
        store = KeyStore(self.ledger)
        for name, rights in {
            "events": ["events"],
            "service": ["events", "internal"],
            "read": ["read"],
            "protected": ["read", "protected"],
            "call": ["call"],
        }.items():
            self.keys[name] = store.create(team="tests", feature="tests", rights=rights).text
        store.close()
        pick = random.Random(1)
        columns = flights(pick, DAYS * ROWS_PER_DAY)
        days = [f"2013-03-{k // ROWS_PER_DAY + 1:02}" for k in range(DAYS * ROWS_PER_DAY)]
        types: dict[str, Any] = {"wind": "double", "hour": "long", "carrier": "string"}
        self.flight = self.release(
            "flight-delay", columns=columns, types=types, outputs=outputs(columns), blocks=days
        )
        records = [answer_of(self, pick, shown=k % 5) for k in range(200)]
        self.help = self.release("python-help", records=records)

    def fresh(self, root: Path) -> Home:
        """The same bundles and keys, without events, in another folder."""
        for name in ("ledger.db", "bundles"):
            (root / name).symlink_to(self.root / name)
        return Home(root, self.flight, self.help, self.keys)

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.db"

    @property
    def events(self) -> Path:
        return self.root / "events"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    def stage(self, name: str, **profile: Any) -> Path:
        """Files of a release, not yet in the store."""
        folder = self.root / "staged" / name
        folder.mkdir(parents=True)
        write = reference.write_answers if "records" in profile else reference.write
        (folder / "profile.path").write_text(write(folder, **profile))
        return folder

    def release(self, name: str, **profile: Any) -> str:
        """Put a release with this profile into the bundle store; returns its reference."""
        manifest = self.manifest(name, self.stage(name, **profile))
        digest = BundleStore(self.bundles).put(manifest, self.root / "staged" / name)
        return f"{name}/1@{digest}"

    def manifest(self, name: str, folder: Path) -> Any:
        llm = name == "python-help"
        files = [file.model_dump() for file in list_files(folder)]
        path = (folder / "profile.path").read_text()
        kind: dict[str, Any] = {
            "task": "binary",
            "model": path,
            "columns": [{"name": "wind", "type": "double", "nullable": True}],
        }
        if llm:
            kind = {
                "engine": {
                    "identity": "e",
                    "base_model": "b",
                    "revision": "r",
                    "max_model_len": 2048,
                },
                "prompt": {"name": "p.system", "version": 1, "path": path},
                "context": {"system": 1, "retrieved": 1, "history": 1, "question": 1},
                "tokenizer": path,
            }
        return check_manifest(
            {
                "name": name,
                "kind": "llm" if llm else "classic",
                "runtime": {"kind": "platform", "python": "3.11"},
                "llm" if llm else "classic": kind,
                "profile": path,
                "files": files,
            }
        )

    def command(self, *more: str) -> list[str]:
        """The argv of a monitor."""
        return [
            *("python", "-m", "proa_monitor", "--port", "{port}"),
            *("--events", str(self.events), "--bundles", self.bundles.as_uri()),
            *("--reports", str(self.root / "reports"), "--ledger", f"sqlite:///{self.ledger}"),
            *("--linger-seconds", "0", *more),
        ]


Start = Callable[..., "Monitor"]


class Monitor:
    """A running monitor and how to talk to it.

    Args:
        file_blocks: the largest file it can write, in KiB: a disk that is full.
    """

    def __init__(
        self, home: Home, processes: Processes, *more: str, file_blocks: int | None = None
    ) -> None:
        self.home, self.processes, self.more = home, processes, more
        self.file_blocks = file_blocks
        self.proc: subprocess.Popen[bytes]
        self.url = ""
        self.client = httpx.Client(timeout=60)
        self.start()

    def start(self) -> None:
        command = self.home.command(*self.more)
        if self.file_blocks is not None:
            limit = f'ulimit -f {self.file_blocks}; exec "$0" "$@"'
            command = ["bash", "-c", limit, sys.executable, *command[1:]]
        self.proc, self.url = self.processes.start(command)

    def kill(self) -> None:
        """`kill -9`."""
        self.processes.kill(self.proc)

    def stop(self) -> int:
        return self.processes.stop(self.proc)

    def restart(self) -> None:
        assert self.stop() == 0
        self.start()

    def send(
        self, events: Iterable[dict[str, Any]] | bytes, *, key: str = "service"
    ) -> httpx.Response:
        lines = events if isinstance(events, bytes) else b"\n".join(map(orjson.dumps, events))
        headers = {"authorization": f"Bearer {self.home.keys[key]}"} if key else {}
        return self.client.post(f"{self.url}/v1/events", content=lines, headers=headers)

    def take(self, events: Iterable[dict[str, Any]] | bytes, *, key: str = "service") -> Any:
        answer = self.send(events, key=key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, *, key: str = "read") -> Any:
        answer = self.ask(path, key=key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, path: str, *, key: str = "read") -> httpx.Response:
        headers = {"authorization": f"Bearer {self.home.keys[key]}"} if key else {}
        return self.client.get(self.url + path, headers=headers)

    def report(self, model: str, **asked: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.home.keys['read']}"}
        url = f"{self.url}/v1/models/{model}/report"
        return self.client.post(url, json=asked, headers=headers, timeout=300)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of `/metrics` by name and labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.client.get(f"{self.url}/metrics").text
        found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in found, f"{key} is there twice"
                found[key] = sample.value
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        """The only sample of that name which has these labels."""
        wanted = set(labels.items())
        values = [v for (n, have), v in self.metrics().items() if n == name and wanted <= set(have)]
        assert len(values) <= 1, f"{name} {labels}: {len(values)} samples"
        return values[0] if values else None

    def wait_for_metric(self, name: str, value: float, deadline: float = 90.0) -> None:
        wait_until(lambda: self.metric(name) == value, deadline, what=f"{name} = {value}")


def prediction(home: Home, pick: random.Random, *, shift: float = 0.0, **more: Any) -> Any:
    """One flight asked about."""
    columns = flights(pick, 1, shift=shift)
    arguments: dict[str, Any] = {
        "request": new_id(),
        "model": "flight-delay",
        "release": home.flight,
        "track": "champion",
        "rows": 1,
        "inputs": columns,
        "outputs": outputs(columns),
        "latency_ms": pick.uniform(1, 9),
        "team": "operations",
    }
    return prediction_event(**(arguments | more))


def answer_of(home: Home, pick: random.Random, *, shown: int = 3, **more: Any) -> Any:
    """One question answered."""
    arguments: dict[str, Any] = {
        "request": new_id(),
        "model": "python-help",
        "release": home.help or f"python-help/1@{DIGEST}",
        "track": "champion",
        "question": "why? " * pick.randrange(1, 20),
        "answer": "because " * pick.randrange(5, 40),
        "latency_ms": pick.uniform(300, 900),
        "tokens_in": pick.randrange(100, 400),
        "tokens_out": pick.randrange(10, 60),
        "ttft_ms": pick.uniform(20, 200),
        "finish_reason": "stop",
        "retrieved": [{"id": f"d{k}", "title": "t", "score": pick.random()} for k in range(shown)],
    }
    return answer_event(**(arguments | more))


def day(name: str, hour: int = 12) -> datetime:
    """Noon of a day, or another hour."""
    return datetime.fromisoformat(f"{name}T{hour:02}:00:00+00:00")
