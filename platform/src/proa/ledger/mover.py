"""Moves calls from the spool into the store, beside the requests and never in their way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Final

from proa.errors import InvalidInput, ProaError
from proa.ledger.call import Call
from proa.ledger.spool import Spool
from proa.ledger.store import CallStore

__all__ = ["Mover"]

_BATCH: Final = 256
_LONGEST_WAIT: Final = 5.0

_log = logging.getLogger(__name__)


class Mover:
    """A thread that empties a spool into a store, at once when asked, else every `interval`.

    While the store is down calls stay in the spool, and the wait doubles up to 5 s.
    """

    def __init__(self, spool: Spool, store: CallStore, *, interval: float = 0.2) -> None:
        self._spool = spool
        self._store = store
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-mover", daemon=True)
        self.moved = 0
        self.rejected = 0

    def start(self) -> None:
        self._thread.start()

    def flush(self) -> None:
        """Return when every call appended before now is in the store; blocks.

        Raises:
            Unavailable: the store cannot be written; nothing is lost.
        """
        result = self._spool.move(self._insert)
        if result.torn:
            _log.warning("%d torn record(s) were left by a process that ended", result.torn)

    def close(self) -> None:
        """Stop the thread and move what is left."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        wait = self._interval
        while not self._stop.wait(wait):
            try:
                self.flush()
                wait = self._interval
            except ProaError as error:
                wait = min(wait * 2, _LONGEST_WAIT)
                _log.error("calls wait in the spool: %s", error)
            except Exception:
                wait = min(wait * 2, _LONGEST_WAIT)
                _log.exception("calls wait in the spool")

    def _insert(self, lines: list[bytes]) -> None:
        for start in range(0, len(lines), _BATCH):
            calls = {}
            for line in lines[start : start + _BATCH]:
                try:
                    calls[line] = Call.from_bytes(line)
                except InvalidInput as error:
                    self._set_aside(line, error)
            try:
                self.moved += self._store.insert(list(calls.values()))
            except InvalidInput:
                self._insert_each(calls)

    def _insert_each(self, calls: Mapping[bytes, Call]) -> None:
        """One of them cannot be stored; the others must not wait for it for ever."""
        for line, call in calls.items():
            try:
                self.moved += self._store.insert([call])
            except InvalidInput as error:
                self._set_aside(line, error)

    def _set_aside(self, line: bytes, error: InvalidInput) -> None:
        self._spool.set_aside(line)
        self.rejected += 1
        _log.error("a record of the spool was set aside: %s", error)
