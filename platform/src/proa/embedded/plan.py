"""The supervisor's rule: from what is desired and what is there, what to do next. Pure.

The embedded twin of a Deployment with maxSurge 1 and maxUnavailable 0: a new process starts beside
the old one, takes over once it is ready, and the old one drains. Where both need one address (a
fixed port, a unix socket) the old one stops first and comes back when the new one fails.

The same rule holds for a first start, a crash, a change in the middle of an update, an undo, a
stop and a restart of the supervisor: it is asked again at every tick and remembers nothing but
the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from proa.embedded.record import HISTORY, Instance, Record, Revision
from proa.embedded.workload import Template, Workload

__all__ = [
    "CONFIG_EXIT",
    "Action",
    "Fact",
    "Kill",
    "Plan",
    "Remove",
    "Start",
    "Terminate",
    "back_off",
    "plan",
    "run_on",
    "shares_address",
]

CONFIG_EXIT: Final = 78
"""EX_CONFIG of sysexits.h: the process says that trying again will not help."""
ATTEMPTS: Final = 3
"""Ends before ready after which an update is given up."""
_BACK_OFF_FIRST, _BACK_OFF_MOST, _BACK_OFF_CONFIG = 0.2, 10.0, 60.0
_QUIET_SECONDS: Final = 30.0
"""A process that lived this long starts again with the shortest back-off."""
_KILL_AGAIN_SECONDS: Final = 1.0
_PORT_ATTEMPTS: Final = 3
"""Ends in a row after which a chosen (not a fixed) port is given up: somebody else may hold it."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What was just seen of an instance that has a process.

    Attributes:
        alive: whether the process exists and is no zombie.
        ready: whether its readiness was last seen to be given.
        code: its exit code, when known; -9 means SIGKILL.
        note: how it ended, for people: exit code or signal, and its last words.
    """

    alive: bool
    ready: bool = False
    code: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Start the process of the instance `serial`."""

    serial: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send SIGTERM to the process of the instance `serial`."""

    serial: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to the process of the instance `serial` and to what it left behind."""

    serial: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing is desired and nothing runs: forget the workload."""


Action = Start | Terminate | Kill | Remove


@dataclass(frozen=True, slots=True)
class Plan:
    """The next record, and what to do: signals before it is stored, starts after that."""

    record: Record
    actions: tuple[Action, ...]


def plan(
    desired: Workload | None,
    record: Record,
    *,
    now: float,
    facts: Mapping[int, Fact],
    routed: frozenset[str] | None = None,
) -> Plan:
    """What to do now.

    Args:
        desired: the workload, or None when it was deleted.
        record: what is known so far.
        now: epoch seconds.
        facts: by serial, for every instance with a process, and for one whose start was refused
            since the last call (not alive, with a note).
        routed: URLs that somebody is still sent to: a process that answers at one is not ended
            until its settle time after the last mention; None when everything is to stop at once.
    """
    record = _see(record, now, facts)
    record = _promote(record, now)
    record = _judge(record, now, facts)
    record = _follow(desired, record, now, hurry=routed is None)
    record, signals = _signals(record, now, routed or frozenset())
    starts = tuple(Start(item.serial) for item in _due(record, now))
    if desired is None and not any(item.process for item in record.instances()):
        return Plan(record, (Remove(),))
    return Plan(record, (*signals, *starts))


def run_on(record: Record, now: float) -> Record:
    """A record whose times make sense at `now`: the clock may have been set back since."""

    def latest(until: float | None, seconds: float) -> float | None:
        return None if until is None else min(until, now + seconds)

    for item in record.instances():
        template = item.template
        mended = replace(
            item,
            due=min(item.due, now + _BACK_OFF_CONFIG),
            started=latest(item.started, 0.0),
            stop_at=latest(item.stop_at, template.settle_seconds),
            kill_at=latest(item.kill_at, template.drain_seconds),
        )
        record = record.replace_instance(mended)
    return record


def back_off(exits: int, code: int | None) -> float:
    """Seconds until the next start after `exits` ends in a row."""
    if code == CONFIG_EXIT:
        return _BACK_OFF_CONFIG
    return float(min(_BACK_OFF_MOST, _BACK_OFF_FIRST * 2 ** min(exits - 1, 16)))


def shares_address(one: Template, other: Template) -> bool:
    """Whether processes of the two templates cannot listen side by side (in one workload)."""
    if one.listen == other.listen == "uds":
        return True
    return one.listen == other.listen == "port" and one.port is not None and one.port == other.port


# ---- what happened ----------------------------------------------------------------------------


def _see(record: Record, now: float, facts: Mapping[int, Fact]) -> Record:
    """Take ends and readiness into the record."""
    serving, updating = record.serving, record.updating
    restarts, failed = record.restarts, record.failed
    fact = facts.get(serving.serial) if serving else None
    if serving is not None and fact is not None:
        if not fact.alive:
            restarts += 1
            serving = _ended(serving, now, fact)
            hopeless = serving.exits >= ATTEMPTS or fact.code == CONFIG_EXIT
            if hopeless and record.failed_generation is None:
                failed = _exit_message(serving, fact)
        else:
            serving = _probed(serving, fact)
            if serving.ready and record.failed_generation is None:
                failed = None
    fact = facts.get(updating.serial) if updating else None
    if updating is not None and fact is not None:
        updating = _probed(updating, fact) if fact.alive else _ended(updating, now, fact)
    draining = tuple(item for item in record.draining if facts[item.serial].alive)
    return replace(
        record,
        serving=serving,
        updating=updating,
        draining=draining,
        restarts=restarts,
        failed=failed,
    )


def _probed(item: Instance, fact: Fact) -> Instance:
    return replace(
        item,
        ready=fact.ready,
        warm=item.warm or fact.ready,
        served=item.served or fact.ready,
    )


def _ended(item: Instance, now: float, fact: Fact) -> Instance:
    quiet = item.started is not None and now - item.started >= _QUIET_SECONDS
    exits = 1 if quiet else item.exits + 1
    keep_port = item.served and exits % _PORT_ATTEMPTS != 0
    return replace(
        item,
        process=None,
        ready=False,
        warm=False,
        exits=exits,
        due=now + back_off(exits, fact.code),
        port=item.port if keep_port else None,
    )


def _exit_message(item: Instance, fact: Fact) -> str:
    times = "once" if item.exits == 1 else f"{item.exits} times in a row"
    return f"generation {item.generation} ended {times}: {fact.note}".rstrip(": ")


def _promote(record: Record, now: float) -> Record:
    """A new process that is ready takes over."""
    updating, old = record.updating, record.serving
    if updating is None or not updating.ready:
        return record
    record = replace(
        record, serving=updating, updating=None, restarts=0, failed=None, failed_generation=None
    )
    if old is None:
        return record
    return _drain(record, old, now + old.template.settle_seconds)


# ---- what failed ------------------------------------------------------------------------------


def _judge(record: Record, now: float, facts: Mapping[int, Fact]) -> Record:
    """Give up an update that does not become ready; end a start that takes too long."""
    updating, serving = record.updating, record.serving
    if updating is not None:
        reason = _hopeless(updating, now, facts.get(updating.serial))
        if reason:
            record = replace(
                _drain(replace(record, updating=None), updating, now),
                failed=reason,
                failed_generation=updating.generation,
            )
    if serving is not None and _late(serving, now):
        message = f"generation {serving.generation} {_late_words(serving)}"
        exits = serving.exits + 1
        again = replace(_stopped(serving, now + back_off(exits, None)), exits=exits)
        record = _drain(replace(record, serving=again, failed=message), serving, now)
    return record


def _stopped(item: Instance, due: float) -> Instance:
    return replace(item, process=None, ready=False, warm=False, port=None, due=due)


def _hopeless(item: Instance, now: float, fact: Fact | None) -> str | None:
    ended = fact is not None and not fact.alive
    if ended and fact is not None and (item.exits >= ATTEMPTS or fact.code == CONFIG_EXIT):
        return _exit_message(item, fact)
    if _late(item, now):
        return f"generation {item.generation} {_late_words(item)}"
    return None


def _late(item: Instance, now: float) -> bool:
    if item.process is None or item.warm or item.started is None:
        return False
    return now - item.started > item.template.startup_seconds


def _late_words(item: Instance) -> str:
    return f"was not ready within {item.template.startup_seconds:g} s"


# ---- what is desired --------------------------------------------------------------------------


def _follow(desired: Workload | None, record: Record, now: float, *, hurry: bool) -> Record:
    """Let the record take the shape that is desired."""
    if desired is not None:
        record = replace(record, observed_generation=desired.generation)
    if desired is None or desired.replicas == 0:
        parked = _park(record, desired, now)
        return _hurry(parked, now) if hurry else parked
    record = _remember(record, desired)
    serving = record.serving
    if serving is None:
        return _begin(record, desired, now)
    if serving.template == desired.template:
        return _keep(record, desired, now)
    if not serving.served or serving.parked:
        if record.failed_generation == desired.generation:
            return _revive(record, now)
        return _begin(_drain(replace(record, serving=None), serving, now), desired, now)
    if record.failed_generation == desired.generation:
        return _revive(record, now)
    return _update(record, desired, now)


def _park(record: Record, desired: Workload | None, now: float) -> Record:
    """Stop everything; remember the serving template for the next start."""
    serving, updating = record.serving, record.updating
    if updating is not None:
        record = _drain(replace(record, updating=None), updating, now)
    if serving is not None and not serving.parked:
        parked = replace(_stopped(serving, now), parked=True, exits=0)
        failed = record.failed if record.failed_generation is not None else None
        parts = replace(record, serving=parked, restarts=0, failed=failed)
        record = _drain(parts, serving, now)
    serving = record.serving
    if serving is not None and desired is not None and serving.template == desired.template:
        record = replace(record, serving=replace(serving, generation=desired.generation))
    return record


def _hurry(record: Record, now: float) -> Record:
    """Nothing waits any more for those who route to what drains."""
    hurried = (replace(item, stop_at=min(now, item.stop_at or now)) for item in record.draining)
    return replace(record, draining=tuple(hurried))


def _begin(record: Record, desired: Workload, now: float) -> Record:
    """Nothing serves: start what is desired at once."""
    if record.updating is not None:
        record = _drain(replace(record, updating=None), record.updating, now)
    record, fresh = _instance(record, desired, now)
    return replace(record, serving=fresh, restarts=0, failed=None, failed_generation=None)


def _keep(record: Record, desired: Workload, now: float) -> Record:
    """What is desired is what serves; an update on its way to something else ends."""
    assert record.serving is not None
    if record.updating is not None:
        record = _drain(replace(record, updating=None), record.updating, now)
    if record.failed_generation is not None:
        record = replace(record, failed=None, failed_generation=None)
    record = _revive(record, now)
    serving = record.serving
    assert serving is not None
    if serving.process is None and serving.generation != desired.generation:
        # The same, asked for once more: no back-off stands in the way of a person.
        serving = replace(serving, exits=0, due=now)
        record = replace(record, failed=None)
    return replace(record, serving=replace(serving, generation=desired.generation))


def _revive(record: Record, now: float) -> Record:
    serving = record.serving
    if serving is None or not serving.parked:
        return record
    return replace(record, serving=replace(serving, parked=False, due=now))


def _update(record: Record, desired: Workload, now: float) -> Record:
    """Start what is desired beside what serves."""
    serving, updating = record.serving, record.updating
    assert serving is not None
    if updating is not None and updating.template == desired.template:
        return replace(record, updating=replace(updating, generation=desired.generation))
    if updating is not None:
        record = _drain(replace(record, updating=None), updating, now)
    record, fresh = _instance(record, desired, now)
    record = replace(record, updating=fresh, failed=None, failed_generation=None)
    if shares_address(serving.template, desired.template) and serving.process is not None:
        # The address is the reason to stop first; whether it comes back is decided by `_due`.
        record = _drain(replace(record, serving=_stopped(serving, now)), serving, now)
    return record


def _instance(record: Record, desired: Workload, now: float) -> tuple[Record, Instance]:
    serial = record.serial + 1
    fresh = Instance(serial, desired.generation, desired.template, due=now)
    return replace(record, serial=serial), fresh


def _remember(record: Record, desired: Workload) -> Record:
    """As in a Deployment: a template that comes back moves to the end, under its new number."""
    history = record.history
    if history and history[-1].template == desired.template:
        return record
    others = tuple(item for item in history if item.template != desired.template)
    newest = Revision(desired.generation, desired.template)
    return replace(record, history=(*others, newest)[-HISTORY:])


# ---- what to do -------------------------------------------------------------------------------


def _drain(record: Record, item: Instance, stop_at: float) -> Record:
    """Put a process on its way out. The draining instance gets a serial of its own, because the
    one it came from may start another process."""
    if item.process is None:
        return record
    return replace(
        record,
        serial=record.serial + 1,
        draining=(
            *record.draining,
            replace(item, serial=record.serial + 1, ready=False, stop_at=stop_at),
        ),
    )


def _signals(
    record: Record, now: float, routed: frozenset[str]
) -> tuple[Record, tuple[Action, ...]]:
    draining: list[Instance] = []
    actions: list[Action] = []
    for item in record.draining:
        if item.kill_at is None and item.stop_at is not None and item.stop_at <= now:
            if item.url in routed:
                draining.append(replace(item, stop_at=now + item.template.settle_seconds))
                continue
            actions.append(Terminate(item.serial))
            draining.append(replace(item, kill_at=now + item.template.drain_seconds))
        elif item.kill_at is not None and item.kill_at <= now:
            actions.append(Kill(item.serial))
            draining.append(replace(item, kill_at=now + _KILL_AGAIN_SECONDS))
        else:
            draining.append(item)
    return replace(record, draining=tuple(draining)), tuple(actions)


def _due(record: Record, now: float) -> list[Instance]:
    serving, updating = record.serving, record.updating
    waiting = []
    if serving is not None and not (
        updating is not None and shares_address(serving.template, updating.template)
    ):
        waiting.append(serving)
    if updating is not None:
        waiting.append(updating)
    return [
        item
        for item in waiting
        if item.process is None
        and not item.parked
        and item.due <= now
        and not any(shares_address(item.template, other.template) for other in record.draining)
    ]
