"""Readiness, asked over HTTP as a kubelet does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Probe", "ask"]

_TIMEOUT: Final = 5.0
_STARTING_EVERY, _SERVING_EVERY = 0.1, 1.0
_FAILURES: Final = 3
"""Failures in a row after which a process that was ready is not ready any more."""


class Probe:
    """Asks one process again and again until it is closed.

    Args:
        url: `http://host:port` or `unix:///path`.
        path: answers 2xx when the process may get traffic.
        ready: what was known before, when a living process is adopted.
    """

    def __init__(self, url: str, path: str, *, ready: bool = False) -> None:
        self.ready = ready
        self._url, self._path = url, path
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Ask no more."""
        self._task.cancel()

    async def _run(self) -> None:
        failures = 0
        while True:
            if await ask(self._url, self._path):
                self.ready, failures = True, 0
            else:
                failures += 1
                self.ready = self.ready and failures < _FAILURES
            await asyncio.sleep(_SERVING_EVERY if self.ready and not failures else _STARTING_EVERY)


async def ask(url: str, path: str, *, timeout: float = _TIMEOUT) -> bool:
    """Whether a GET is answered with 2xx in time."""
    try:
        async with asyncio.timeout(timeout):
            return await _ask(url, path)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def _ask(url: str, path: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        reader, writer = await asyncio.open_unix_connection(parts.path)
    else:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        host = parts.netloc or "localhost"
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        line = await reader.readline()
        # The rest is read, so that the server sees its answer taken and no reset.
        with contextlib.suppress(ValueError):
            await reader.read(1 << 20)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    fields = line.split()
    return len(fields) >= 2 and fields[0].startswith(b"HTTP/1.") and fields[1].startswith(b"2")
