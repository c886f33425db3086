"""What the supervisor knows about one workload: `status/NAME.json`, its only memory.

Everything needed to adopt living processes after a restart of the supervisor is in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from proa.embedded.workload import Template, parse_template
from proa.errors import InvalidInput

__all__ = ["HISTORY", "Instance", "ProcessId", "Record", "Revision", "parse_record"]

SCHEMA_VERSION: Final = 1
HISTORY: Final = 10
"""How many templates of a workload are kept for undo."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for ever: a pid alone is given out again.

    Attributes:
        boot: the kernel's boot id.
        ticks: clock ticks from boot to the process's start (field 22 of /proc/PID/stat).
    """

    boot: str
    pid: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a workload, living or due to be started.

    Attributes:
        serial: distinguishes the instances of a workload.
        port: the TCP port it was given, once it was started.
        url: where it answers; None before its first start or when it does not listen.
        started: epoch seconds of the present process's start.
        ready: whether its last probe said so.
        warm: whether the present process was ready at least once.
        served: whether any process of this instance was ready at least once.
        exits: ends in a row without a stretch of quiet running between them.
        due: epoch seconds before which it is not started (again).
        parked: stopped on purpose (no replicas, platform down).
        stop_at: draining: epoch seconds at which SIGTERM is due.
        kill_at: draining: SIGTERM was sent, SIGKILL is due then.
    """

    serial: int
    generation: int
    template: Template
    due: float
    port: int | None = None
    url: str | None = None
    process: ProcessId | None = None
    started: float | None = None
    ready: bool = False
    warm: bool = False
    served: bool = False
    exits: int = 0
    parked: bool = False
    stop_at: float | None = None
    kill_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        value = {name: getattr(self, name) for name in _PLAIN}
        process = self.process
        value["template"] = self.template.to_json()
        value["process"] = process and {
            "boot": process.boot,
            "pid": process.pid,
            "ticks": process.ticks,
        }
        return value


_PLAIN: Final = (
    *("serial", "generation", "due", "port", "url", "started", "ready", "warm", "served"),
    *("exits", "parked", "stop_at", "kill_at"),
)


@dataclass(frozen=True, slots=True)
class Revision:
    """A template that was desired once, under the generation that brought it."""

    generation: int
    template: Template

    def to_json(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "release": self.template.release,
            "template": self.template.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Record:
    """The observed state of one workload.

    Attributes:
        serving: what has or had the traffic; None before the first start.
        updating: the new process of a rolling update under way.
        draining: processes on their way out.
        observed_generation: the desired generation last seen.
        restarts: unwanted ends of the serving process since it took over.
        failed: one sentence, or None.
        failed_generation: an update that was given up; not tried again.
        history: oldest first, the desired one last.
        serial: the last one given out.
    """

    name: str
    serving: Instance | None = None
    updating: Instance | None = None
    draining: tuple[Instance, ...] = ()
    observed_generation: int = 0
    restarts: int = 0
    failed: str | None = None
    failed_generation: int | None = None
    history: tuple[Revision, ...] = ()
    serial: int = 0

    def instances(self) -> tuple[Instance, ...]:
        """Every instance, the serving one first."""
        return tuple(
            item for item in (self.serving, self.updating, *self.draining) if item is not None
        )

    def replace_instance(self, changed: Instance) -> Record:
        """The same record with the instance of the same serial changed."""
        if self.serving is not None and self.serving.serial == changed.serial:
            return replace(self, serving=changed)
        if self.updating is not None and self.updating.serial == changed.serial:
            return replace(self, updating=changed)
        draining = tuple(
            changed if item.serial == changed.serial else item for item in self.draining
        )
        return replace(self, draining=draining)

    def to_json(self) -> dict[str, Any]:
        """The content of the status file: first what readers want, then the supervisor's own."""
        serving = self.serving
        process = serving.process if serving else None
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "generation": serving.generation if serving else 0,
            "observed_generation": self.observed_generation,
            "release": serving.template.release if serving else None,
            "url": serving.url if serving and not serving.parked else None,
            "ready": bool(serving and serving.ready),
            "pid": process.pid if process else None,
            "started_at": _time(serving.started) if serving and process else None,
            "restarts": self.restarts,
            "failed": self.failed,
            "failed_generation": self.failed_generation,
            "history": [revision.to_json() for revision in self.history],
            "serial": self.serial,
            "processes": {
                "serving": serving and serving.to_json(),
                "updating": self.updating and self.updating.to_json(),
                "draining": [item.to_json() for item in self.draining],
            },
        }


def _time(epoch: float | None) -> str | None:
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def parse_record(value: object, *, where: str) -> Record:
    """Read the content of a status file.

    Raises:
        InvalidInput: it was not written by this version of the supervisor.
    """
    try:
        return _record(value, where)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{where}: not a status of version {SCHEMA_VERSION}: {type(error).__name__} {error}"
        ) from error


def _record(value: Any, where: str) -> Record:
    if value["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version = {value['schema_version']!r}")
    processes = value["processes"]
    return Record(
        name=str(value["name"]),
        serving=_instance(processes["serving"], where),
        updating=_instance(processes["updating"], where),
        draining=tuple(
            item
            for item in (_instance(each, where) for each in processes["draining"])
            if item is not None
        ),
        observed_generation=int(value["observed_generation"]),
        restarts=int(value["restarts"]),
        failed=value["failed"],
        failed_generation=value["failed_generation"],
        history=tuple(
            Revision(int(item["generation"]), parse_template(item["template"], where=where))
            for item in value["history"]
        ),
        serial=int(value["serial"]),
    )


def _instance(value: Mapping[str, Any] | None, where: str) -> Instance | None:
    if value is None:
        return None
    fields = {name: value[name] for name in _PLAIN}
    process = value["process"]
    return Instance(
        **fields,
        template=parse_template(value["template"], where=where),
        process=process and ProcessId(**process),
    )
