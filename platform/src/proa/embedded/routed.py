"""Which processes the routes still name: the supervisor ends none of them under its callers.

The controller may be dead at the very moment a new process takes over; its routes then go on
naming the old one until it is back.
"""

from __future__ import annotations

import logging
from pathlib import Path

from proa.embedded.files import read_json
from proa.errors import NotFound, ProaError

__all__ = ["RoutedUrls"]

_log = logging.getLogger("proa.supervisor")


class RoutedUrls:
    """The URLs in the routes file `path`, read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._urls: frozenset[str] = frozenset()

    def read(self) -> frozenset[str]:
        """Every track's URL; those last read when the file cannot be read."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._urls = _urls(read_json(self._path))
                self._stamp = stamp
        except (FileNotFoundError, NotFound):
            self._urls, self._stamp = frozenset(), None
        except (OSError, ProaError, AttributeError, KeyError, TypeError) as error:
            _log.error("%s: %s; what it said before counts", self._path, error)
        return self._urls


def _urls(routes: dict[str, dict[str, dict[str, dict[str, dict[str, str]]]]]) -> frozenset[str]:
    models = routes["models"].values()
    return frozenset(track["url"] for model in models for track in model["tracks"].values())
