"""Sends events to the monitor from a background thread; never holds up whoever answers."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from proa.errors import InvalidInput
from proa.events.event import EVENT_BYTES
from proa.http.ids import new_id

if TYPE_CHECKING:
    from http.client import HTTPConnection

__all__ = ["DROPPED", "EMITTER", "Emitter"]

EMITTER: Final = "x-proa-emitter"
"""Request header: the id of the emitter, new for every process."""
DROPPED: Final = "x-proa-emitter-dropped"
"""Request header: events this emitter has dropped since it started."""

_BODY_BYTES: Final = 4 << 20
_HELD_BYTES: Final = 64 << 20
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_TIMEOUT: Final = 10.0
_log = logging.getLogger(__name__)


class Emitter:
    """A bounded queue of events with one thread that posts them as JSON lines.

    An event is sent until the monitor has it: while the monitor is down or refuses the key, the
    thread tries again with a growing pause (0.1 s to 5 s) and the queue fills; when it is full
    (`capacity` events or 64 MiB) new events are dropped and counted. The monitor counts an event
    once however often it is sent.

    Args:
        url: the monitor, `http://host:port`.
        key: a key with the right `events`.
        capacity: events held at most.
        batch: events per request at most.
        interval: seconds an event waits for company at most.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        capacity: int = 10_000,
        batch: int = 500,
        interval: float = 0.2,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"monitor {url!r}: expected http://host:port", param="monitor")
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        self._path = parts.path.rstrip("/") + "/v1/events"
        self._headers = {
            "authorization": f"Bearer {key}",
            "content-type": "application/x-ndjson",
            EMITTER: new_id(),
        }
        self._capacity, self._batch, self._interval = capacity, batch, interval
        self._queue: deque[bytes] = deque()
        self._under_way: list[bytes] = []
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._closing = False
        self._deadline = float("inf")
        self._connection: HTTPConnection | None = None
        self.sent = 0
        """Events the monitor has."""
        self.dropped = 0
        """Events given up: the queue was full, they were too large, or time was up at the end."""
        self.rejected = 0
        """Events the monitor refused: a fault of whoever built them; the log names the first."""
        self._thread = threading.Thread(target=self._run, name="proa-emitter", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Events waiting to be sent, those under way included."""
        return len(self._queue) + len(self._under_way)

    def emit(self, event: Mapping[str, Any]) -> bool:
        """Take an event; False when it was dropped. Never blocks and never raises for its content.

        The event is encoded at once: changing it afterwards changes nothing.
        """
        try:
            line = orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)
        except (TypeError, orjson.JSONEncodeError) as error:
            return self._drop(f"an event cannot be written as JSON: {error}")
        size = len(line)
        if size > EVENT_BYTES:
            return self._drop(f"an event of {size:,} bytes is larger than {EVENT_BYTES:,}")
        with self._lock:
            full = self.queued >= self._capacity or self._held_bytes + size > _HELD_BYTES
            if not full and not self._closing:
                self._queue.append(line)
                self._held_bytes += size
        if self._closing:
            return self._drop("an event came after the emitter was closed")
        if full:
            return self._drop("the event queue is full; is the monitor down?")
        if len(self._queue) >= self._batch and not self._wake.is_set():
            self._wake.set()
        return True

    def close(self, deadline: float = 5.0) -> bool:
        """Send what is queued, for at most `deadline` seconds; True when nothing was left over.

        Events emitted afterwards, and those left over, count as dropped.
        """
        self._deadline = time.monotonic() + deadline
        with self._lock:
            self._closing = True
        self._wake.set()
        self._stop.set()
        self._thread.join(deadline + 0.5)
        with self._lock:
            left = self.queued
            self.dropped += left
            self._queue.clear()
            self._under_way = []
        return left == 0

    def _drop(self, reason: str) -> bool:
        with self._lock:
            self.dropped += 1
            dropped = self.dropped
        if dropped & (dropped - 1) == 0:  # the 1st, 2nd, 4th, 8th …: loud, but never a flood
            _log.warning("%s (%d events dropped so far)", reason, dropped)
        return False

    def _run(self) -> None:
        try:
            self._send_until_closed()
        finally:
            self._disconnect()

    def _send_until_closed(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            if not self._closing and len(self._queue) < self._batch:
                self._wake.wait(self._interval)
            self._wake.clear()
            self._fill()
            if not self._under_way:
                if self._closing:
                    return
            elif self._delivered():
                pause = _FIRST_PAUSE
            elif time.monotonic() >= self._deadline:
                return
            else:
                self._stop.wait(pause * random.uniform(0.5, 1.0))
                if self._closing:
                    time.sleep(0.05)  # `_stop` stays set: do not spin while the deadline runs
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _fill(self) -> None:
        """Move events from the queue to the batch under way, which is kept until it is taken."""
        size = sum(map(len, self._under_way))
        while self._queue and len(self._under_way) < self._batch:
            if self._under_way and size + len(self._queue[0]) > _BODY_BYTES:
                return
            with self._lock:  # `queued` must never miss the one that moves
                self._under_way.append(self._queue.popleft())
            size += len(self._under_way[-1])

    def _delivered(self) -> bool:
        """Send the batch under way once; True when the monitor dealt with it."""
        try:
            status, answer = self._post(b"\n".join(self._under_way))
            if status == 200:
                verdict = orjson.loads(answer)
                rejected, accepted = list(verdict["rejected"]), verdict["accepted"]
                done = accepted + verdict["duplicates"] + len(rejected) == len(self._under_way)
            else:
                rejected, done = [], False
        except Exception as error:  # the thread must outlive whatever answers on that address
            self._disconnect()
            _log.debug("the monitor does not answer: %s", error)
            return False
        if status in (400, 413, 422):
            rejected, done = self._under_way, True
        if not done:
            _log.warning("the monitor answered %d: %r", status, answer[:200])
            return False
        if rejected:
            _log.warning("the monitor refused %d events: %r", len(rejected), answer[:500])
        with self._lock:
            self.sent += len(self._under_way) - len(rejected)
            self.rejected += len(rejected)
            self._held_bytes -= sum(map(len, self._under_way))
            self._under_way = []
        return True

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = self._connect()
        headers = {**self._headers, DROPPED: str(self.dropped)}
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def _connect(self) -> HTTPConnection:
        if self._connection is None:
            from http.client import HTTPConnection, HTTPSConnection

            kind = HTTPSConnection if self._scheme == "https" else HTTPConnection
            self._connection = kind(self._host, self._port, timeout=_TIMEOUT)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
