"""The supervisor: `python -m proa.embedded.supervisor --home HOME`. It plays kubelet.

It makes true what `workloads/*.json` desire and says in `status/*.json` what is. One per home.
Killed, it leaves its processes running; the next one adopts them. SIGTERM stops them all, those
that others depend on last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proa.embedded import process as processes
from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home
from proa.embedded.lock import SupervisorLock
from proa.embedded.log import last_words, rotate, size_of
from proa.embedded.plan import Fact, Kill, Remove, Start, Terminate, plan, run_on
from proa.embedded.ports import HOST, find_free, holder_of, is_free
from proa.embedded.probe import Probe
from proa.embedded.record import Instance, ProcessId, Record
from proa.embedded.routed import RoutedUrls
from proa.embedded.workload import Workload, parse_workload
from proa.embedded.workloads import read_record
from proa.errors import InvalidInput, ProaError
from proa.http.clock import SteadyClock, WallClock

__all__ = ["ORDER_LABEL", "Supervisor", "main"]

ORDER_LABEL: Final = "proa.dev/order"
"""Label of a workload with a number: the highest stop first; without it, before all others."""
_TICK_SECONDS: Final = 0.1
_ROTATE_SECONDS: Final = 30.0
_STOP_GRACE_SECONDS: Final = 15.0
_SOCKET_BYTES: Final = 107
_LAST_ORDER: Final = 1_000_000

_log = logging.getLogger("proa.supervisor")


@dataclass(frozen=True, slots=True)
class _Desired:
    """A workload file as last read; `fault` says what is wrong with it now."""

    stamp: tuple[int, int, int]
    workload: Workload | None
    fault: str | None


class _Refused(Exception):
    """A process that cannot be started now; the text says why."""


class Supervisor:
    """The loop over one home. The caller holds the home's lock.

    Args:
        home: its folders exist.
        environ: the environment to pass on; only a harmless part of it is.
    """

    def __init__(self, home: Home, *, environ: Mapping[str, str]) -> None:
        self._home = home
        self._environment = processes.clean_environment(environ)
        self._files: dict[str, _Desired] = {}
        self._records: dict[str, Record] = {}
        self._stored: dict[str, Record] = {}
        self._probes: dict[ProcessId, Probe] = {}
        self._log_sizes: dict[ProcessId, int] = {}
        self._refused: dict[tuple[str, int], Fact] = {}
        self._routes = RoutedUrls(home.routes_file)
        self._clock = SteadyClock(WallClock())

    async def run(self, stop: asyncio.Event) -> None:
        """Adopt what lives, then follow the files until `stop`, then stop everything."""
        self._adopt()
        rotate_at = 0.0
        while not stop.is_set():
            if not self._home.workloads.is_dir():
                # Nobody could find these processes again: they must not outlive their home.
                _log.error("%s is gone: everything stops", self._home.workloads)
                break
            self._tick()
            if time.monotonic() >= rotate_at:
                self._rotate_logs()
                rotate_at = time.monotonic() + _ROTATE_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _TICK_SECONDS)
        await self.stop_all()

    async def stop_all(self) -> None:
        """End every process of this home, the highest order first, and park its workload."""
        self._adopt()
        self._read_files()
        waves: dict[int, list[str]] = {}
        for name in self._records:
            waves.setdefault(self._order(name), []).append(name)
        for order in sorted(waves, reverse=True):
            await self._stop_wave(waves[order])
        for probe in self._probes.values():
            probe.close()

    def _adopt(self) -> None:
        for path in sorted(self._home.statuses.glob("*.json")):
            name = path.stem
            if name in self._records:
                continue
            try:
                record = read_record(self._home, name)
            except ProaError as error:
                _log.error("%s: set aside: %s", name, error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            if record is None:
                continue
            self._stored[name] = record
            self._records[name] = record = run_on(record, self._now())
            for item in record.instances():
                if item.process and processes.is_alive(item.process):
                    _log.info("%s: adopted process %d", name, item.process.pid)

    # ---- desired state --------------------------------------------------------------------

    def _read_files(self) -> None:
        try:
            entries = list(os.scandir(self._home.workloads))
        except FileNotFoundError:
            return
        found = {}
        for entry in entries:
            if not entry.name.endswith(".json") or entry.name.startswith("."):
                continue
            name = entry.name.removesuffix(".json")
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            before = self._files.get(name)
            if before is not None and before.stamp == stamp:
                found[name] = before
            else:
                found[name] = self._read_file(name, stamp, before)
        self._files = found

    def _read_file(
        self, name: str, stamp: tuple[int, int, int], before: _Desired | None
    ) -> _Desired:
        path = self._home.workload(name)
        try:
            workload = parse_workload(read_json(path), where=str(path))
            if workload.name == name:
                return _Desired(stamp, workload, None)
            fault = f"{path}: name = {workload.name!r}: expected {name!r}, as the file is called"
        except ProaError as error:
            fault = error.message
        _log.error("%s: %s", name, fault)
        last = before.workload if before else self._last_desired(name)
        return _Desired(stamp, last, fault)

    def _last_desired(self, name: str) -> Workload | None:
        """What was desired before a file became unreadable: what was adopted goes on."""
        record = self._records.get(name)
        if record is None or record.serving is None:
            return None
        serving = record.serving
        return Workload(name, serving.template, generation=record.observed_generation)

    # ---- one step -------------------------------------------------------------------------

    def _tick(self) -> None:
        self._read_files()
        routed = self._routes.read()
        for name in sorted(self._files.keys() | self._records.keys()):
            try:
                self._step(name, self._files.get(name), routed)
            except Exception:
                # One workload's trouble (a full disk, a missing folder) must not end the others.
                _log.exception("%s: this step failed; it is tried again", name)

    def _now(self) -> float:
        """For waits: it runs on evenly, however the machine's clock is set meanwhile."""
        return self._clock.now().timestamp()

    def _step(
        self, name: str, desired: _Desired | None, routed: frozenset[str] | None = None
    ) -> None:
        record = self._records.get(name) or Record(name)
        if desired is not None and desired.workload is None:
            self._store(replace(record, failed=desired.fault))
            return
        workload = desired.workload if desired else None
        facts = self._facts(name, record)
        result = plan(workload, record, now=self._now(), facts=facts, routed=routed)
        _tell(name, record, result.record, facts)
        record = result.record
        if desired is not None and desired.fault is not None:
            record = replace(record, failed=desired.fault)
        if Remove() in result.actions:
            self._forget(name)
            return
        by_serial = {item.serial: item for item in record.instances()}
        for action in result.actions:
            if isinstance(action, Terminate | Kill):
                self._signal(action, by_serial[action.serial])
        self._store(record)
        for action in result.actions:
            if isinstance(action, Start):
                self._start(name, by_serial[action.serial])

    def _facts(self, name: str, record: Record) -> dict[int, Fact]:
        facts = {}
        for item in record.instances():
            refused = self._refused.pop((name, item.serial), None)
            if item.process is not None:
                facts[item.serial] = self._fact(name, item, item.process)
            elif refused is not None:
                facts[item.serial] = refused
        return facts

    def _fact(self, name: str, item: Instance, process: ProcessId) -> Fact:
        if processes.is_alive(process):
            return Fact(alive=True, ready=self._is_ready(item, process))
        code = processes.reap(process)
        self._unwatch(process)
        left = processes.kill_session(process)
        if left:
            _log.warning("%s: process %d left %s behind: killed", name, process.pid, left)
        written = self._log_sizes.pop(process, 0)
        note = processes.exit_note(code)
        if item.stop_at is None and (words := last_words(self._home.log(name), since=written)):
            note = f"{note}: {words}"
        return Fact(alive=False, code=code, note=note)

    def _is_ready(self, item: Instance, process: ProcessId) -> bool:
        if item.stop_at is not None:
            self._unwatch(process)
            return False
        if item.url is None:
            return True
        if process not in self._probes:
            self._probes[process] = Probe(item.url, item.template.ready, ready=item.ready)
        return self._probes[process].ready

    def _unwatch(self, process: ProcessId) -> None:
        probe = self._probes.pop(process, None)
        if probe is not None:
            probe.close()

    def _signal(self, action: Terminate | Kill, item: Instance) -> None:
        if item.process is None:
            return
        if isinstance(action, Terminate):
            processes.send_signal(item.process, signal.SIGTERM)
        else:
            processes.send_signal(item.process, signal.SIGKILL)

    def _store(self, record: Record) -> None:
        self._records[record.name] = record
        if self._stored.get(record.name) != record:
            write_json(self._home.status(record.name), record.to_json())
            self._stored[record.name] = record

    def _forget(self, name: str) -> None:
        self._home.status(name).unlink(missing_ok=True)
        self._records.pop(name, None)
        self._stored.pop(name, None)
        _log.info("%s: removed", name)

    # ---- starting -------------------------------------------------------------------------

    def _start(self, name: str, item: Instance) -> None:
        log = self._home.log(name)
        try:
            port, url = self._address(name, item)
        except _Refused as refused:
            _log.warning("%s: not started: %s", name, refused)
            self._refused[name, item.serial] = Fact(alive=False, note=str(refused))
            return
        template = item.template
        values = {
            "{host}": HOST,
            "{port}": str(port or ""),
            "{socket}": str(self._home.socket(name)),
        }
        gate = processes.spawn(
            [_fill(part, values) for part in template.command],
            env={**self._environment, **template.env},
            cwd=Path(template.cwd) if template.cwd else self._home.root,
            log=log,
        )
        started = replace(
            item,
            process=gate.process,
            started=self._now(),
            port=port,
            url=url,
            ready=False,
            warm=False,
        )
        try:
            self._log_sizes[gate.process] = size_of(log)
            self._store(self._records[name].replace_instance(started))
        except BaseException:
            gate.close()
            raise
        gate.open()
        _log.info(
            "%s: generation %d started as process %d at %s",
            *(name, item.generation, gate.process.pid, url),
        )

    def _address(self, name: str, item: Instance) -> tuple[int | None, str | None]:
        """The port and URL of a process about to start.

        Raises:
            _Refused: the address is taken or cannot be used.
        """
        if item.template.listen == "none":
            return None, None
        if item.template.listen == "uds":
            path = self._home.socket(name)
            size = len(os.fsencode(path))
            if size > _SOCKET_BYTES:
                raise _Refused(
                    f"the socket {path} has {size} bytes, at most {_SOCKET_BYTES} work; "
                    "use a shorter --home"
                )
            try:
                self._home.create_sockets()
            except InvalidInput as error:
                raise _Refused(error.message) from error
            return None, f"unix://{path}"
        port = item.template.port or item.port or find_free(self._ports())
        if not is_free(port):
            raise _Refused(f"port {port} is taken by {holder_of(port) or 'another process'}")
        return port, f"http://{HOST}:{port}"

    def _ports(self) -> set[int]:
        """Every port that is or may become some workload's own."""
        items = [item for record in self._records.values() for item in record.instances()]
        ports = {item.port for item in items} | {item.template.port for item in items}
        ports |= {urlsplit(url).port for url in self._routes.read()}
        return {port for port in ports if port is not None}

    # ---- stopping and upkeep --------------------------------------------------------------

    def _order(self, name: str) -> int:
        desired = self._files.get(name)
        serving = self._records[name].serving
        if desired is not None and desired.workload is not None:
            label = desired.workload.template.labels.get(ORDER_LABEL, "")
        else:
            label = serving.template.labels.get(ORDER_LABEL, "") if serving else ""
        return int(label) if label.isdecimal() else _LAST_ORDER

    async def _stop_wave(self, names: Sequence[str]) -> None:
        drains = [
            item.template.drain_seconds
            for name in names
            for item in self._records[name].instances()
        ]
        deadline = time.monotonic() + max(drains, default=0.0) + _STOP_GRACE_SECONDS
        left = list(names)
        while left and time.monotonic() < deadline:
            for name in left:
                with contextlib.suppress(OSError):
                    self._step(name, self._halted(name))
            left = [name for name in left if self._has_process(name)]
            if left:
                await asyncio.sleep(_TICK_SECONDS / 2)
        for name in left:
            _log.error("%s: did not end", name)

    def _halted(self, name: str) -> _Desired | None:
        """The same workload without replicas; None when it was deleted."""
        desired = self._files.get(name)
        if desired is None:
            return None
        workload = desired.workload or self._last_desired(name)
        if workload is None:
            return desired
        return replace(desired, workload=replace(workload, replicas=0))

    def _has_process(self, name: str) -> bool:
        record = self._records.get(name)
        return record is not None and any(item.process for item in record.instances())

    def _rotate_logs(self) -> None:
        for name in (*self._records, "supervisor"):
            with contextlib.suppress(OSError):
                rotate(self._home.log(name))


def _fill(part: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        part = part.replace(mark, value)
    return part


def _tell(name: str, before: Record, after: Record, facts: Mapping[int, Fact]) -> None:
    """Log what people look for later."""
    for item in before.instances():
        fact = facts.get(item.serial)
        if fact is not None and not fact.alive and item.process is not None:
            _log.info("%s: process %d: %s", name, item.process.pid, fact.note)
    serving, old = after.serving, before.serving
    if serving and serving.ready and not (old and old.ready and old.serial == serving.serial):
        _log.info("%s: generation %d is ready at %s", name, serving.generation, serving.url)
    if after.failed and after.failed != before.failed:
        _log.error("%s: %s", name, after.failed)


def main(argv: Sequence[str] | None = None) -> int:
    """Supervise a home until SIGTERM; returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m proa.embedded.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--daemon", action="store_true", help="detach, then supervise")
    chosen = parser.parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    home = Home(chosen.home.absolute())
    if chosen.daemon:
        _detach()
    try:
        with SupervisorLock(home):
            asyncio.run(_supervise(home))
    except ProaError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


async def _supervise(home: Home) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _log.info("supervising %s as process %d", home.root, os.getpid())
    await Supervisor(home, environ=os.environ).run(stop)
    _log.info("stopped")


def _detach() -> None:
    """Leave the caller: nobody must wait for this process."""
    if os.fork():
        os._exit(0)
    os.setsid()


if __name__ == "__main__":
    sys.exit(main())
