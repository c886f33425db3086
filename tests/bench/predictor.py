"""The predictor against other ways to serve the same model, in one run: `make bench-predictor`.

Every server is one worker on core 0; this process, which makes the load over raw keep-alive
connections, and the sink of events have core 1. Rounds of all servers alternate, so that a busy
neighbour hits all; each figure is the median of its rounds. Requests per CPU-second come from
/proc and hold on a busy machine too: on an idle core they are the requests per second.

Bars: KServe's server in this repository's own measurements added 0.50 ms to a row and answered
1,046 requests/s where a bare Starlette app added 0.12 ms and answered 1,827 (0.57 of them).
"""

from __future__ import annotations

import argparse
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

import httpx

from proa.release import scoring
from proa.release.compiled import prepare
from tests import classic_release
from tests.bench.gateway import (
    Row,
    Sample,
    machine_seconds,
    own_seconds,
    request_bytes,
    resident_mib,
    round_of,
)
from tests.bench.rows import write
from tests.processes import Processes

PATH = "/v2/models/flight-delay/infer"
PEERS = ("starlette", "frame", "bentoml")
KSERVE = {"added_ms": 0.50, "per_second": 1046.0, "of_starlette": 1046 / 1827}
MEMORY_MIB = 250.0
_ON_CORE_0 = "import os, sys; os.sched_setaffinity(0, {0}); os.execv(sys.argv[1], sys.argv[1:])"


def milliseconds(call: Callable[[], Any], seconds: float = 0.5) -> float:
    """Median time of a call in this process."""
    for _ in range(10):
        call()
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return statistics.median(found) * 1000


@dataclass
class Bench:
    """One release, its servers, and the rounds."""

    processes: Processes
    home: Path
    seconds: float
    rounds: int
    rows: list[Row] = field(default_factory=list)
    servers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # 17 columns and 100 trees, as the flight model has
        self.built = classic_release.build(self.home, extra=10, trees=100)
        self.folder = self.home / "work" / self.built.ref.digest.removeprefix("sha256:")
        self.built.store.materialize(self.built.ref.digest, self.folder)
        sink = self.processes.start(
            ["python", "-m", "tests.standins.classic_peers", "sink", "--port", "{port}"], ready=None
        )
        (self.home / "key").write_text("a key that the sink does not look at")
        monitor = ["--monitor", sink.url, "--key-file", str(self.home / "key")]
        argv = [str(part) for part in self.built.argv(self.home / "work", *monitor)]
        self._start("proa", argv)
        for peer in PEERS:
            argv = ["python", "-m", "tests.standins.classic_peers", peer, "--port", "{port}"]
            self._start(peer, [*argv, "--folder", str(self.folder)])

    def _start(self, name: str, argv: list[str]) -> None:
        argv = [sys.executable, "-c", _ON_CORE_0, sys.executable, *argv[1:]]
        started = self.processes.start(argv, deadline=90)
        self.servers[name] = (int(started.url.rpartition(":")[2]), started.proc.pid)

    def direct(self, count: int) -> dict[str, float]:
        """Milliseconds for `count` rows in this process, one thread."""
        from threadpoolctl import threadpool_limits

        spec, model = self.built.spec, self.built.model
        columns = {name: values[:count] for name, values in self.built.columns.items()}
        background = {name: values[:60] for name, values in self.built.columns.items()}
        scorer = prepare(model, spec, background)
        assert scorer.plan is not None, scorer.reason
        checked = scoring.checked(spec, columns)
        frame, array = scoring.frame(spec, checked), scorer.plan.encode(checked)
        quick = scorer.plan.estimator.decision_function
        pipeline = model.calibrated_classifiers_[0].estimator.estimator
        trees = pipeline.steps[-1][1].decision_function
        with threadpool_limits(1):
            return {
                "predict_proba(DataFrame)": milliseconds(lambda: model.predict_proba(frame)),
                "its trees alone, one by one": milliseconds(lambda: trees(array)),
                "its trees alone, all at once": milliseconds(lambda: quick(array)),
                "proa's scorer, checks included": milliseconds(lambda: scorer.score(columns)),
            }

    def http(self, count: int, connections: int) -> dict[str, list[Sample]]:
        """Alternating rounds of every server."""
        body = json.dumps(classic_release.infer_body(self.built.rows(count))).encode()
        request = request_bytes(PATH, body, None)
        found: dict[str, list[Sample]] = {name: [] for name in self.servers}
        for port, pid in self.servers.values():
            round_of(port, request, connections, 0.3, pid)
        for _ in range(self.rounds):
            for name, (port, pid) in self.servers.items():
                found[name].append(round_of(port, request, connections, self.seconds, pid))
        bad = {name: sum(sample.bad for sample in samples) for name, samples in found.items()}
        if any(bad.values()):
            raise SystemExit(f"answers that were not whole: {bad}: no figures")
        return found

    def compare(self, count: int, connections: int, scorer_ms: float) -> None:
        """Latency, throughput and CPU of every server for one kind of load."""
        found = self.http(count, connections)
        load = f"{count} row{'s' * (count > 1)}, {connections} connection{'s' * (connections > 1)}"
        bare = found["starlette"]
        for name, samples in found.items():
            ours, one = name == "proa", count == 1
            for q in (0.5, 0.99):
                value = _median(samples, lambda s, q=q: s.percentile(q))
                peer = _median(bare, lambda s, q=q: s.percentile(q))
                self.row(f"{load}: {name}: p{q * 100:.0f}", value, "ms", peer)
            if connections == 1:
                added = _median(samples, lambda s: s.percentile(0.5)) - scorer_ms
                peer = _median(bare, lambda s: s.percentile(0.5)) - scorer_ms
                bar = KSERVE["added_ms"] if ours and one else None
                self.row(f"{load}: {name}: added to the scorer", added, "ms", peer, bar)
            rate = _median(samples, lambda s: len(s.latencies) / s.seconds)
            peer = _median(bare, lambda s: len(s.latencies) / s.seconds)
            self.row(f"{load}: {name}: requests/s", rate, "1/s", peer)
            rate = _median(samples, lambda s: len(s.latencies) / s.cpu_seconds)
            peer = _median(bare, lambda s: len(s.latencies) / s.cpu_seconds)
            bar = KSERVE["per_second"] if ours and one else None
            self.row(f"{load}: {name}: requests per CPU-second", rate, "1/s", peer, bar, least=True)
            if ours and one:
                bar = KSERVE["of_starlette"]
                self.row(f"{load}: of a bare Starlette app's", rate / peer, "x", 1, bar, least=True)

    def events(self) -> None:
        """Every answer's event reached the sink."""
        port, _ = self.servers["proa"]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text

        def read(name: str) -> float:
            return next(
                float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith(f"proa_predictor_{name}")
            )

        lost = read("events_dropped_total") + read("events_rejected_total")
        self.row("events lost", lost, "", read("latency_seconds_count"), 0)

    def row(
        self, figure: str, value: float, unit: str, peer: float | None = None,
        bar: float | None = None, *, least: bool = False,
    ) -> None:  # fmt: skip
        ok = None if bar is None else (value >= bar if least else value <= bar)
        row = Row(figure, round(value, 3), unit, None if peer is None else round(peer, 3), bar, ok)
        self.rows.append(row)
        peer_text = "" if row.peer is None else f"{row.peer:>10,.3f}"
        bar_text = "" if bar is None else f"{'>=' if least else '<='} {bar:,.4g}"
        verdict = {None: "", True: "ok", False: "MISSED"}[ok]
        line = f"{figure:<62} {row.value:>10,.3f} {unit:<4} {peer_text:>10} {bar_text:>9} {verdict}"
        print(line, flush=True)


def _median(samples: list[Sample], figure: Callable[[Sample], float]) -> float:
    return statistics.median(figure(sample) for sample in samples)


def measure(bench: Bench) -> None:
    """All figures."""
    _, pid = bench.servers["proa"]
    bench.row("memory after start", resident_mib(pid), "MiB", None, MEMORY_MIB)
    for count in (1, 64):
        times = bench.direct(count)
        whole, *_, scorer_ms = times.values()
        for name, value in times.items():
            bench.row(f"{count} row{'s' * (count > 1)}, direct: {name}", value, "ms", whole)
        for connections in (1, 16):
            bench.compare(count, connections, scorer_ms)
    bench.row("memory after all of this", resident_mib(pid), "MiB", None, MEMORY_MIB)
    bench.events()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(Path(folder))
        try:
            bench = Bench(processes, Path(folder), asked.seconds, asked.rounds)
            print(f"{'figure':<62} {'value':>10} unit  Starlette        bar")
            begun = (time.perf_counter(), machine_seconds() - own_seconds(processes))
            measure(bench)
            others = machine_seconds() - own_seconds(processes) - begun[1]
            share = 100 * others / (time.perf_counter() - begun[0]) / (os.cpu_count() or 1)
            bench.row("CPU used by others meanwhile (0 on a quiet machine)", share, "%")
        finally:
            processes.close()
    write("predictor", bench.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
