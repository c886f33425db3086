"""JSON state files: written so that a reader or a crash never meets half of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput, NotFound

__all__ = ["read_json", "write_json"]


def write_json(path: Path, value: Any, *, mode: int = 0o600) -> None:
    """Replace `path` by `value` as JSON: a temporary file beside it, fsync, rename.

    Args:
        path: its folder must exist.
        value: plain JSON; NaN and infinity are refused.
        mode: permission bits of the file.

    Raises:
        InvalidInput: `value` cannot be written as JSON.
    """
    try:
        data = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{path.name}: not plain JSON: {error}") from error
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """The value in `path`.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is not JSON; the message names file, line and column.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    try:
        return json.loads(data)
    except ValueError as error:
        raise InvalidInput(f"{path}: not valid JSON: {error}") from error


def _sync_folder(folder: Path) -> None:
    """The rename itself must survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
