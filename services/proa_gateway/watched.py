"""A file somebody else writes, held in memory: its last good content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from proa.errors import InvalidInput, ProaError

__all__ = ["WatchedFile", "path_of"]

T = TypeVar("T")
CHECK_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """Re-read when its inode, size or time changes; a bad or missing file changes nothing.

    Attributes:
        value: the last good content; `empty` until there was one.
        error: why the file's present content is not in force, or None.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], *, empty: T) -> None:
        self.value = empty
        self.error: str | None = None
        self._path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None

    def check(self) -> bool:
        """Look once; returns whether the value changed."""
        try:
            stat = self._path.stat()
        except OSError as error:
            self._fault(
                f"{self._path} cannot be read: {error.strerror}", loud=self._seen is not None
            )
            self._seen = None
            return False
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.value = self._parse(self._path.read_bytes())
        except (ProaError, OSError) as error:
            self._fault(f"{self._path}: {error}", loud=True)
            return False
        self.error = None
        return True

    async def watch(self) -> None:
        """Look every 100 ms until cancelled; a look costs a `stat(2)`."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check()

    def _fault(self, message: str, *, loud: bool) -> None:
        if loud:
            _log.error("%s; the last good content stays in force", message)
        self.error = message


def path_of(url: str, *, what: str) -> Path:
    """The path of a `file:///absolute/path` URL.

    Raises:
        InvalidInput: another scheme; `what` names the argument.
    """
    if not url.startswith("file:///"):
        raise InvalidInput(f"{what} = {url!r}: expected file:///absolute/path", param=what)
    return Path(url.removeprefix("file://"))
