"""`proa init`: a small project that runs as written, every line of it said why."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from proa.errors import Conflict, InvalidInput

__all__ = ["write_project"]

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PLACE: Final = "NAME-OF-THE-PROJECT"


def write_project(name: str, *, kind: str, folder: Path) -> list[Path]:
    """Write the template of a kind into `folder`; returns the files written.

    Raises:
        InvalidInput: a name that no model can have, or an unknown kind.
        Conflict: a file is there already; nothing was written.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"name {name!r}: expected lower-case letters, digits and inner hyphens, at most 63",
            param="name",
        )
    template = files("proa.project") / "templates" / kind
    if not template.is_dir():
        raise InvalidInput(f"kind {kind!r}: expected classic or llm", param="kind")
    texts = _texts(template, Path())
    present = [path for path in texts if (folder / path).exists()]
    if present:
        raise Conflict(
            f"{folder / present[0]} is there already: nothing was written",
            hint="proa init NAME --into ANOTHER-FOLDER",
            code="file_exists",
        )
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(_PLACE, name))
    return [folder / path for path in texts]


def _texts(folder: Traversable, below: Path) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            if item.name != "__pycache__":
                found |= _texts(item, below / item.name)
        elif not item.name.endswith(".pyc"):
            found[below / item.name] = item.read_text(encoding="utf-8")
    return found
