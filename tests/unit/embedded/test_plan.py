"""The supervisor's rule, against a simulated machine: processes here are numbers in a dict."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.embedded.plan import (
    CONFIG_EXIT,
    Fact,
    Kill,
    Remove,
    Start,
    Terminate,
    back_off,
    plan,
    shares_address,
)
from proa.embedded.record import HISTORY, Instance, ProcessId, Record, parse_record
from proa.embedded.workload import Template, Workload


@dataclass
class Body:
    """A simulated process."""

    started: float
    template: Template
    asked_to_stop: float | None = None


@dataclass
class Machine:
    """Runs `plan` against simulated processes, as the supervisor does against real ones.

    What a process does stands in its command: `good`, `slow` (ready after 2 s), `never` (is never
    ready), `crash` (ends before it is ready), `config` (ends with 78), `deaf` (ignores SIGTERM).
    """

    record: Record = field(default_factory=lambda: Record("model"))
    now: float = 1000.0
    pids: int = 0
    living: dict[int, Body] = field(default_factory=dict)
    signals: list[tuple[float, str, str]] = field(default_factory=list)
    gone: bool = False

    def facts(self) -> dict[int, Fact]:
        found = {}
        for item in self.record.instances():
            if item.process is None:
                continue
            body = self.living.get(item.process.pid)
            if body is None:
                code = CONFIG_EXIT if item.template.command[0] == "config" else 1
                found[item.serial] = Fact(alive=False, code=code, note=f"exit code {code}")
            else:
                found[item.serial] = Fact(alive=True, ready=self.is_ready(body))
        return found

    def is_ready(self, body: Body) -> bool:
        kind = body.template.command[0]
        age = self.now - body.started
        return body.asked_to_stop is None and (
            kind in ("good", "deaf") or (kind == "slow" and age >= 2.0)
        )

    def tick(self, desired: Workload | None, *, seconds: float = 0.1) -> None:
        self.now += seconds
        for pid, body in list(self.living.items()):
            kind = body.template.command[0]
            stopping = body.asked_to_stop is not None and kind != "deaf"
            if stopping or (kind in ("crash", "config") and self.now > body.started):
                del self.living[pid]
        before = self.record
        result = plan(desired, self.record, now=self.now, facts=self.facts())
        self.record = result.record
        by_serial = {item.serial: item for item in self.record.instances()}
        for action in result.actions:
            if isinstance(action, Remove):
                self.gone = True
            elif isinstance(action, Start):
                self.start(by_serial[action.serial])
            else:
                self.signal(action, by_serial[action.serial])
        if self.record is not before and self.record != before:
            # Through JSON, as if the supervisor were killed and started again at every change.
            self.record = parse_record(json.loads(json.dumps(self.record.to_json())), where="x")
        self.check()

    def start(self, item: Instance) -> None:
        assert item.process is None
        for other in self.living.values():
            assert not shares_address(other.template, item.template), "two on one address"
        self.pids += 1
        self.living[self.pids] = Body(self.now, item.template)
        process = ProcessId("boot", self.pids, self.pids)
        started = replace(item, process=process, started=self.now, ready=False, warm=False)
        self.record = self.record.replace_instance(started)

    def signal(self, action: Terminate | Kill, item: Instance) -> None:
        assert item.process is not None
        kind = "TERM" if isinstance(action, Terminate) else "KILL"
        self.signals.append((self.now, kind, item.template.command[1]))
        body = self.living.get(item.process.pid)
        if body is None:
            return
        if kind == "KILL":
            del self.living[item.process.pid]
        elif body.asked_to_stop is None:
            body.asked_to_stop = self.now

    def check(self) -> None:
        """What must hold at every moment."""
        known = {item.process.pid for item in self.record.instances() if item.process}
        assert set(self.living) <= known, "a process that nobody remembers"
        taking = [item for item in (self.record.serving, self.record.updating) if item]
        assert len({item.serial for item in self.record.instances()}) == len(
            self.record.instances()
        )
        assert len([item for item in taking if item.process]) <= 2
        for item in taking:
            body = self.living.get(item.process.pid) if item.process else None
            assert body is None or body.asked_to_stop is None, "stopped but still in use"
        assert len(self.record.history) <= HISTORY

    def run(self, desired: Workload | None, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.tick(desired)

    @property
    def serving_pid(self) -> int | None:
        serving = self.record.serving
        return serving.process.pid if serving and serving.process else None

    @property
    def serving_says(self) -> str | None:
        serving = self.record.serving
        return serving.template.command[1] if serving and serving.ready else None


def workload(
    kind: str, say: str = "a", *, generation: int = 1, replicas: int = 1, port: int | None = None
) -> Workload:
    template = Template(
        command=(kind, say),
        port=port,
        startup_seconds=5.0,
        drain_seconds=2.0,
        settle_seconds=1.0,
    )
    return Workload("model", template, replicas=replicas, generation=generation)


def test_a_first_start_becomes_ready() -> None:
    machine = Machine()
    machine.run(workload("slow"), 3)
    assert machine.serving_says == "a"
    assert (machine.record.observed_generation, machine.record.restarts) == (1, 0)
    assert machine.signals == []


def test_a_rolling_update_starts_first_then_stops_the_old_one_after_it_has_settled() -> None:
    machine = Machine()
    machine.run(workload("good", "old"), 1)
    old = machine.serving_pid
    begun = machine.now
    machine.run(workload("slow", "new", generation=2), 1.5)
    assert (machine.serving_says, machine.serving_pid) == ("old", old)
    machine.run(workload("slow", "new", generation=2), 3.5)
    assert machine.serving_says == "new"
    assert list(machine.living) == [machine.serving_pid]
    ((at, signal, say),) = machine.signals
    assert (signal, say) == ("TERM", "old")
    assert at - begun >= 3.0, "2 s until the new one was ready, 1 s to settle"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("never", "generation 2 was not ready within 5 s"),
        ("crash", "generation 2 ended 3 times in a row: exit code 1"),
        ("config", "generation 2 ended once: exit code 78"),
    ],
)
@pytest.mark.parametrize("port", [None, 8080])
def test_a_bad_update_leaves_the_old_one_serving(kind: str, message: str, port: int | None) -> None:
    machine = Machine()
    machine.run(workload("good", "old", port=port), 1)
    old = machine.serving_pid
    machine.run(workload(kind, "new", generation=2, port=port), 10)
    assert machine.serving_says == "old"
    assert machine.record.failed == message
    assert machine.record.failed_generation == machine.record.observed_generation == 2
    assert len(machine.living) == 1
    if port is None:
        assert machine.serving_pid == old, "it was never touched"
        assert all(say == "new" for _, _, say in machine.signals)


def test_a_failed_update_is_tried_again_under_a_new_generation_only() -> None:
    machine = Machine()
    machine.run(workload("good", "old"), 1)
    machine.run(workload("config", "new", generation=2), 5)
    started = machine.pids
    machine.run(workload("config", "new", generation=2), 30)
    assert machine.pids == started
    machine.run(workload("config", "new", generation=3), 5)
    assert machine.pids == started + 1
    assert machine.serving_says == "old"


def test_undo_of_a_failed_update_starts_nothing() -> None:
    machine = Machine()
    machine.run(workload("good", "old"), 1)
    machine.run(workload("never", "new", generation=2), 10)
    old, started = machine.serving_pid, machine.pids
    machine.run(workload("good", "old", generation=3), 1)
    assert (machine.serving_pid, machine.pids) == (old, started)
    assert machine.record.failed is None
    assert machine.record.serving is not None
    assert machine.record.serving.generation == 3


def test_an_update_replaced_by_another_on_its_way_ends_first() -> None:
    machine = Machine()
    machine.run(workload("good", "old"), 1)
    machine.run(workload("never", "middle", generation=2), 1)
    machine.run(workload("good", "new", generation=3), 4)
    assert machine.serving_says == "new"
    assert [say for _, _, say in machine.signals] == ["middle", "old"]


def test_a_fixed_address_is_left_before_it_is_taken() -> None:
    machine = Machine()
    machine.run(workload("good", "old", port=8080), 1)
    machine.run(workload("slow", "new", generation=2, port=8080), 4)
    assert machine.serving_says == "new"  # Machine.start checks that no two shared the port


def test_a_crash_restarts_with_growing_back_off() -> None:
    machine = Machine()
    machine.run(workload("good"), 1)
    waits = []
    for _ in range(4):
        machine.living.clear()
        died, started = machine.now, machine.pids
        while machine.pids == started:
            machine.tick(workload("good"))
        waits.append(round(machine.now - died, 1))
        machine.tick(workload("good"))
    assert waits == sorted(waits)
    assert waits[-1] >= 1.6
    assert machine.record.restarts == 4
    machine.run(workload("good"), 40)
    machine.living.clear()
    machine.run(workload("good"), 0.5)
    assert machine.serving_says == "a", "after quiet running the back-off is short again"


@pytest.mark.parametrize(
    ("exits", "code", "seconds"),
    [(1, 1, 0.2), (2, 1, 0.4), (6, -9, 6.4), (7, None, 10.0), (400, 1, 10.0), (1, 78, 60.0)],
)
def test_back_off(exits: int, code: int | None, seconds: float) -> None:
    assert back_off(exits, code) == pytest.approx(seconds)


def test_no_replicas_stops_and_one_replica_starts_again() -> None:
    machine = Machine()
    machine.run(workload("good"), 1)
    machine.run(workload("good", generation=2, replicas=0), 1)
    assert machine.living == {}
    assert machine.record.restarts == 0
    machine.run(workload("good", generation=3), 1)
    assert machine.serving_says == "a"


def test_after_a_stop_the_failed_update_is_not_what_starts() -> None:
    machine = Machine()
    machine.run(workload("good", "old"), 1)
    machine.run(workload("never", "new", generation=2), 10)
    machine.run(workload("never", "new", generation=2, replicas=0), 1)
    assert machine.living == {}
    machine.run(workload("never", "new", generation=2), 1)
    assert machine.serving_says == "old"


def test_a_deleted_workload_is_drained_and_forgotten() -> None:
    machine = Machine()
    machine.run(workload("deaf"), 1)
    machine.run(None, 3)
    assert machine.living == {}
    assert machine.gone
    assert [signal for _, signal, _ in machine.signals] == ["TERM", "KILL"]


def test_a_start_that_never_serves_is_replaced_without_waiting_for_it() -> None:
    machine = Machine()
    machine.run(workload("never"), 2)
    machine.run(workload("good", "b", generation=2), 1)
    assert machine.serving_says == "b"


def test_a_start_that_takes_too_long_is_tried_again_and_said() -> None:
    machine = Machine()
    machine.run(workload("never"), 8)
    assert machine.pids == 2
    assert machine.record.failed == "generation 1 was not ready within 5 s"


def test_the_same_again_ends_a_back_off() -> None:
    machine = Machine()
    machine.run(workload("config"), 2)
    assert machine.pids == 1
    machine.run(workload("config", generation=2), 1)
    assert machine.pids == 2


def test_a_refused_start_counts_as_an_end() -> None:
    record = plan(workload("good"), Record("model"), now=1.0, facts={}).record
    assert record.serving is not None
    facts = {record.serving.serial: Fact(alive=False, note="port 8080 is taken by pid 7 (x)")}
    for step in range(3):
        record = plan(workload("good"), record, now=2.0 + 20 * step, facts=facts).record
    assert record.failed == "generation 1 ended 3 times in a row: port 8080 is taken by pid 7 (x)"


def test_history_moves_a_template_that_comes_back_to_the_end() -> None:
    machine = Machine()
    for generation, say in enumerate(["a", "b", "c", "a"], start=1):
        machine.run(workload("good", say, generation=generation), 3)
    assert [(item.generation, item.template.command[1]) for item in machine.record.history] == [
        (2, "b"),
        (3, "c"),
        (4, "a"),
    ]
    for generation in range(5, 25):
        machine.run(workload("good", f"n{generation}", generation=generation), 0.2)
    assert len(machine.record.history) == HISTORY


KINDS = st.sampled_from(["good", "slow", "never", "crash", "config", "deaf"])
STEPS = st.lists(
    st.tuples(
        KINDS,
        st.sampled_from("abc"),
        st.sampled_from([1, 1, 1, 0]),
        st.sampled_from([None, None, 8080, 9090]),
        st.sampled_from([0.1, 0.5, 3.0, 12.0]),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.booleans())
def test_whatever_happened_it_ends_where_it_is_told_to(
    steps: list[tuple[str, str, int, int | None, float, bool]], deleted: bool
) -> None:
    machine = Machine()
    generation = 0
    for kind, say, replicas, port, seconds, disaster in steps:
        generation += 1
        desired = workload(kind, say, generation=generation, replicas=replicas, port=port)
        machine.run(desired, seconds)
        if disaster:  # a reboot: everything is gone at once
            machine.living.clear()
            machine.tick(desired)
    if deleted:
        machine.run(None, 10)
        assert machine.gone
        assert machine.living == {}
        return
    final = workload("good", "final", generation=generation + 1)
    machine.run(final, 30)
    assert machine.serving_says == "final"
    assert list(machine.living) == [machine.serving_pid]
    assert machine.record.observed_generation == generation + 1
    assert (machine.record.updating, machine.record.failed) == (None, None)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(KINDS, st.sampled_from([0.1, 1.0, 8.0])), max_size=6))
def test_what_serves_is_never_stopped_before_its_successor_is_ready(
    steps: list[tuple[str, float]],
) -> None:
    """With free ports: once ready, at every later moment something is ready."""
    machine = Machine()
    machine.run(workload("good", "first"), 1)
    generation = 1
    for kind, seconds in steps:
        if kind == "crash":
            kind = "never"  # a process that dies after it served is another matter
        generation += 1
        desired = workload(kind, f"g{generation}", generation=generation)
        for _ in range(int(seconds * 10)):
            machine.tick(desired)
            assert any(machine.is_ready(body) for body in machine.living.values())
            assert machine.record.serving is not None
            assert machine.record.serving.ready
