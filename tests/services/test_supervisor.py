"""The supervisor over real processes; nothing is faked but the servers.

The servers are `tests/standins/echo_server.py`: the real ones need seconds and data.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from proa.embedded.daemon import ensure_supervisor, stop_supervisor, supervisor_pid
from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home
from proa.embedded.process import identify, is_alive
from proa.embedded.status import Status
from proa.embedded.up import down
from proa.embedded.workload import Template, Workload
from proa.embedded.workloads import WorkloadFiles
from tests.processes import wait_until

ECHO = Path(__file__).parents[1] / "standins" / "echo_server.py"


@dataclass
class Fleet:
    """A home with a supervisor, and what its tests ask of it."""

    home: Home
    files: WorkloadFiles = field(init=False)

    def __post_init__(self) -> None:
        self.files = WorkloadFiles(self.home)

    def run(self, name: str = "echo", say: str = "", *extra: str, **template: Any) -> int:
        listen = ("--uds", "{socket}") if template.get("listen") == "uds" else ("--port", "{port}")
        command = (sys.executable, str(ECHO), *listen, "--say", say, *extra)
        chosen = {"drain_seconds": 5.0, "settle_seconds": 0.3, "startup_seconds": 30.0, **template}
        return self.files.apply(Workload(name, Template(command, **chosen)))

    def status(self, name: str = "echo") -> Status:
        status = self.files.status(name)
        assert status is not None
        return status

    def wait(
        self, rule: Callable[[Status], object], name: str = "echo", deadline: float = 20
    ) -> Status:
        def met() -> Status | None:
            status = self.files.status(name)
            return status if status is not None and rule(status) else None

        try:
            found = wait_until(met, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.home.log('supervisor').read_text()}") from None
        assert found is not None
        return found

    def complete(self, name: str = "echo") -> Status:
        return self.wait(lambda status: status.complete, name)

    def settled(self, name: str = "echo") -> Status:
        return self.wait(lambda status: status.settled, name)

    def ask(self, name: str = "echo", path: str = "/") -> dict[str, Any]:
        url = self.status(name).url
        assert url is not None
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            value: dict[str, Any] = json.load(answer)
        return value

    def kill_supervisor(self) -> None:
        pid = supervisor_pid(self.home)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: supervisor_pid(self.home) is None)

    def pids(self) -> set[int]:
        """Every process of this home that the status files name."""
        found = set()
        for path in self.home.statuses.glob("*.json"):
            processes = read_json(path)["processes"]
            items = [processes["serving"], processes["updating"], *processes["draining"]]
            found |= {item["process"]["pid"] for item in items if item and item["process"]}
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    home = Home(tmp_path / "h").create()
    ensure_supervisor(home)
    made = Fleet(home)
    try:
        yield made
    finally:
        down(home)
        assert supervisor_pid(home) is None


def gone(pid: int) -> bool:
    process = identify(pid)
    return process is None or not is_alive(process)


class Load:
    """Clients which follow the status as a gateway follows its routes, and never pause."""

    def __init__(self, fleet: Fleet, *, clients: int = 4) -> None:
        self.answers: list[tuple[str, int]] = []
        self.faults: list[str] = []
        self._fleet = fleet
        self._url = fleet.status().url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self._threads.append(threading.Thread(target=self._follow))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(0.05):
            self._url = self._fleet.status().url

    def _ask(self) -> None:
        while not self._stop.is_set():
            parts = urlsplit(str(self._url))
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
            try:
                connection.request("GET", "/slow?seconds=0.02")
                answer = connection.getresponse()
                value = json.loads(answer.read())
                self.answers.append((value["say"], answer.status))
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
            finally:
                connection.close()


def test_a_workload_runs_with_its_own_session_and_no_secrets(fleet: Fleet, tmp_path: Path) -> None:
    fleet.run(say="hello", env={"GREETING": "{port}"}, cwd=str(tmp_path))
    status = fleet.complete()
    value = fleet.ask()
    assert (value["say"], value["pid"], value["cwd"]) == ("hello", status.pid, str(tmp_path))
    assert value["env"]["GREETING"] == "{port}", "only the command has places to fill"
    assert os.getsid(value["pid"]) == value["pid"]
    assert "PYTEST_CURRENT_TEST" not in value["env"]
    assert not any(name.endswith(("KEY", "TOKEN", "SECRET")) for name in value["env"])
    assert str(Path(f"/proc/{value['pid']}/fd/0").readlink()) == "/dev/null"
    assert (status.restarts, status.failed, status.updating) == (0, None, False)


def test_a_rolling_update_refuses_no_request(fleet: Fleet) -> None:
    fleet.run(say="one")
    old = fleet.complete()
    with Load(fleet) as load:
        wait_until(lambda: len(load.answers) > 40)
        fleet.run("echo", "two", "--start-delay", "0.3")
        fleet.settled()
        after = len(load.answers)
        wait_until(lambda: len(load.answers) > after + 40)
    assert load.faults == []
    assert {status for _, status in load.answers} == {200}
    says = [say for say, _ in load.answers]
    assert says[0] == "one"
    assert says[-1] == "two"
    new = fleet.status()
    assert (new.generation, new.observed_generation) == (2, 2)
    assert new.url != old.url
    assert old.pid is not None
    assert gone(old.pid)


def test_answers_under_way_are_finished_before_the_old_process_ends(fleet: Fleet) -> None:
    fleet.run(say="one")
    fleet.complete()
    said: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: said.append(fleet.ask(path="/slow?seconds=2")))
    asking.start()
    fleet.run(say="two")
    assert fleet.settled().generation == 2
    asking.join()
    assert said[0]["say"] == "one"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("--never-ready",), "generation 2 was not ready within 1 s"),
        (("--exit-code", "1"), "ended 3 times in a row: exit code 1: leaving with 1, as told"),
        (("--exit-code", "78"), "ended once: exit code 78: leaving with 78, as told"),
    ],
)
def test_a_bad_update_leaves_the_old_process_serving(
    fleet: Fleet, fault: tuple[str, ...], message: str
) -> None:
    fleet.run(say="one", startup_seconds=1.0)
    old = fleet.complete()
    fleet.run("echo", "two", *fault, startup_seconds=1.0)
    status = fleet.wait(lambda seen: seen.failed and seen.draining == 0)
    assert message in str(status.failed)
    assert (status.pid, status.url, status.generation) == (old.pid, old.url, 1)
    assert (status.observed_generation, status.complete) == (2, False)
    assert fleet.ask()["say"] == "one"
    assert fleet.pids() == {old.pid}


def test_a_program_that_is_not_there_is_named(fleet: Fleet) -> None:
    fleet.files.apply(Workload("echo", Template(("/nowhere/program",))))
    status = fleet.wait(lambda seen: seen.failed)
    assert "exit code 127: cannot start '/nowhere/program'" in str(status.failed)
    assert "No such file or directory" in str(status.failed)


def test_undo_brings_the_previous_template_back(fleet: Fleet) -> None:
    fleet.run(say="one", release="m/1@sha256:" + "1" * 64)
    fleet.settled()
    fleet.run(say="two", release="m/2@sha256:" + "2" * 64)
    assert str(fleet.settled().release).startswith("m/2@")
    assert fleet.files.undo("echo") == 3
    status = fleet.settled()
    assert fleet.ask()["say"] == "one"
    assert str(status.release).startswith("m/1@")
    assert [item.generation for item in status.history] == [2, 3]


def test_undo_of_a_failed_update_starts_no_process(fleet: Fleet) -> None:
    fleet.run(say="one")
    old = fleet.complete()
    fleet.run("echo", "two", "--exit-code", "78")
    fleet.wait(lambda seen: seen.failed)
    fleet.files.undo("echo")
    status = fleet.complete()
    assert (status.pid, status.failed, status.generation) == (old.pid, None, 3)


def test_a_crash_restarts_at_the_same_port(fleet: Fleet) -> None:
    fleet.run(say="one")
    old = fleet.complete()
    with pytest.raises((OSError, http.client.HTTPException)):
        fleet.ask(path="/crash")
    status = fleet.wait(lambda seen: seen.ready and seen.pid != old.pid)
    assert (status.url, status.restarts) == (old.url, 1)
    log = fleet.home.log("supervisor").read_text()
    assert f"process {old.pid}: exit code 3: crashed on command" in log


def test_what_a_killed_process_left_behind_is_killed(fleet: Fleet) -> None:
    fleet.run("echo", "one", "--child")
    old = fleet.complete()
    assert old.pid is not None
    children = Path(f"/proc/{old.pid}/task/{old.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(old.pid, signal.SIGKILL)
    fleet.wait(lambda seen: seen.ready and seen.pid != old.pid)
    wait_until(lambda: gone(int(children[0])))


def test_a_process_that_is_not_ready_any_more_is_said_but_not_restarted(fleet: Fleet) -> None:
    fleet.run(say="one")
    old = fleet.complete()
    fleet.ask(path="/unready")
    assert fleet.wait(lambda seen: not seen.ready).pid == old.pid
    fleet.ask(path="/ready")
    assert fleet.wait(lambda seen: seen.ready).restarts == 0


def test_a_killed_supervisor_leaves_all_running_and_the_next_one_adopts(fleet: Fleet) -> None:
    names = ["a", "b", "c"]
    for name in names:
        fleet.run(name, name)
    before = {name: fleet.complete(name).pid for name in names}
    fleet.kill_supervisor()
    assert not any(gone(pid) for pid in before.values() if pid)
    fleet.run("b", "changed")  # while nobody looks
    assert before["c"] is not None
    os.kill(before["c"], signal.SIGKILL)
    assert ensure_supervisor(fleet.home)
    assert not ensure_supervisor(fleet.home)
    fleet.settled("b")
    after = {name: fleet.complete(name) for name in names}
    assert (after["a"].pid, after["a"].restarts) == (before["a"], 0)
    assert fleet.ask("b")["say"] == "changed"
    assert (after["c"].pid != before["c"], after["c"].restarts) == (True, 1)
    assert fleet.pids() == {status.pid for status in after.values()}


def test_an_update_under_way_goes_on_after_the_supervisor_was_killed(fleet: Fleet) -> None:
    fleet.run(say="one")
    fleet.complete()
    fleet.run("echo", "two", "--start-delay", "1")
    old = fleet.wait(lambda seen: seen.updating and len(fleet.pids()) == 2).pid
    (new,) = fleet.pids() - {old}
    # Until then it waits at its gate, and would end with the supervisor.
    wait_until(lambda: b"echo_server" in Path(f"/proc/{new}/cmdline").read_bytes())
    fleet.kill_supervisor()
    ensure_supervisor(fleet.home)
    assert fleet.settled().pid == new
    assert fleet.ask()["say"] == "two"


def test_a_second_supervisor_is_refused(fleet: Fleet) -> None:
    first = supervisor_pid(fleet.home)
    argv = [sys.executable, "-m", "proa.embedded.supervisor", "--home", str(fleet.home.root)]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 5
    assert f"process {first} supervises {fleet.home.root} already" in second.stderr
    assert supervisor_pid(fleet.home) == first


def test_a_fixed_port_is_left_before_it_is_taken_and_comes_back(
    fleet: Fleet, free_port: Callable[[], int]
) -> None:
    port = free_port()
    fleet.run(say="one", port=port)
    assert fleet.complete().url == f"http://127.0.0.1:{port}"
    fleet.run(say="two", port=port)
    fleet.settled()
    assert fleet.ask()["say"] == "two"
    fleet.run("echo", "three", "--exit-code", "78", port=port)
    fleet.wait(lambda seen: seen.failed and seen.ready)
    assert fleet.ask()["say"] == "two"


def test_a_taken_port_is_named_and_taken_over_once_it_is_free(
    fleet: Fleet, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        fleet.run(say="one", port=port)
        status = fleet.wait(lambda seen: seen.failed)
        assert f"port {port} is taken by pid {os.getpid()} (" in str(status.failed)
        assert status.pid is None
    assert fleet.complete().failed is None


def test_a_unix_socket(fleet: Fleet) -> None:
    fleet.run(say="one", listen="uds")
    status = fleet.complete()
    assert status.url == f"unix://{fleet.home.socket('echo')}"
    fleet.run(say="two", listen="uds")
    fleet.settled()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(fleet.home.socket("echo")))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b'"say": "two"' in b"".join(iter(lambda: client.recv(65536), b""))


def test_no_replicas_stops_and_a_deleted_workload_is_forgotten(fleet: Fleet) -> None:
    fleet.run(say="one")
    first = fleet.complete().pid
    assert first is not None
    workload = Workload("echo", fleet.status().history[-1].template)
    fleet.files.apply(replace(workload, replicas=0))
    assert fleet.complete().url is None
    assert gone(first)
    fleet.files.apply(workload)
    second = fleet.complete().pid
    assert second is not None
    fleet.files.delete("echo")
    wait_until(lambda: fleet.files.status("echo") is None)
    assert gone(second)


def test_a_process_that_ignores_sigterm_is_killed_after_its_drain(fleet: Fleet) -> None:
    fleet.run("echo", "one", "--ignore-term", drain_seconds=0.5)
    pid = fleet.complete().pid
    assert pid is not None
    fleet.files.delete("echo")
    wait_until(lambda: gone(pid))


def test_a_bad_file_is_named_and_what_runs_goes_on(fleet: Fleet) -> None:
    fleet.run(say="one")
    old = fleet.complete()
    good = read_json(fleet.home.workload("echo"))
    path = fleet.home.workload("echo")
    path.write_text(json.dumps({**good, "replicas": 7}))
    seen = json.loads(wait_until(lambda: _with(fleet.home.status("echo"), "replicas = 7")))
    assert (seen["pid"], seen["ready"]) == (old.pid, True)
    assert "expected 0 or 1" in seen["failed"]
    write_json(path, {**good, "generation": good["generation"] + 1})
    assert fleet.wait(lambda status: status.complete and status.failed is None).pid == old.pid
    (fleet.home.workloads / "new.json").write_text("{")
    wait_until(lambda: _with(fleet.home.status("new"), "not valid JSON"))
    (fleet.home.workloads / "new.json").unlink()
    wait_until(lambda: not fleet.home.status("new").exists())


def _with(path: Path, text: str) -> str:
    found = path.read_text() if path.exists() else ""
    return found if text in found else ""


def test_sigterm_stops_everything_in_order_and_the_next_start_goes_on(fleet: Fleet) -> None:
    for name, order in (("base", "1"), ("middle", "2")):
        fleet.run(name, name, labels={"proa.dev/order": order})
    fleet.run("model", "model")
    pids = {name: fleet.complete(name).pid for name in ("base", "middle", "model")}
    assert stop_supervisor(fleet.home, seconds=20)
    assert all(gone(pid) for pid in pids.values() if pid)
    log = fleet.home.log("supervisor").read_text()
    ends = [log.index(f"{name}: process {pids[name]}:") for name in ("model", "middle", "base")]
    assert ends == sorted(ends)
    assert not fleet.status("model").ready
    assert not stop_supervisor(fleet.home, seconds=1)
    ensure_supervisor(fleet.home)
    for name in pids:
        assert fleet.complete(name).pid != pids[name]
        assert fleet.ask(name)["say"] == name


def test_down_after_a_killed_supervisor_leaves_nothing_running(fleet: Fleet) -> None:
    fleet.run("a", "a")
    fleet.run("b", "b")
    pids = [fleet.complete(name).pid for name in ("a", "b")]
    fleet.kill_supervisor()
    done = down(fleet.home)
    assert done.stopped == ("a", "b")
    assert done.was_running
    assert all(gone(pid) for pid in pids if pid)
    assert fleet.home.workloads in done.kept
    again = down(fleet.home)
    assert (again.stopped, again.was_running) == ((), False)


def test_processes_do_not_outlive_their_home(fleet: Fleet) -> None:
    fleet.run("a", "a")
    pid, supervisor = fleet.complete("a").pid, supervisor_pid(fleet.home)
    assert pid is not None
    assert supervisor is not None
    shutil.rmtree(fleet.home.root)
    wait_until(lambda: gone(pid) and gone(supervisor))


def test_a_process_is_never_taken_for_another_with_its_pid(fleet: Fleet) -> None:
    """A status that names a living pid of somebody else: here this test's own."""
    fleet.run(say="one")
    old = fleet.complete().pid
    assert old is not None
    fleet.kill_supervisor()
    path = fleet.home.status("echo")
    value = read_json(path)
    value["processes"]["serving"]["process"]["pid"] = os.getpid()
    write_json(path, value)
    os.kill(old, signal.SIGKILL)
    ensure_supervisor(fleet.home)
    status = fleet.wait(lambda seen: seen.ready and seen.pid != os.getpid())
    assert status.restarts == 1


def test_a_supervisor_killed_at_any_moment_never_doubles_a_process(fleet: Fleet) -> None:
    """Killed again and again while updates, crashes and starts are under way."""
    moments = random.Random(7)
    mark = f"mark-{os.getpid()}-{fleet.home.root.parent.name}"
    for number in range(8):
        for name in ("a", "b", "c"):
            fleet.run(name, f"{mark}-{name}-{number}")
        threading.Event().wait(moments.uniform(0.0, 0.4))  # the moment is what is tried here
        fleet.kill_supervisor()
        ensure_supervisor(fleet.home)
    for name in ("a", "b", "c"):
        fleet.settled(name)
    wanted = sorted(f"{mark}-{name}-7" for name in ("a", "b", "c"))
    assert sorted(_saying(mark)) == wanted


def _saying(mark: str) -> list[str]:
    """What the echo servers of this machine say whose argument begins with `mark`."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parts = (folder / "cmdline").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if "--say" in parts and parts[parts.index("--say") + 1].startswith(mark):
            found.append(parts[parts.index("--say") + 1])
    return found
