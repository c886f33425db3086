"""The runs that requests start: a port, since one machine has child processes and a cluster
Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Look", "Order", "Runner"]


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is wanted.

    Attributes:
        run: its name, `REQUEST/ATTEMPT`; unique within the model.
        overrides: dotted keys of proa.yaml to values.
        cause: `cause requested_by evidence`, for whoever looks at the run later; the reason of the
            release that comes of it begins with `cause`.
        project: a folder, when the project names one.
    """

    model: str
    run: str
    overrides: Mapping[str, str]
    cause: Mapping[str, str]
    project: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How a run stands, and what it said last."""

    word: Literal["absent", "running", "ended"]
    said: str = ""


class Runner(Protocol):
    """Starts runs, once each, however often it is asked to. Called by one thread."""

    def start(self, order: Order) -> None:
        """Start the run unless it was; tried again at the next look when it cannot be.

        Raises:
            ProaError: why it cannot be started.
        """

    def look(self, model: str, run: str) -> Look:
        """How the run stands; `absent` when it must be started (again)."""

    def stop(self, model: str, run: str) -> None:
        """End the run; harmless when there is none."""

    def close(self) -> None:
        """This process ends: what must not outlive it is ended, and started anew by the next."""
