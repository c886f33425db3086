"""What changed between two releases, key by key and file by file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from proa.release.manifest import Manifest

_NOISE = ("files", "source", "metrics")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `before` or `after` is None when the key is new or gone."""

    key: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        return asdict(self)


def diff(before: Manifest, after: Manifest) -> list[Change]:
    """Every difference that matters to the answers, then metrics, then files.

    Keys are dotted; files are named `files:path` with their digests.
    """
    one, two = before.model_dump(mode="json"), after.model_dump(mode="json")
    changes = [
        change for key in one if key not in _NOISE for change in _walk(key, one[key], two[key])
    ]
    changes += _walk("metrics", one["metrics"], two["metrics"])
    files_before = {file.path: file.sha256 for file in before.files}
    files_after = {file.path: file.sha256 for file in after.files}
    for path in sorted(files_before.keys() | files_after.keys()):
        old, new = files_before.get(path), files_after.get(path)
        if old != new:
            changes.append(Change(f"files:{path}", old, new))
    return changes


def _walk(key: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for inner in sorted(before.keys() | after.keys()):
            yield from _walk(f"{key}.{inner}", before.get(inner), after.get(inner))
    elif before != after:
        yield Change(key, before, after)


def text_diff(path: str, before: str, after: str) -> list[str]:
    """A unified diff of a text file, such as a prompt."""
    return list(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm=""
        )
    )
