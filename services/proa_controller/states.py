"""Where the controller keeps what it must remember: one file per model, written atomically.

In the cluster the same JSON lives in ConfigMap `proa-rollout-NAME`.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from proa.embedded.files import read_json, write_json
from proa.errors import Conflict, NotFound
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


_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class States:
    """Rollout states in `folder`, evidence of verdicts in `evidence`."""

    folder: Path
    evidence: Path

    def names(self) -> list[str]:
        """Every model with a state."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def find(self, name: str) -> Rollout | None:
        """The state of a model, or None."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        value = read_json(path)
        return parse_rollout({key: value[key] for key in value if key != _UNWRITTEN})

    def get(self, name: str) -> Rollout:
        """The state of a known model."""
        state = self.find(name)
        if state is None:
            raise NotFound(f"no rollout state of {name!r}")
        return state

    def unwritten(self, name: str) -> list[dict[str, Any]]:
        """Journal lines stored with a state which may not be in the journal yet."""
        path = self.folder / f"{name}.json"
        return list(read_json(path).get(_UNWRITTEN, [])) if path.exists() else []

    def put(self, state: Rollout, unwritten: Sequence[Mapping[str, Any]] = ()) -> None:
        """Store a state and the journal lines that go with it; on disk when this returns."""
        value = {**state.to_json(), _UNWRITTEN: list(unwritten)}
        write_json(self.folder / f"{state.model}.json", value)

    def keep_evidence(self, digest: str, evidence: Mapping[str, Any]) -> None:
        """Store the evidence of a verdict under its digest: the very bytes that have it."""
        self.evidence.mkdir(parents=True, exist_ok=True)
        path = self.evidence / f"{digest.removeprefix('sha256:')}.json"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(orjson.dumps(dict(evidence), option=orjson.OPT_SORT_KEYS))
            temporary.replace(path)

    def evidence_of(self, digest: str) -> bytes:
        """The evidence stored under a digest, as JSON.

        Raises:
            NotFound: there is none.
        """
        path = self.evidence / f"{digest.removeprefix('sha256:')}.json"
        if not _HEX.fullmatch(path.stem) or not path.is_file():
            raise NotFound(f"no evidence {digest} is kept here", code="unknown_evidence")
        return path.read_bytes()
