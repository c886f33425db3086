"""One bundle store and one set of keys for every monitor of these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Processes
from tests.services.monitor.monitored import Home, Monitor


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Bundles of one release of each kind."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def start_monitor(processes: Processes) -> Iterator[Callable[..., Monitor]]:
    """`start_monitor(home, *arguments)`; whatever was started is closed after the test."""
    started: list[Monitor] = []

    def start(home: Home, *more: str, file_blocks: int | None = None) -> Monitor:
        started.append(Monitor(home, processes, *more, file_blocks=file_blocks))
        return started[-1]

    yield start
    for monitor in started:
        monitor.client.close()


@pytest.fixture
def monitor(home: Home, start_monitor: Callable[..., Monitor], tmp_path: Path) -> Monitor:
    """A running monitor with an empty events folder."""
    return start_monitor(home.fresh(tmp_path))
