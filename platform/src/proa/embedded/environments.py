"""`environments.json`: other platforms that releases are promoted to. It holds no secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home
from proa.errors import Conflict, InvalidInput, NotFound

__all__ = ["Environment", "add_environment", "environment", "read_environments"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
PARTS = ("bundles", "controller", "gateway", "mlflow", "monitor")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a platform answers: the home of one on this machine, or URLs of its parts.

    Attributes:
        urls: part → URL; `bundles` is that of the bundle store.
        key_file: holds the key to use there; a home's own `admin` key when None.
    """

    name: str
    home: Path | None = None
    urls: Mapping[str, str] = field(default_factory=dict)
    key_file: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {
            "home": None if self.home is None else str(self.home),
            "urls": dict(self.urls),
            "key_file": None if self.key_file is None else str(self.key_file),
        }


def read_environments(home: Home) -> dict[str, Environment]:
    """Every environment by name, in order of its name.

    Raises:
        InvalidInput: the file has another shape.
    """
    path = home.environments_file
    try:
        value = read_json(path)
    except NotFound:
        return {}
    try:
        if value["schema_version"] != 1:
            raise ValueError(f"schema_version = {value['schema_version']!r}: expected 1")
        return {name: _parse(name, item) for name, item in sorted(value["environments"].items())}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{path}: not a file of environments: {error}") from error


def environment(home: Home, name: str) -> Environment:
    """One environment.

    Raises:
        NotFound: there is none of this name; the message names those there are.
    """
    found = read_environments(home)
    if name not in found:
        known = ", ".join(found) or "none yet"
        raise NotFound(
            f"environment {name!r} is not known here; known: {known}",
            hint=f"proa environments add {name} --home FOLDER",
        )
    return found[name]


def add_environment(home: Home, new: Environment, *, replace: bool = False) -> None:
    """Write an environment down.

    Raises:
        InvalidInput: a bad name, or neither a home nor all URLs with a key file.
        Conflict: there is one of this name and `replace` was not asked for.
    """
    if not _NAME.fullmatch(new.name):
        raise InvalidInput(
            f"environment {new.name!r}: expected lower-case letters, digits, hyphens"
        )
    missing = [part for part in PARTS if part not in new.urls]
    if new.home is None and (missing or new.key_file is None):
        raise InvalidInput(
            f"environment {new.name}: expected a home, or a key file and the URLs of "
            f"{', '.join(PARTS)}; missing: {', '.join(missing) or 'the key file'}"
        )
    if new.home is not None and new.home.resolve() == home.root.resolve():
        raise InvalidInput(f"environment {new.name}: {new.home} is this platform itself")
    found = read_environments(home)
    if new.name in found and not replace:
        raise Conflict(f"there is an environment {new.name} already", hint="add --replace")
    found[new.name] = new
    value = {name: item.to_json() for name, item in sorted(found.items())}
    write_json(home.environments_file, {"schema_version": 1, "environments": value})


def _parse(name: str, value: Mapping[str, Any]) -> Environment:
    return Environment(
        name,
        None if value["home"] is None else Path(value["home"]),
        dict(value["urls"]),
        None if value["key_file"] is None else Path(value["key_file"]),
    )
