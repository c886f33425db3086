"""The platform as a whole: `make bench-platform`.

Memory of each part when idle (PSS of its process tree: shared pages counted once), and the seconds
of a promotion and of both kinds of rollback while a user calls without pause. The release is a
bare process (tests/standins/release_server.py), so that what is timed is proa's own doing; the
story times the same verbs with a real predictor and a real assistant.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from proa.embedded.engine_choice import choose_engine
from proa.embedded.ports import PortPlan
from proa.embedded.up import down, up
from proa.embedded.workloads import WorkloadFiles
from proa.errors import ProaError
from proa.release.reference import ReleaseRef
from tests.bench.rows import Row, finish
from tests.processes import wait_until
from tests.services.controller.platform import SmallPlatform

_ROLLBACK_BAR = 5.0  # design §4: a rollback inside the warm window


def main() -> int:
    return finish("platform", [*_memory(), *_rollouts()])


def _memory() -> Iterator[Row]:
    from proa.embedded.home import Home

    with tempfile.TemporaryDirectory(prefix="proa-") as folder:
        home = Home(Path(folder) / "h")
        home.root.mkdir()
        try:
            engine = choose_engine("smollm2", os.environ)
        except ProaError as error:
            print(f"without an engine: {error}")
            engine = None
        try:
            began = time.monotonic()
            up(home, ports=PortPlan.parse([], auto=True), engine=engine)
            yield Row("platform up, every part ready", time.monotonic() - began, "s")
            yield from _parts(WorkloadFiles(home), sorted(home.workloads.glob("*.json")))
        finally:
            began = time.monotonic()
            down(home)
        yield Row("platform down, nothing left", time.monotonic() - began, "s")


def _parts(files: WorkloadFiles, workloads: list[Path]) -> Iterator[Row]:
    total = 0.0
    for path in workloads:
        status = files.status(path.stem)
        if status is None or status.pid is None:
            continue
        mebibytes = sum(map(_pss, _tree(status.pid))) / 2**20
        total += mebibytes
        name = "engine" if path.stem.startswith("engine-") else path.stem
        yield Row(f"memory of {name}, idle", mebibytes, "MiB")
    yield Row("memory of all parts, idle", total, "MiB")


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    tree = [root]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _rollouts() -> Iterator[Row]:
    small = SmallPlatform.start()
    try:
        first, second = small.champion("bench"), small.release("bench")
        small.gate(second)
        with _Caller(small) as caller:
            yield Row("promote, no canary", _timed(lambda: _promote(small, second)), "s")
            back = small.fleet.rollback("bench")
            seconds = back["traffic_seconds"]
            good = seconds <= _ROLLBACK_BAR
            figure = "rollback inside the warm window: all traffic"
            yield Row(figure, seconds, "s", None, _ROLLBACK_BAR, good)
            yield Row("rollback inside the warm window: template", back["seconds"], "s")
            small.gate(second)
            _promote(small, second, warm_seconds=0)
            back = small.fleet.rollback("bench")
            yield Row("rollback later: a rolling update", back["seconds"], "s")
            wait_until(lambda: caller.last == str(first), deadline=30)
        failed = float(len(caller.faults))
        yield Row("failed calls meanwhile", failed, "calls", float(caller.calls), 0.0, not failed)
    finally:
        small.stop()


def _promote(small: SmallPlatform, ref: ReleaseRef, **policy: float) -> None:
    small.promote(ref, steps=[], **policy)
    small.fleet.settle("bench", seconds=60)


def _timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


class _Caller:
    """One user who calls without pause."""

    def __init__(self, small: SmallPlatform) -> None:
        self.calls, self.last = 0, ""
        self.faults: list[str] = []
        self._small, self._stop = small, threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> _Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _live(self) -> None:
        while not self._stop.is_set():
            answer = self._small.predict("bench", unit=str(self.calls))
            self.calls += 1
            self.last = answer.headers.get("x-proa-release", "")
            if answer.status_code != 200:
                self.faults.append(answer.text)


if __name__ == "__main__":
    sys.exit(main())
