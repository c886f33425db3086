"""One MLflow for the tests of this folder, as `up` starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mlflow_server import start_mlflow
from tests.processes import Processes


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    running = Processes(folder)
    try:
        yield start_mlflow(running, folder).url
    finally:
        running.close()
