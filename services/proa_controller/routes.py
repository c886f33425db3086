"""Where the routes of all models are written, for every gateway to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proa.embedded.files import read_json, write_json

__all__ = ["Routes", "RoutesFile"]


class Routes(Protocol):
    """One document (`proa.rollout.routes`), replaced as a whole."""

    def read(self) -> Mapping[str, Any] | None:
        """The document as last written; None before the first."""

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace it; in force for whoever reads when this returns."""


@dataclass(frozen=True, slots=True)
class RoutesFile:
    """`Routes` as a file of one machine."""

    path: Path

    def read(self) -> Mapping[str, Any] | None:
        """What the file says."""
        return read_json(self.path) if self.path.exists() else None

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the file."""
        write_json(self.path, document)
