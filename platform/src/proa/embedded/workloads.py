"""The port through which the controller and `up` say what should run, and see what does.

Two adapters: files which the supervisor watches (here), Deployments of Kubernetes (with the
cluster).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home
from proa.embedded.process import is_alive
from proa.embedded.record import Record, Revision, parse_record
from proa.embedded.status import Status, view
from proa.embedded.workload import Workload, parse_workload
from proa.errors import Conflict, NotFound

__all__ = ["WorkloadFiles", "read_record", "read_workload"]


class WorkloadFiles:
    """Workloads as files of a home: `workloads/NAME.json` and `status/NAME.json`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def apply(self, workload: Workload, *, again: bool = False, after: int | None = None) -> int:
        """See `proa.rollout.workloads.Workloads.apply`; the given generation is not looked at.

        Args:
            again: a new generation even of the same, so that an update which was given up is
                tried once more.
            after: the generation it is based on; None writes in any case.

        Raises:
            InvalidInput: the workload would not be accepted by the supervisor.
            Conflict: the generation is no longer `after`.
        """
        checked = parse_workload(workload.to_json(), where=f"workload {workload.name}")
        with self._locked():
            if after is not None:
                self._require_generation(workload.name, after)
            return self._write(checked, again=again)

    def status(self, name: str) -> Status | None:
        workload, record = read_workload(self._home, name), read_record(self._home, name)
        return view(name, workload, record, is_alive=is_alive)

    def undo(self, name: str) -> int:
        """As `kubectl rollout undo`, see `proa.rollout.workloads`: twice is back again.

        Raises:
            NotFound: no such workload.
            Conflict: it never had another template.
        """
        with self._locked():
            workload = read_workload(self._home, name)
            if workload is None:
                raise NotFound(f"there is no workload {name}", code="unknown_workload")
            revision = _previous(workload, read_record(self._home, name))
            if revision is None:
                raise Conflict(
                    f"workload {name} has no earlier template to go back to", code="no_history"
                )
            return self._write(replace(workload, template=revision.template))

    def delete(self, name: str) -> None:
        with self._locked():
            self._home.workload(name).unlink(missing_ok=True)

    def _require_generation(self, name: str, after: int) -> None:
        present = read_workload(self._home, name)
        generation = present.generation if present else 0
        if generation != after:
            raise Conflict(
                f"workload {name} is at generation {generation}, not {after}: somebody else "
                "changed it",
                code="template_changed",
            )

    def _write(self, workload: Workload, *, again: bool = False) -> int:
        name = workload.name
        present = read_workload(self._home, name)
        same = present is not None and present.with_generation(0) == workload.with_generation(0)
        if present is not None and same and not again:
            return present.generation
        record = read_record(self._home, name)
        # A workload that was deleted and comes back counts on while its status is still there.
        last = max(
            present.generation if present else 0, record.observed_generation if record else 0
        )
        write_json(self._home.workload(name), workload.with_generation(last + 1).to_json())
        return last + 1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The controller, `up` and a person at once: each change sees the one before."""
        try:
            handle = os.open(self._home.workloads / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError as error:
            raise NotFound(
                f"there is no platform in {self._home.root}", hint="proa up", code="no_platform"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def read_workload(home: Home, name: str) -> Workload | None:
    """What is desired under this name, or None.

    Raises:
        InvalidInput: the file cannot be read; the message names file, key and value.
    """
    path = home.workload(name)
    try:
        return parse_workload(read_json(path), where=str(path))
    except NotFound:
        return None


def read_record(home: Home, name: str) -> Record | None:
    """What the supervisor last wrote about this name, or None.

    Raises:
        InvalidInput: the file was not written by this version of the supervisor.
    """
    path = home.status(name)
    try:
        return parse_record(read_json(path), where=str(path))
    except NotFound:
        return None


def _previous(workload: Workload, record: Record | None) -> Revision | None:
    history = record.history if record else ()
    others = [item for item in history if item.template != workload.template]
    return others[-1] if others else None
