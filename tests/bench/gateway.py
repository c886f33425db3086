"""The gateway against direct calls to the same upstream, in the same run: `make bench-gateway`.

Closed loop from this process over raw connections; the gateway and the upstream are processes of
their own. Keys, ledger, metrics and routes are on. Direct and gateway rounds alternate, so that
a busy neighbour hits both; each figure is the median of its rounds. CPU seconds are the gateway's
own, from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from proa.ledger.keys import KeyStore
from tests.bench.rows import Row, show, write
from tests.processes import Processes, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE = "m/1@sha256:" + "ab" * 32
DELTAS, PACE_MS = 32, 20
_TICK = os.sysconf("SC_CLK_TCK")

INFER = json.dumps(
    {"inputs": [{"name": "flight", "shape": [1], "datatype": "BYTES", "data": ["UA1545"]}]}
).encode()
CHAT = {"model": "help", "messages": [{"role": "user", "content": "What does zip do? " * 16}]}


@dataclass
class Sample:
    """What one round measured; milliseconds."""

    latencies: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    bad: int = 0

    def percentile(self, q: float, values: list[float] | None = None) -> float:
        ordered = sorted(self.latencies if values is None else values)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Connection(asyncio.Protocol):
    """One keep-alive connection in a closed loop; streams are read to their end."""

    def __init__(self, request: bytes, sample: Sample, until: float, wait: float) -> None:
        self._request, self._sample, self._until, self._wait = request, sample, until, wait
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        asyncio.get_running_loop().call_later(self._wait, self._ask)

    def _ask(self) -> None:
        self._buffer, self._first, self._whole = b"", None, -1
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if self._whole < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self._sample.bad += 1
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 1 << 60
            self._whole = end + 4 + size
        if self._first is not None:
            self._sample.gaps.append((now - self._last) * 1000)
        elif b'"content"' in self._buffer:
            self._first = now
        self._last = now
        streamed = self._whole > 1 << 59
        if streamed and not self._buffer.endswith(b"0\r\n\r\n"):
            return
        if streamed and b"[DONE]" not in self._buffer:
            self._sample.bad += 1
        if streamed or len(self._buffer) >= self._whole:
            self._next(now)

    def _next(self, now: float) -> None:
        self._sample.latencies.append((now - self._asked) * 1000)
        if self._first is not None:
            self._sample.first.append((self._first - self._asked) * 1000)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()
            self.finished.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self._sample.bad += 1
            self.finished.set_result(None)


def round_of(
    port: int, request: bytes, connections: int, seconds: float, pid: int, spread: float = 0.0
) -> Sample:
    """One closed-loop round; the connections begin evenly over `spread` seconds."""
    sample = Sample()

    async def run() -> None:
        until = time.perf_counter() + seconds
        loop = asyncio.get_running_loop()
        opened = []
        for number in range(connections):
            connection = Connection(request, sample, until, spread * number / connections)
            await loop.create_connection(lambda one=connection: one, "127.0.0.1", port)
            opened.append(connection)
        await asyncio.gather(*(connection.finished for connection in opened))

    cpu, begun = cpu_seconds(pid), time.perf_counter()
    uvloop.run(run())
    sample.seconds = time.perf_counter() - begun
    sample.cpu_seconds = cpu_seconds(pid) - cpu
    return sample


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def machine_seconds() -> float:
    """CPU seconds all of this machine has spent on anything."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / _TICK


def own_seconds(processes: Processes) -> float:
    """CPU seconds of this process and of those it started."""
    return cpu_seconds(os.getpid()) + sum(cpu_seconds(proc.pid) for proc in processes.running)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def request_bytes(path: str, body: bytes, key: str | None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json"]
    lines += [f"content-length: {len(body)}"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Bench:
    """A gateway, its upstreams, and the rounds."""

    processes: Processes
    home: Path
    seconds: float
    rounds: int
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = {
            name: self._bare(*more)
            for name, more in {
                "fast": (),
                "slow": ("--delay-ms", "20"),
                "paced": ("--deltas", str(DELTAS), "--pace-ms", str(PACE_MS)),
            }.items()
        }
        store = KeyStore(self.home / "ledger.db")
        self.key = store.create(team="t", feature="f", rights=["call"]).text
        store.close()
        self.port = free_port()
        self._write_routes()
        argv = ["python", "-m", "proa_gateway", "--port", "{port}", "--engine-port", free_port()]
        argv += ["--ledger", f"sqlite:///{self.home}/ledger.db", "--spool", self.home / "spool"]
        argv += ["--routes", f"file://{self.home}/routes.json"]
        argv += ["--engines", f"file://{self.home}/platform.json"]
        self.pid = self.processes.start([str(part) for part in argv], port=self.port).proc.pid

    def _bare(self, *more: str) -> int:
        argv = ["python", "-m", "tests.standins.bare", "--port", "{port}", *more]
        started = self.processes.start(argv, ready="/readyz")
        return int(started.url.rpartition(":")[2])

    def _write_routes(self) -> None:
        models = {}
        for name, port in self.ports.items():
            for kind in ("classic", "llm"):
                track = {"release": RELEASE, "url": f"http://127.0.0.1:{port}"}
                tracks = {"champion": {**track, "ready": True, "weight": 90}}
                tracks["challenger"] = {**track, "ready": True, "weight": 10}
                models[f"{name}-{kind}"] = {"kind": kind, "tracks": tracks}
        routes = {"schema_version": 1, "generation": 1, "models": models}
        (self.home / "routes.json").write_text(json.dumps(routes))
        (self.home / "platform.json").write_text('{"prices":{"classic_call_micro":20}}')

    def pair(
        self, upstream: str, kind: str, connections: int, *, stream: bool = False
    ) -> tuple[list[Sample], list[Sample]]:
        """Alternating rounds: direct ones and ones through the gateway."""
        model = f"{upstream}-{kind}"
        path, body = f"/v2/models/{model}/infer", INFER
        if kind == "llm":
            chat = {**CHAT, "model": model, **({"stream": True} if stream else {})}
            path, body = "/v1/chat/completions", json.dumps(chat, separators=(",", ":")).encode()
        straight, through = request_bytes(path, body, None), request_bytes(path, body, self.key)
        spread = DELTAS * PACE_MS / 1000 if stream else 0.0
        round_of(self.port, through, connections, 0.3, self.pid)
        direct, ours = [], []
        for _ in range(self.rounds):
            rest = (connections, self.seconds, self.pid, spread)
            direct.append(round_of(self.ports[upstream], straight, *rest))
            ours.append(round_of(self.port, through, *rest))
        bad = sum(sample.bad for sample in [*direct, *ours])
        if bad:
            raise SystemExit(f"{bad} answers of {model} were not whole: no figures")
        return direct, ours

    def added(
        self, name: str, upstream: str, kind: str, connections: int, bar: float | None = None
    ) -> None:
        direct, ours = self.pair(upstream, kind, connections)
        for q in (0.5, 0.99):
            before, after = (
                _median(samples, lambda s, q=q: s.percentile(q)) for samples in (direct, ours)
            )
            limit = bar if q == 0.99 else None
            self.row(f"{name}: added p{q * 100:.0f}", after - before, "ms", before, limit)

    def throughput(self, name: str, upstream: str, kind: str, connections: int) -> None:
        direct, ours = self.pair(upstream, kind, connections)
        rate = lambda samples: _median(samples, lambda s: len(s.latencies) / s.seconds)  # noqa: E731
        self.row(f"{name}: requests/s", rate(ours), "1/s", rate(direct))
        value = _median(ours, lambda s: len(s.latencies) / s.cpu_seconds)
        self.row(f"{name}: requests per CPU-second", value, "1/s", None, 1500.0, at_least=True)

    def streams(self, name: str, connections: int, bars: tuple[float, float]) -> None:
        """Streams of `DELTAS` deltas, `PACE_MS` apart; the gap of two deltas tells a stall."""
        direct, ours = self.pair("paced", "llm", connections, stream=True)
        for what, of, bar in (
            ("time to first token", lambda s: s.first, bars[0]),
            ("gap of two deltas", lambda s: s.gaps, bars[1]),
        ):
            for q in (0.5, 0.99):
                before, after = (
                    _median(samples, lambda s, q=q, of=of: s.percentile(q, of(s)))
                    for samples in (direct, ours)
                )
                limit = bar if q == 0.99 else None
                figure = f"{name}: {what}, added p{q * 100:.0f}"
                self.row(figure, after - before, "ms", before, limit)

    def row(
        self, figure: str, value: float, unit: str, peer: float | None = None,
        bar: float | None = None, *, at_least: bool = False,
    ) -> None:  # fmt: skip
        ok = None if bar is None else (value >= bar if at_least else value <= bar)
        row = Row(figure, round(value, 3), unit, None if peer is None else round(peer, 3), bar, ok)
        self.rows.append(row)
        show(row)


def _median(samples: list[Sample], figure: Callable[[Sample], float]) -> float:
    return statistics.median(figure(sample) for sample in samples)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(Path(folder))
        try:
            bench = Bench(processes, Path(folder), asked.seconds, asked.rounds)
            begun = (time.perf_counter(), machine_seconds() - own_seconds(processes))
            bench.row("memory after start", resident_mib(bench.pid), "MiB")
            bench.added("infer, 1 connection, 0 ms", "fast", "classic", 1, 2.0)
            bench.added("infer, 1 connection, 20 ms", "slow", "classic", 1, 2.0)
            bench.added("infer, 32 connections, 20 ms", "slow", "classic", 32)
            bench.added("chat, 1 connection, 0 ms", "fast", "llm", 1, 2.0)
            bench.throughput("infer, 32 connections, 0 ms", "fast", "classic", 32)
            bench.throughput("chat, 64 connections, 20 ms", "slow", "llm", 64)
            bench.streams("1 stream", 1, (5.0, 1.0))
            bench.streams("32 streams", 32, (5.0, 1.0))
            bench.row("memory after all of this", resident_mib(bench.pid), "MiB")
            others = machine_seconds() - own_seconds(processes) - begun[1]
            share = 100 * others / (time.perf_counter() - begun[0]) / (os.cpu_count() or 1)
            bench.row("CPU used by others meanwhile (0 on a quiet machine)", share, "%")
        finally:
            processes.close()
    write("gateway", bench.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
