"""The monitor, its judges and the emitter: `make bench-monitor`.

Events of one row with 15 inputs and a reference profile, in batches of 500 as the emitter sends
them. The peer is what cannot be done without: decoding the same lines with orjson and writing
them to a file, in this process. Rates are per second of the monitor's own CPU time (/proc), since
other processes may run beside it.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from proa.events.emitter import Emitter
from proa.events.event import prediction_event
from proa.http.ids import new_id
from tests.bench import _monitor_language, _monitor_quality, _monitor_statistics, _monitor_year
from tests.bench.rows import Row, finish
from tests.processes import Processes, free_port
from tests.services.monitor.monitored import Home, Monitor, prediction

REPOSITORY = Path(__file__).resolve().parents[2]
EVENTS, BATCH = 20_000, 500
COLUMNS = 12
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> int:
    return finish("monitor", _rows())


def _rows() -> Iterator[Row]:
    """The process first, then what its judges are worth."""
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(Path(folder))
        try:
            yield from _measure(Path(folder), processes)
        finally:
            processes.close()
    for part in (_monitor_statistics, _monitor_quality, _monitor_language, _monitor_year):
        yield from part.rows()


def _measure(folder: Path, processes: Processes) -> list[Row]:
    home = _home(folder)
    monitor = Monitor(home, processes)
    idle = _resident(monitor)
    rows = [Row("monitor: idle memory", idle, "MiB", bar=120, ok=idle <= 120)]
    rows.append(_ingest(home, monitor))
    rows.append(Row("monitor: memory after 20,000 events", _resident(monitor), "MiB"))
    rows += _emit(home, monitor)
    rows += _views(monitor)
    start = time.perf_counter()
    answer = monitor.report("flight-delay")
    assert answer.status_code == 200, answer.text
    rows.append(Row("monitor: Evidently report, 5,000 rows", time.perf_counter() - start, "s"))
    rows.append(Row("monitor: memory after a report", _resident(monitor), "MiB"))
    monitor.client.close()
    return rows


def _home(folder: Path) -> Home:
    root = folder / "home"
    root.mkdir()
    home = Home(root)
    pick = random.Random(0)
    rows = 90 * 200
    columns: dict[str, Any] = {
        f"x{k}": [pick.gauss(0, 1) for _ in range(rows)] for k in range(COLUMNS)
    }
    columns |= {f"c{k}": [pick.choice("abcdefgh") for _ in range(rows)] for k in range(3)}
    (root / "staged" / "flight-delay").rename(root / "staged" / "small")
    home.flight = home.release(
        "flight-delay",
        columns=columns,
        types={name: "double" if name[0] == "x" else "string" for name in columns},
        outputs={"probability": [pick.random() for _ in range(rows)]},
        blocks=[f"2013-{k // 200:03}" for k in range(rows)],
    )
    return home


def _event(home: Home, pick: random.Random) -> Any:
    return prediction_event(
        request=new_id(),
        model="flight-delay",
        release=home.flight,
        track="champion",
        rows=1,
        inputs={
            **{f"x{k}": [pick.gauss(0, 1)] for k in range(COLUMNS)},
            **{f"c{k}": [pick.choice("abcdefgh")] for k in range(3)},
        },
        outputs={"probability": [pick.random()], "label": [False]},
        entity=["UA1545"],
        latency_ms=2.0,
        team="operations",
        feature="delays",
    )


def _ingest(home: Home, monitor: Monitor) -> Row:
    pick = random.Random(1)
    lines = [orjson.dumps(_event(home, pick)) for _ in range(EVENTS)]
    bodies = [b"\n".join(lines[k : k + BATCH]) for k in range(0, EVENTS, BATCH)]
    before = _cpu(monitor)
    for body in bodies:
        assert monitor.take(body)["accepted"] == BATCH
    rate = EVENTS / (_cpu(monitor) - before)
    with tempfile.TemporaryFile(buffering=0) as file:
        start = time.process_time()
        for body in bodies:
            for line in body.split(b"\n"):
                orjson.loads(line)
            file.write(body)
        peer = EVENTS / (time.process_time() - start)
    return Row("monitor: events through HTTP", rate, "/s per core", peer, 10_000, rate >= 10_000)


def _emit(home: Home, monitor: Monitor) -> list[Row]:
    rows = []
    for name, url in (("up", monitor.url), ("down", f"http://127.0.0.1:{free_port()}")):
        emitter = Emitter(url, home.keys["service"])
        pick = random.Random(2)
        took = []
        for _ in range(8000):
            event = _event(home, pick)
            start = time.perf_counter()
            emitter.emit(event)
            took.append((time.perf_counter() - start) * 1e6)
        emitter.close(0 if name == "down" else 20)
        p99 = statistics.quantiles(took, n=100)[98]
        rows.append(Row(f"emitter: enqueue p50, monitor {name}", statistics.median(took), "µs"))
        rows.append(Row(f"emitter: enqueue p99, monitor {name}", p99, "µs", None, 50, p99 <= 50))
    return rows


def _views(monitor: Monitor) -> list[Row]:
    rows = []
    for path in ("/metrics", "/v1/models/flight-delay", "/v1/requests"):
        took = []
        for _ in range(5):
            monitor.take([prediction(monitor.home, random.Random(3), inputs={"x0": [1.0]})])
            start = time.perf_counter()
            assert monitor.ask(path).status_code == 200
            took.append((time.perf_counter() - start) * 1000)
        rows.append(Row(f"monitor: GET {path}", statistics.median(took), "ms"))
    return rows


def _resident(monitor: Monitor) -> float:
    status = Path(f"/proc/{monitor.proc.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _cpu(monitor: Monitor) -> float:
    fields = Path(f"/proc/{monitor.proc.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


if __name__ == "__main__":
    sys.exit(main())
