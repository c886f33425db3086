"""The lane's one condition: Go, to build its tools; in CI it must be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.charts import tools

# By module name without `check_` or `test_`.
NEEDS_NO_TOOL = ("engine_probe", "reference")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without Go one test says so and the others are left out; with CI=true the run ends."""
    here = Path(__file__).parent
    mine = [
        item
        for item in items
        if item.path.parent == here and item.path.stem.partition("_")[2] not in NEEDS_NO_TOOL
    ]
    reason = tools.missing()
    if reason is None or not mine:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.exit(reason, returncode=1)
    mine[0].add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=mine[1:])
    left_out = set(mine[1:])
    items[:] = [item for item in items if item not in left_out]
