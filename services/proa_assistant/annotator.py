"""What an event gains after the answer is out: its embeddings, and how far passages support it.

One thread with a short queue stands before the emitter. It works a quarter of the time at most, so
that answers keep their cores: when more comes than it can do, or the queue is full, events go on
as they are. Each event goes on exactly once, in the order in which they came.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from proa.events.event import Event
from proa.exam.grounding import groundedness
from proa.profile.embedding import encode_vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Annotator"]

_QUEUE: Final = 64
_BUSY: Final = 4
"""Events waiting from which the next ones are not looked at."""
_REST: Final = 3.0
"""Seconds of rest for each second of work."""
_LONGEST_REST: Final = 2.0
_CHARACTERS: Final = 4_000
"""Of an answer, and of all its passages together, that are read."""
_log = logging.getLogger(__name__)


class Embeds(Protocol):
    """`proa.retrieval.search.Searcher`."""

    def embed(self, texts: list[str]) -> NDArray[np.float32]: ...


class Annotator:
    """Adds to events what takes time, then hands them on.

    Args:
        emit: takes the finished event.
        searcher: embeds as the index was embedded.
        embedder, name: digest and name of what it embeds with.
        answers: share of the answers that are embedded, 0 … 1.
        grounded: share of the answers whose groundedness is reckoned, 0 … 1.
    """

    def __init__(
        self,
        emit: Callable[[Event], bool],
        searcher: Embeds,
        *,
        embedder: str,
        name: str,
        answers: float = 1.0,
        grounded: float = 0.1,
    ) -> None:
        self._emit, self._searcher = emit, searcher
        self._embedder, self._name = embedder, name
        self._answers, self._grounded = answers, grounded
        self._pick = random.Random()
        self._queue: deque[tuple[Event, Sequence[str]]] = deque()
        self._more, self._stop = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self.annotated = self.passed_on = 0
        """Events that were looked at, and those that went on as they came."""
        self._thread = threading.Thread(target=self._run, name="proa-annotator", daemon=True)
        self._thread.start()

    def __call__(self, event: Event, passages: Sequence[str]) -> bool:
        """Take an event; False when it was dropped. Never waits for the embedder."""
        with self._lock:
            if not self._stop.is_set() and len(self._queue) < _QUEUE:
                self._queue.append((event, passages))
                self._more.set()
                return True
        self.passed_on += 1
        return self._emit(event)

    def close(self, deadline: float = 5.0) -> None:
        """Hand on everything that waits, as it is; then `emit` may be closed."""
        with self._lock:
            self._stop.set()
        self._more.set()
        self._thread.join(deadline)

    def _run(self) -> None:
        while True:
            self._more.wait()
            self._more.clear()
            while self._queue:
                event, passages = self._queue[0]
                began = time.perf_counter()
                busy = len(self._queue) > _BUSY or self._stop.is_set()
                if not busy and self._worthwhile(event):
                    self._annotate(event, passages)
                    self.annotated += 1
                else:
                    self.passed_on += 1
                self._emit(event)
                with self._lock:
                    self._queue.popleft()
                if not busy:
                    taken = time.perf_counter() - began
                    self._stop.wait(min(_LONGEST_REST, _REST * taken))
            if self._stop.is_set():
                return

    def _worthwhile(self, event: Event) -> bool:
        return bool(event["status"] < 400 and event["question"].strip())

    def _annotate(self, event: Event, passages: Sequence[str]) -> None:
        """Add vectors and groundedness, in place; a fault leaves the event as it was."""
        try:
            self._embed(event)
            if passages and not event["refused"] and self._pick.random() < self._grounded:
                event["groundedness"] = self._supported(event["answer"], passages)
        except Exception:  # whatever the embedder does, the event must go on
            _log.exception("request %s: its answer could not be looked at", event["request"])

    def _embed(self, event: Event) -> None:
        given: dict[str, Any] = event["embeddings"] or {
            "embedder": self._embedder, "name": self._name, "question": None, "answer": None,
        }  # fmt: skip
        wanted = [] if given["question"] else ["question"]
        spoken = event["answer"].strip() and not event["refused"]
        if spoken and self._pick.random() < self._answers:
            wanted.append("answer")
        if not wanted:
            return
        vectors = self._searcher.embed([_own(event[name])[:_CHARACTERS] for name in wanted])
        found = {name: encode_vector(vector) for name, vector in zip(wanted, vectors, strict=True)}
        event["embeddings"] = {**given, **found}

    def _supported(self, answer: str, passages: Sequence[str]) -> float:
        room, read = _CHARACTERS, []
        for passage in passages:
            if room > 0:
                read.append(passage[:room])
                room -= len(passage)
        return groundedness(_own(answer)[:_CHARACTERS], read, embed=self._searcher.embed)


def _own(text: str) -> str:
    """An answer without its list of sources, which the platform adds."""
    return text.rpartition("\n\nSources: [1] ")[0] or text
