"""The lane in several workers: what shares a platform stays with one, the longest come first."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order and group by file or folder; nothing without workers (`-n`)."""
    if not config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    here = Path(__file__).parent
    mine = [item for item in items if item.path.is_relative_to(here)]
    places = {item: str(item.path.relative_to(here)) for item in mine}
    for item, place in places.items():
        folder = place.partition("/")[0]
        places[item] = group = folder if folder in TOGETHER else place
        item.add_marker(pytest.mark.xdist_group(group))
    rank = {group: number for number, group in enumerate(LONGEST)}
    mine.sort(key=lambda item: rank.get(places[item], len(rank)))
    items[:] = [*(item for item in items if item not in places), *mine]
