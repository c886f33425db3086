"""Debian's Chromium for tests, driven by playwright; installed by apt where root may.

Playwright downloads nothing: the browser is Debian's package, with its security updates.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

PROGRAM = Path("/usr/bin/chromium")
PACKAGE = {str(PROGRAM): "chromium"}


def missing() -> str | None:
    """Why there is no browser here, in one line; None when there is, or it can be installed."""
    if PROGRAM.exists() or (os.geteuid() == 0 and shutil.which("apt-get")):
        return None
    return f"no {PROGRAM}: apt-get install chromium"


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window, gone afterwards."""
    if not PROGRAM.exists():
        from tests.cluster import packages

        packages.install(PACKAGE)
    # Chromium's sandbox refuses to run as root; the pages it opens here are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=PROGRAM, args=arguments)
        try:
            yield started
        finally:
            started.close()
