"""What the routes name is not ended, and times written before a clock was set back end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proa.embedded.files import write_json
from proa.embedded.home import Home
from proa.embedded.plan import Fact, Start, plan, run_on
from proa.embedded.record import Instance, ProcessId, Record
from proa.embedded.routed import RoutedUrls
from proa.embedded.workload import Template, Workload
from proa.embedded.workloads import WorkloadFiles
from proa.errors import Conflict

OLD = Template(command=("old",), settle_seconds=3.0, drain_seconds=20.0)
NEW = Template(command=("new",), settle_seconds=3.0, drain_seconds=20.0)


def running(serial: int, template: Template, **changes: object) -> Instance:
    item = Instance(
        serial,
        serial,
        template,
        due=0.0,
        port=9000 + serial,
        url=f"http://127.0.0.1:{9000 + serial}",
        process=ProcessId("boot", serial, serial),
        started=0.0,
        ready=True,
        warm=True,
        served=True,
    )
    return replace(item, **changes)


def alive(record: Record) -> dict[int, Fact]:
    return {item.serial: Fact(alive=True, ready=True) for item in record.instances()}


def signals(
    desired: Workload | None, record: Record, now: float, routed: frozenset[str] | None
) -> tuple[Record, list[str]]:
    done = plan(desired, record, now=now, facts=alive(record), routed=routed)
    return done.record, [type(a).__name__ for a in done.actions if not isinstance(a, Start)]


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_a_process_is_not_ended_while_the_routes_name_it(how: str) -> None:
    url = "http://127.0.0.1:9001"
    if how == "replaced":
        record = Record("m", serving=running(1, OLD), updating=running(2, NEW), serial=2)
        desired = Workload("m", NEW, generation=2)
    else:
        record, desired = Record("m", serving=running(1, OLD), serial=1), None
    for second in range(100, 200):  # the controller is away
        record, sent = signals(desired, record, float(second), frozenset({url}))
        assert sent == [], second
    ended = None
    for second in range(200, 210):  # it is back and its routes name it no more
        record, sent = signals(desired, record, float(second), frozenset())
        ended = second if sent == ["Terminate"] and ended is None else ended
    assert ended is not None
    assert 200 < ended <= 203, "whoever routes there has had time to read the routes"


def test_everything_is_ended_at_once_when_the_platform_stops() -> None:
    record = Record("m", serving=running(1, OLD), serial=1)
    _, sent = signals(None, record, 100.0, None)
    assert sent == ["Terminate"]


def test_a_drain_ends_with_a_kill_that_the_routes_do_not_stop() -> None:
    item = running(1, OLD, stop_at=0.0, kill_at=50.0)
    record = Record("m", draining=(item,), serial=1)
    _, sent = signals(None, record, 60.0, frozenset({"http://127.0.0.1:9001"}))
    assert sent == ["Kill"]


def test_times_from_before_a_clock_was_set_back_are_not_waited_for() -> None:
    hours = 7200.0
    waiting = running(1, OLD, process=None, due=hours, started=hours)
    leaving = running(2, NEW, stop_at=hours, kill_at=hours)
    record = run_on(Record("m", serving=waiting, draining=(leaving,), serial=2), 0.0)
    assert record.serving is not None
    assert record.serving.due <= 60
    assert record.serving.started == 0.0
    assert (record.draining[0].stop_at, record.draining[0].kill_at) == (3.0, 20.0)
    assert run_on(record, 0.0) == record


def test_routes_are_read_when_they_change_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    routes = RoutedUrls(path)
    assert routes.read() == frozenset()
    track = {"release": "m/1", "url": "http://127.0.0.1:1", "ready": True, "weight": 100}
    write_json(path, {"generation": 1, "models": {"m": {"tracks": {"champion": track}}}})
    assert routes.read() == {"http://127.0.0.1:1"}
    path.write_text('{"models": [')
    assert routes.read() == {"http://127.0.0.1:1"}
    path.write_text('{"models": 3}')
    assert routes.read() == {"http://127.0.0.1:1"}
    path.unlink()
    assert routes.read() == frozenset()


def test_a_write_based_on_an_older_template_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.create()
    files = WorkloadFiles(home)
    first = files.apply(Workload("m", OLD), after=0)
    second = files.apply(Workload("m", NEW), after=first)
    with pytest.raises(Conflict, match="somebody else changed it") as caught:
        files.apply(Workload("m", OLD), after=first)
    assert caught.value.code == "template_changed"
    assert files.apply(Workload("m", OLD), after=second) == second + 1
