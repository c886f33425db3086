"""The status of a workload as the fleet, the controller and people read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proa.embedded.record import ProcessId, Record, Revision
from proa.embedded.workload import Workload

__all__ = ["Status", "view"]


@dataclass(frozen=True, slots=True)
class Status:
    """Desired and observed state of one workload, side by side.

    Attributes:
        desired_generation: of the workload file; 0 when the workload was deleted.
        replicas: desired; 0 when deleted.
        generation: the one that serves; 0 before the first start.
        observed_generation: the desired one last seen by the supervisor.
        release, url, pid, started_at: of the serving process; `started_at` is epoch seconds.
        ready: whether the serving process may get traffic.
        restarts: unwanted ends of the serving process since it took over.
        failed: one sentence about an update or a start that does not work, or None.
        updating: whether a new process is being started beside or instead of the serving one.
        draining: how many processes are on their way out.
        history: templates which were desired, oldest first, the present one last.
    """

    name: str
    desired_generation: int
    desired_release: str | None
    replicas: int
    generation: int
    observed_generation: int
    release: str | None
    url: str | None
    ready: bool
    pid: int | None
    started_at: float | None
    restarts: int
    failed: str | None
    updating: bool
    draining: int
    history: tuple[Revision, ...]

    @property
    def complete(self) -> bool:
        """What was desired serves and is ready (or nothing runs, with no replicas desired)."""
        if self.observed_generation != self.desired_generation or self.updating:
            return False
        if self.replicas == 0:
            return self.pid is None and self.draining == 0
        return self.generation == self.desired_generation and self.ready

    @property
    def settled(self) -> bool:
        """`complete`, and no process of an earlier template is left."""
        return self.complete and self.draining == 0


def view(
    name: str,
    workload: Workload | None,
    record: Record | None,
    *,
    is_alive: Callable[[ProcessId], bool],
) -> Status | None:
    """Both sides as one status; None when there is neither.

    Args:
        is_alive: asked about the serving process, as a record outlives its supervisor.
    """
    if workload is None and record is None:
        return None
    seen = record or Record(name)
    serving = seen.serving
    process = serving.process if serving else None
    if process is not None and not is_alive(process):
        process = None
    return Status(
        name=name,
        desired_generation=workload.generation if workload else 0,
        desired_release=workload.template.release if workload else None,
        replicas=workload.replicas if workload else 0,
        generation=serving.generation if serving else 0,
        observed_generation=seen.observed_generation,
        release=serving.template.release if serving else None,
        url=serving.url if serving and not serving.parked else None,
        ready=bool(serving and process and serving.ready),
        pid=process.pid if process else None,
        started_at=serving.started if serving and process else None,
        restarts=seen.restarts,
        failed=seen.failed,
        updating=seen.updating is not None,
        draining=len(seen.draining),
        history=seen.history,
    )
