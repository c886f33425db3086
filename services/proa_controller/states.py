"""Where the controller keeps what it must remember: one file per model, written atomically.

In the cluster the same JSON lives in ConfigMap `proa-rollout-NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proa.embedded.files import read_json, write_json
from proa.errors import NotFound
from proa.release.canonical import canonical_json
from proa.rollout.state import Rollout, parse_rollout


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
        return parse_rollout(read_json(path)) if path.exists() else None

    def get(self, name: str) -> Rollout:
        """The state of a known model."""
        state = self.find(name)
        if state is None:
            raise NotFound(f"no rollout state of {name!r}")
        return state

    def put(self, state: Rollout) -> None:
        """Store a state; it is on disk when this returns."""
        write_json(self.folder / f"{state.model}.json", state.to_json())

    def keep_evidence(self, digest: str, evidence: Mapping[str, Any]) -> None:
        """Store the evidence of a verdict under its digest."""
        self.evidence.mkdir(parents=True, exist_ok=True)
        path = self.evidence / f"{digest.removeprefix('sha256:')}.json"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(canonical_json(dict(evidence)))
            temporary.replace(path)
