"""One small platform for the tests of this folder; each test uses models of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.controller.platform import SmallPlatform


@pytest.fixture(scope="package")
def small() -> Iterator[SmallPlatform]:
    """Real supervisor, gateway and controller."""
    platform = SmallPlatform.start()
    yield platform
    platform.stop()
