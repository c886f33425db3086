"""`States` over files; the same suite runs over ConfigMaps in tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from proa_controller.states import FileStates
from tests.contract.rollout.states import Open, StatesContract


@pytest.fixture
def open_states(tmp_path: Path) -> Open:
    return lambda: FileStates(tmp_path)


class TestFiles(StatesContract):
    """The suite over files."""
