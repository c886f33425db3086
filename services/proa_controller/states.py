"""Where the controller keeps what it must remember: one JSON object per model, written at once.

A file here; ConfigMap `proa-rollout-NAME` in a cluster (`configmap_states`).
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proa.embedded.files import read_json, write_json
from proa.errors import Conflict
from proa.rollout.state import Rollout, parse_rollout

_UNWRITTEN = "unwritten"
_PATIENCE_SECONDS = 5.0


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the one controller that writes here, until the end of it or of this process.

    Raises:
        Conflict: another one lives.
    """
    with (folder / ".writer").open("wb") as handle:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Conflict(
                        f"another controller writes {folder}",
                        hint="proa status",
                        code="two_writers",
                    ) from error
                time.sleep(0.05)
        yield


class States(Protocol):
    """Rollout states, each with the journal lines that go with it."""

    def names(self) -> list[str]:
        """Every model with a state."""

    def find(self, name: str) -> Rollout | None:
        """The state of a model, or None."""

    def unwritten(self, name: str) -> list[dict[str, Any]]:
        """Journal lines stored with a state which may not be in the journal yet."""

    def put(self, state: Rollout, unwritten: Sequence[Mapping[str, Any]] = ()) -> None:
        """Store a state and the journal lines that go with it; durable when this returns.

        Raises:
            Conflict: somebody else wrote it since it was last read here; nothing was stored.
        """


@dataclass(frozen=True, slots=True)
class FileStates:
    """`States` in a folder."""

    folder: Path

    def names(self) -> list[str]:
        """Every model with a file."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def find(self, name: str) -> Rollout | None:
        """What the model's file says."""
        path = self.folder / f"{name}.json"
        return open_state(read_json(path)) if path.exists() else None

    def unwritten(self, name: str) -> list[dict[str, Any]]:
        """The lines in the model's file."""
        path = self.folder / f"{name}.json"
        return lines_of(read_json(path)) if path.exists() else []

    def put(self, state: Rollout, unwritten: Sequence[Mapping[str, Any]] = ()) -> None:
        """Replace the model's file."""
        write_json(self.folder / f"{state.model}.json", close_state(state, unwritten))


def close_state(state: Rollout, unwritten: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """State and lines as one JSON object."""
    return {**state.to_json(), _UNWRITTEN: list(unwritten)}


def open_state(value: Mapping[str, Any]) -> Rollout:
    """The state in what `close_state` made."""
    return parse_rollout({key: value[key] for key in value if key != _UNWRITTEN})


def lines_of(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines in what `close_state` made."""
    return list(value.get(_UNWRITTEN, []))
