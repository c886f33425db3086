"""The lane's one condition: Go, to build its tools before the first test; required in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import tools
from tests.charts import schemas

# By module name without `test_`.
NEEDS_NO_TOOL = ("engine_probe", "reference")
NEEDED = ("helm-3", "helm-4", "kubeconform", "helm-unittest", "promtool", "podsecurity")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without Go one test says so and the others are left out; with CI=true the run ends."""
    here = Path(__file__).parent
    mine = [
        item
        for item in items
        if item.path.parent == here and item.path.stem.partition("_")[2] not in NEEDS_NO_TOOL
    ]
    reason = tools.missing()
    if mine and reason is None and not config.option.collectonly:
        # Minutes on a new machine: said as they pass, and in no test's time.
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            for name in NEEDED:
                tools.path(name)
            for version in (schemas.OLDEST, schemas.NEWEST):
                schemas.of_kubernetes(version)
            schemas.of_others()
    if reason is None or not mine:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.exit(reason, returncode=1)
    mine[0].add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=mine[1:])
    left_out = set(mine[1:])
    items[:] = [item for item in items if item not in left_out]
