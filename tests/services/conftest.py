"""The lane in several workers: what shares a platform stays with one, the longest come first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("own",)
"""Folders whose files share one platform that takes long to start."""
LONGEST = (
    "own",
    "controller/test_registry_hands.py",
    "pipelines/test_classic.py",
    "controller/test_killed.py",
    "predictor/test_predictor_runtimes.py",
    "controller/test_environments.py",
    "exam/test_gate_survives.py",
    "retrieval/test_quality.py",
)
"""Begun last, one of these would keep a single worker busy at the end."""
_HERE = "tests/services/"


def place_of(nodeid: str) -> str:
    """The file below this folder, or the folder whose files stay together."""
    file = nodeid.partition("::")[0].removeprefix(_HERE)
    folder = file.partition("/")[0]
    return folder if folder in TOGETHER else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; others, and other lanes, as they came."""
    rank = {place: number for number, place in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(place_of(item.nodeid), len(rank)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadscope` a scope is a place (pytest 9 ignores the groups of `loadgroup`)."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return place_of(nodeid)

    return ByPlace(config, log)
