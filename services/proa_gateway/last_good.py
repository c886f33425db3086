"""What somebody else writes, held in memory: its last good content."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from proa.errors import NotFound, ProaError
from proa_gateway.documents import Document, Documents

__all__ = ["LastGood", "Reading", "only"]

T = TypeVar("T")
CHECK_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class Reading(NamedTuple, Generic[T]):
    """What documents say, and what in them is not in force, one sentence each."""

    value: T
    faults: Sequence[str] = ()


class LastGood(Generic[T]):
    """Read again when its documents change; what is bad or missing changes nothing.

    Args:
        read: documents → their meaning; what it raises leaves the last good content in force.
        changed: is told each new value.

    Attributes:
        value: the last good content; `empty` until there was one.
        error: why the present content, or a part of it, is not in force; else None.
    """

    def __init__(
        self,
        documents: Documents,
        read: Callable[[Sequence[Document]], Reading[T]],
        *,
        empty: T,
        changed: Callable[[T], None] | None = None,
    ) -> None:
        self.value = empty
        self.error: str | None = None
        self._documents = documents
        self._read = read
        self._tell = changed
        self._there = False  # whether there ever was anything

    @property
    def known(self) -> bool:
        """Whether it is known what is there, be it nothing."""
        return self._documents.known

    def check(self) -> bool:
        """Look once; returns whether the value changed."""
        try:
            documents = self._documents.look()
            if documents is None:
                return False
            self._there = self._there or bool(documents)
            reading = self._read(documents)
        except ProaError as error:
            if error.message != self.error:
                self._fault(error.message)
            return False
        self.value, self.error = reading.value, None
        if reading.faults:
            self._fault("; ".join(reading.faults))
        if self._tell is not None:
            self._tell(self.value)
        return True

    async def watch(self) -> None:
        """Look every 100 ms until cancelled; a look without news costs next to nothing."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check()

    def close(self) -> None:
        self._documents.close()

    def _fault(self, message: str) -> None:
        # A process that comes before its documents is no fault.
        if self._there:
            _log.error("%s; what was good before stays in force", message)
        self.error = message


def only(parse: Callable[[bytes], T], *, url: str) -> Callable[[Sequence[Document]], Reading[T]]:
    """A reader of the one document at `url`; it raises NotFound when that is not there."""

    def read(documents: Sequence[Document]) -> Reading[T]:
        if not documents:
            raise NotFound(f"{url} does not exist")
        (document,) = documents
        try:
            return Reading(parse(document.body))
        except ProaError as error:
            raise type(error)(f"{document.name}: {error.message}") from error

    return read
