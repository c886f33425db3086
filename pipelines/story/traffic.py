"""Users: threads that call the two models through the gateway while rollouts go on."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from proa.errors import ProaError

Call = Callable[[int], str]
"""Make the nth call; return the release that answered."""


@dataclass
class Seen:
    """What the users saw: answers per release, and faults with their text."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    timeline: list[tuple[float, str]] = field(default_factory=list)


@contextmanager
def users(call: Call, count: int, *, pause: float = 0.0) -> Iterator[Seen]:
    """Let `count` users call in a loop until the block ends; their last calls are waited for."""
    seen, stop, numbers = Seen(), threading.Event(), itertools.count()
    lock = threading.Lock()

    def live() -> None:
        while not stop.is_set():
            try:
                release = call(next(numbers))
            except ProaError as error:
                with lock:
                    seen.faults.append(str(error))
                stop.wait(0.2)
                continue
            with lock:
                seen.answers[release] += 1
                seen.timeline.append((time.time(), release))
            stop.wait(pause)

    threads = [threading.Thread(target=live, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=120)


def in_turn(items: Sequence[object], number: int) -> object:
    """The nth item, again from the first after the last."""
    return items[number % len(items)]
