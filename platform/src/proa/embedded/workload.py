"""A workload: what should run. The embedded twin of a Kubernetes Deployment with one replica.

The **template** is everything that decides how the process runs; a changed template is a rolling
update. `replicas` and `generation` stand beside it, as in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, cast, get_args

from proa.errors import InvalidInput

__all__ = ["Listen", "Template", "Workload", "parse_template", "parse_workload"]

Listen = Literal["port", "none", "uds"]
"""How a process is reached: a TCP port of the loopback interface, not at all, a unix socket."""

SCHEMA_VERSION: Final = 1
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET: Final = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Template:
    """How one process of a workload runs.

    Attributes:
        command: argv; `{host}`, `{port}` and `{socket}` are replaced. No secrets: other users can
            read a command line.
        env: added to a small set of harmless variables; paths of key files, never keys.
        cwd: working folder, absolute; None is the home.
        port: fixed TCP port; None lets the supervisor choose a free one for each process.
        ready: HTTP path which answers 2xx when the process may get traffic.
        release: `name/version@digest` that the process serves, for status and history.
        startup_seconds: how long a start may take before it counts as failed.
        drain_seconds: from SIGTERM to SIGKILL.
        settle_seconds: after the status names a new process's URL, how long the old one goes on
            serving before SIGTERM, so that those who route to it have moved.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    listen: Listen = "port"
    port: int | None = None
    ready: str = "/readyz"
    release: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    startup_seconds: float = 300.0
    drain_seconds: float = 20.0
    settle_seconds: float = 3.0

    @property
    def fixed_address(self) -> bool:
        """Whether two processes of this template cannot listen side by side."""
        return self.listen == "uds" or (self.listen == "port" and self.port is not None)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `parse_template` reads back to an equal value."""
        return {
            "command": list(self.command),
            "env": dict(self.env),
            "cwd": self.cwd,
            "listen": self.listen,
            "port": self.port,
            "ready": self.ready,
            "release": self.release,
            "labels": dict(self.labels),
            "startup_seconds": self.startup_seconds,
            "drain_seconds": self.drain_seconds,
            "settle_seconds": self.settle_seconds,
        }


@dataclass(frozen=True, slots=True)
class Workload:
    """What should run under one name.

    Attributes:
        name: a DNS label of at most 80 characters.
        replicas: 0 or 1.
        generation: counts the changes of this workload from 1; `Workloads.apply` sets it.
    """

    name: str
    template: Template
    replicas: int = 1
    generation: int = 0

    def to_json(self) -> dict[str, Any]:
        """The content of `workloads/NAME.json`: the template's keys stand beside the others."""
        head = {"schema_version": SCHEMA_VERSION, "name": self.name}
        tail = {"replicas": self.replicas, "generation": self.generation}
        return {**head, **self.template.to_json(), **tail}

    def with_generation(self, generation: int) -> Workload:
        """The same workload under another generation."""
        return replace(self, generation=generation)


def parse_workload(value: object, *, where: str) -> Workload:
    """Read the content of a workload file.

    Args:
        where: names the file in errors.

    Raises:
        InvalidInput: the message names file, key, value and what was expected.
    """
    reader = _Reader(value, where)
    version = reader.take("schema_version", int, "the number 1", default=SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise reader.fault("schema_version", version, "the number 1")
    name = reader.take("name", str, "a string")
    if not _NAME.fullmatch(name):
        expected = "lower-case letters, digits and inner hyphens, at most 80"
        raise reader.fault("name", name, expected)
    replicas = reader.take("replicas", int, "0 or 1", default=1)
    if replicas not in (0, 1):
        raise reader.fault("replicas", replicas, "0 or 1")
    generation = reader.take("generation", int, "a whole number, at least 0", default=0)
    if generation < 0:
        raise reader.fault("generation", generation, "a whole number, at least 0")
    template = _template(reader)
    reader.finish()
    return Workload(name=name, template=template, replicas=replicas, generation=generation)


def parse_template(value: object, *, where: str) -> Template:
    """Read a template as it stands in a history.

    Raises:
        InvalidInput: the message names file, key, value and what was expected.
    """
    reader = _Reader(value, where)
    template = _template(reader)
    reader.finish()
    return template


def _template(reader: _Reader) -> Template:
    listen = reader.take("listen", str, "port, none or uds", default="port")
    if listen not in get_args(Listen):
        raise reader.fault("listen", listen, "port, none or uds")
    port = reader.take("port", int, "1 to 65535 or null", default=None)
    if port is not None and not (listen == "port" and 1 <= port <= 65535):
        expected = "1 to 65535 or null" if listen == "port" else f"null, as listen is {listen}"
        raise reader.fault("port", port, expected)
    ready = reader.take("ready", str, "an HTTP path", default="/readyz")
    if not re.fullmatch(r"/[\x21-\x7e]*", ready):
        raise reader.fault("ready", ready, "an HTTP path which begins with /")
    cwd = reader.take("cwd", str, "an absolute path or null", default=None)
    if cwd is not None and not cwd.startswith("/"):
        raise reader.fault("cwd", cwd, "an absolute path or null")
    command = _command(reader)
    return Template(
        command=command,
        env=_env(reader),
        cwd=cwd,
        listen=cast(Listen, listen),
        port=port,
        ready=ready,
        release=reader.take("release", str, "name/version@digest or null", default=None),
        labels=reader.strings("labels"),
        startup_seconds=reader.seconds("startup_seconds", 300.0),
        drain_seconds=reader.seconds("drain_seconds", 20.0),
        settle_seconds=reader.seconds("settle_seconds", 3.0),
    )


def _command(reader: _Reader) -> tuple[str, ...]:
    command = reader.take("command", list, "a list of strings with at least the program")
    if not command or not all(isinstance(part, str) and "\0" not in part for part in command):
        raise reader.fault("command", command, "a list of strings with at least the program")
    if not command[0]:
        raise reader.fault("command", command, "a program as its first part")
    return tuple(command)


def _env(reader: _Reader) -> Mapping[str, str]:
    env = reader.strings("env")
    for variable in env:
        if not _VARIABLE.fullmatch(variable):
            raise reader.fault("env", variable, "names of letters, digits and underscores")
        if _SECRET.search(variable):
            raise InvalidInput(
                f"{reader.where}: env.{variable}: secrets do not belong into a workload; name "
                f"a file that holds it, as {variable}_FILE",
                param=f"env.{variable}",
            )
    return env


class _Reader:
    """Takes keys out of a JSON object; what is left at the end was not expected."""

    def __init__(self, value: object, where: str) -> None:
        self.where = where
        if not isinstance(value, Mapping):
            raise InvalidInput(f"{where}: expected a JSON object, found {type(value).__name__}")
        self._left = dict(value)

    def take(self, key: str, kind: type, expected: str, **default: Any) -> Any:
        """The value of `key`; null only when the default is None."""
        if key not in self._left:
            if "default" in default:
                return default["default"]
            raise InvalidInput(f"{self.where}: {key} is missing: expected {expected}", param=key)
        value = self._left.pop(key)
        if value is None and default.get("default", 0) is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fault(key, value, expected)
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.take(key, int | float, "seconds, 0 to 86400", default=default)  # type: ignore[arg-type]  # isinstance takes unions
        if not 0 <= value <= 86400:
            raise self.fault(key, value, "seconds, 0 to 86400")
        return float(value)

    def strings(self, key: str) -> Mapping[str, str]:
        value = self.take(key, dict, "an object of strings", default={})
        for name, item in value.items():
            if not isinstance(item, str) or "\0" in item:
                raise self.fault(f"{key}.{name}", item, "a string")
        return dict(value)

    def fault(self, key: str, value: object, expected: str) -> InvalidInput:
        text = repr(value) if len(repr(value)) <= 200 else repr(value)[:200] + "…"
        return InvalidInput(f"{self.where}: {key} = {text}: expected {expected}", param=key)

    def finish(self) -> None:
        if self._left:
            names = ", ".join(sorted(map(str, self._left)))
            raise InvalidInput(f"{self.where}: unknown keys: {names}", param=min(self._left))
