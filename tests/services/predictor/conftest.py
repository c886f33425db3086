"""One real predictor, with a model trained here, for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from tests import classic_release
from tests.processes import Processes


class Served(NamedTuple):
    """A release and a client of its predictor."""

    release: classic_release.Built
    client: httpx.Client


@pytest.fixture(scope="session")
def flight(tmp_path_factory: pytest.TempPathFactory) -> classic_release.Built:
    """A small release in a bundle store of its own."""
    return classic_release.build(tmp_path_factory.mktemp("flight"))


@pytest.fixture(scope="session")
def served(
    flight: classic_release.Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Its predictor, without feature server and monitor."""
    running = Processes(tmp_path_factory.mktemp("predictor"))
    argv = flight.argv(tmp_path_factory.mktemp("releases"), "--max-rows", "2000")
    url = running.start(argv, deadline=60).url
    with httpx.Client(base_url=url, timeout=30) as client:
        yield Served(flight, client)
    running.close()
