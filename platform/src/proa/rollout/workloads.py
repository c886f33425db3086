"""The port to what runs releases: Deployments in a cluster, supervised processes on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from proa.release.reference import ReleaseRef


@dataclass(frozen=True, slots=True)
class Deployed:
    """A workload as it is.

    Attributes:
        template_release: the release in the template: what was last written.
        generation: the template's generation; 0 when the workload does not exist.
        release: the release that answers now (the old one while the new one starts).
        url: where it answers.
        ready: whether it answers.
        failed: why the template's release does not start, when it does not.
        stale: what goes with the release in the template is no longer as it should be (labels; a
            challenger's copy of the champion's settings): apply the same release again.
        replicas: how many processes it should have; None where there is always one.
        capacity: how many of them answer with `release`; None where there is always one.
    """

    template_release: ReleaseRef | None = None
    generation: int = 0
    release: ReleaseRef | None = None
    url: str | None = None
    ready: bool = False
    failed: str | None = None
    stale: bool = False
    replicas: int | None = None
    capacity: int | None = None


class Workloads(Protocol):
    """Four verbs over named workloads."""

    def apply(
        self, name: str, template: Any, *, after: int, replicas: int | None = None, cause: str = ""
    ) -> int:
        """Write a template (made by the launcher of the same mode); return its generation.

        Args:
            after: the generation that was seen when this was decided.
            replicas: of a challenger, where there can be several; None leaves them.
            cause: one sentence for people who read the workload's history.

        Raises:
            Conflict (`template_changed`): it is another one now; nothing was written.
        """

    def status(self, name: str) -> Deployed:
        """How a workload is; `Deployed()` for one that does not exist."""

    def undo(self, name: str) -> int:
        """Write the template before the present one again; return its generation.

        Raises:
            NotFound: there is no workload or no earlier template.
        """

    def delete(self, name: str) -> None:
        """Drain and remove a workload; harmless when it is not there."""
