"""The files of a home: state files, workloads by name, ports."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home, find_home
from proa.embedded.log import last_words, rotate
from proa.embedded.platform_file import Platform, read_platform, write_platform
from proa.embedded.ports import PortPlan, find_free, holder_of, is_free
from proa.embedded.process import clean_environment, identify
from proa.embedded.record import Instance, ProcessId, Record, Revision
from proa.embedded.workload import Template, Workload
from proa.embedded.workloads import WorkloadFiles
from proa.errors import Conflict, InvalidInput, NotFound


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def say(text: str) -> Workload:
    return Workload("model", Template(("say", text)))


def observe(
    home: Home,
    workload: Workload,
    *,
    generation: int,
    serves: bool = True,
    process: ProcessId | None = None,
) -> None:
    """What the supervisor would write once it saw this."""
    path = home.status("model")
    before = WorkloadFiles(home).status("model")
    history = tuple(
        item for item in (before.history if before else ()) if item.template != workload.template
    )
    process = process or identify(os.getpid())  # ready only while its process lives
    serving = Instance(1, generation, workload.template, 0.0, process=process, ready=serves)
    record = Record(
        "model",
        serving=serving,
        observed_generation=generation,
        history=(*history, Revision(generation, workload.template)),
    )
    write_json(path, record.to_json())


def test_state_files_are_private_whole_and_leave_nothing_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": [1, None, "é"]})
    assert read_json(path) == {"a": [1, None, "é"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InvalidInput, match=r"state\.json: not plain JSON"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(InvalidInput, match="not plain JSON"):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": [1, None, "é"]}, "a refused write changes nothing"
    assert [item.name for item in tmp_path.iterdir()] == ["state.json"]
    with pytest.raises(NotFound, match="no file"):
        read_json(tmp_path / "other.json")
    path.write_text('{"a": ')
    with pytest.raises(InvalidInput, match=r"state\.json: not valid JSON: .*line 1"):
        read_json(path)


def test_a_home_is_private_and_made_twice_without_harm(home: Home) -> None:
    home.keys.chmod(0o755)
    home.create()
    for folder in (home.root, home.keys, home.ledger.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (home.root / "file").touch()
    with pytest.raises(InvalidInput, match="expected a folder which this user may write"):
        Home(home.root / "file").create()
    with pytest.raises(InvalidInput, match="expected an absolute path"):
        Home(Path("here"))


def test_the_sockets_of_a_deep_home_fit_into_a_socket_address(tmp_path: Path) -> None:
    deep = Home(tmp_path / ("deep" * 20))
    sockets = deep.sockets
    try:
        deep.create().create_sockets()
        assert sockets == Home(deep.root).sockets, "the same for every process"
        assert sockets != Home(tmp_path / ("deep" * 21)).sockets
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(deep.socket("engine-eng-0123456789abcdef")))
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def test_which_home_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_home(None, {}).root == tmp_path / ".proa"
    assert find_home(None, {"PROA_HOME": "/a"}).root == Path("/a")
    assert find_home(Path("b"), {"PROA_HOME": "/a"}).root == tmp_path / "b"


def test_the_same_again_is_the_same_generation(home: Home) -> None:
    files = WorkloadFiles(home)
    assert files.status("model") is None
    assert files.apply(say("a")) == 1
    assert files.apply(replace(say("a"), generation=77)) == 1
    assert files.apply(say("b")) == 2
    assert files.apply(replace(say("b"), replicas=0)) == 3
    assert files.apply(replace(say("b"), replicas=0), again=True) == 4
    with pytest.raises(InvalidInput, match="workload model: command = "):
        files.apply(Workload("model", Template(())))


def test_a_workload_that_comes_back_counts_on(home: Home) -> None:
    files = WorkloadFiles(home)
    files.apply(say("a"))
    files.apply(say("b"))
    observe(home, say("b"), generation=2)
    files.delete("model")
    files.delete("model")
    status = files.status("model")
    assert status is not None
    assert (status.desired_generation, status.complete) == (0, False)
    assert files.apply(say("c")) == 3


def test_many_at_once_each_get_their_own_generation(home: Home) -> None:
    files = WorkloadFiles(home)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: files.apply(say(str(n))), range(40)))
    assert sorted(found) == list(range(1, 41))


def test_undo_goes_back_and_twice_is_back_again(home: Home) -> None:
    files = WorkloadFiles(home)
    with pytest.raises(NotFound, match="no workload model"):
        files.undo("model")
    files.apply(say("a"))
    with pytest.raises(Conflict, match="no earlier template"):
        files.undo("model")
    observe(home, say("a"), generation=1)
    files.apply(say("b"))
    observe(home, say("b"), generation=2)
    for generation, expected in ((3, "a"), (4, "b"), (5, "a")):
        assert files.undo("model") == generation
        observe(home, say(expected), generation=generation)
        assert read_json(home.workload("model"))["command"] == ["say", expected]


def test_undo_of_what_the_supervisor_has_not_seen_yet(home: Home) -> None:
    files = WorkloadFiles(home)
    files.apply(say("a"))
    observe(home, say("a"), generation=1)
    files.apply(say("b"))
    files.undo("model")
    assert read_json(home.workload("model"))["command"] == ["say", "a"]


def test_complete_needs_the_desired_generation_ready(home: Home) -> None:
    files = WorkloadFiles(home)
    files.apply(say("a"))
    observe(home, say("a"), generation=1, serves=False)
    status = files.status("model")
    assert status is not None
    assert not status.complete
    observe(home, say("a"), generation=1)
    status = files.status("model")
    assert status is not None
    assert status.complete
    assert status.settled
    files.apply(say("b"))
    status = files.status("model")
    assert status is not None
    assert not status.complete


def test_what_a_dead_supervisor_wrote_about_a_dead_process_is_not_believed(home: Home) -> None:
    files = WorkloadFiles(home)
    files.apply(say("a"))
    observe(home, say("a"), generation=1, process=ProcessId("another boot", os.getpid(), 1))
    status = files.status("model")
    assert status is not None
    assert (status.ready, status.pid, status.complete) == (False, None, False)


def test_port_plans() -> None:
    assert PortPlan.parse([]).resolve(None) == PortPlan()
    plan = PortPlan.parse(["gateway=9000", "mlflow=9001"]).resolve(None)
    assert (plan.gateway, plan.mlflow, plan.engine) == (9000, 9001, 8081)
    again = PortPlan.parse(["mlflow=9002"], auto=True).resolve(plan)
    assert again == replace(plan, mlflow=9002), "known ports stay"
    free = PortPlan.parse([], auto=True).resolve(None)
    assert len(set(free.to_json().values())) == len(free.to_json())
    assert PortPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["gateway", "gateway=", "gateway=0", "gateway=65536", "x=80"])
def test_bad_ports_are_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=f"--port {text}: expected"):
        PortPlan.parse([text])


def test_one_port_for_two_parts_is_refused() -> None:
    with pytest.raises(InvalidInput, match="port 8080 is given to gateway and to mlflow"):
        PortPlan.parse(["mlflow=8080"]).resolve(None)


def test_a_taken_port_and_who_holds_it() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        holder = holder_of(port)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert str(holder).startswith(f"pid {os.getpid()} (")
    assert is_free(port)
    assert holder_of(port) is None
    first = find_free()
    assert find_free({first}) != first


def test_a_platform_is_read_back(home: Home) -> None:
    with pytest.raises(NotFound) as caught:
        read_platform(home)
    assert caught.value.hint == "proa up"
    platform = Platform(home=home, ports=PortPlan(), weights=Path("/w"), aliases={"a": "eng-1"})
    assert write_platform(platform)
    assert not write_platform(platform)
    assert read_platform(home) == platform
    assert platform.urls["gateway"] == "http://127.0.0.1:8080"
    home.platform_file.write_text('{"schema_version": 9}')
    with pytest.raises(InvalidInput, match=r"platform.json: .*schema_version = 9"):
        read_platform(home)


def test_the_environment_that_is_passed_on_holds_no_secrets() -> None:
    environ = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "OPENAI_API_KEY": "sk-1",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PROA_KEY": "proa_x",
        "PIP_INDEX_URL": "https://me:pass@index.example/simple",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "PYTHONPATH": "/somewhere",
    }
    assert clean_environment(environ) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
    }


def test_logs_are_cut_and_their_last_words_found(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert last_words(log) == ""
    assert not rotate(log)
    log.write_text("first\nsecond\n\n")
    assert last_words(log) == "second"
    assert last_words(log, since=log.stat().st_size) == ""
    with log.open("a") as appending:
        assert rotate(log, largest=5)
        assert (tmp_path / "a.log.1").read_text() == "first\nsecond\n\n"
        appending.write("third\n")
    assert log.read_text() == "third\n"
