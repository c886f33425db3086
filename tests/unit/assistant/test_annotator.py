"""What an event gains after the answer is out, and that it always goes on.

Faked: the embedder (hashed words), and the emitter is a list.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from proa.events.check import check_event
from proa.events.event import answer_event
from proa.profile.embedding import decode_vectors
from proa_assistant.annotator import Annotator
from tests.processes import wait_until
from tests.standins.hashed_words import HashedWords

RELEASE = "python-help/2@sha256:" + "0a" * 32


def event(number: int = 0, **more: Any) -> Any:
    given: dict[str, Any] = {
        "request": f"r{number}",
        "model": "python-help",
        "release": RELEASE,
        "track": None,
        "question": "Is a tuple immutable?",
        "answer": "A tuple is immutable.\n\nSources: [1] Tuples",
        "latency_ms": 1.0,
        "retrieved": [],
        "guard": [],
    }
    return answer_event(**(given | more))


def annotator(out: list[Any], embedder: Any, **more: Any) -> Annotator:
    def emit(event: Any) -> bool:
        out.append(event)
        return True

    return Annotator(emit, embedder, embedder="sha256:e", name="words", **more)


def test_answers_gain_their_vectors_and_groundedness() -> None:
    out: list[Any] = []
    embedder = HashedWords()
    made = annotator(out, embedder, grounded=1.0)
    made(event(), ["A tuple is immutable."])
    wait_until(lambda: out, 10, what="the event")
    made.close()
    given = check_event(out[0])["embeddings"]
    assert (given["embedder"], given["name"]) == ("sha256:e", "words")
    for name, text in (("question", "Is a tuple immutable?"), ("answer", "A tuple is immutable.")):
        vector = decode_vectors([given[name]], embedder.embed([text]).shape[1])[0]
        assert float(vector @ embedder.embed([text])[0]) > 0.999
    assert out[0]["groundedness"] == 1.0
    assert made.annotated == 1


@pytest.mark.parametrize("more", [{"status": 503}, {"question": " "}])
def test_what_nobody_answered_goes_on_as_it_is(more: dict[str, Any]) -> None:
    out: list[Any] = []
    made = annotator(out, HashedWords(), grounded=1.0)
    made(event(**more), ["A tuple is immutable."])
    wait_until(lambda: out, 10, what="the event")
    made.close()
    assert out[0]["embeddings"] is None
    assert out[0]["groundedness"] is None


def test_a_refusal_shows_its_question_alone() -> None:
    out: list[Any] = []
    made = annotator(out, HashedWords(), grounded=1.0)
    made(event(refused=True), ["A tuple is immutable."])
    wait_until(lambda: out, 10, what="the event")
    made.close()
    assert out[0]["embeddings"]["question"]
    assert out[0]["embeddings"]["answer"] is None
    assert out[0]["groundedness"] is None


class Stuck:
    """An embedder that answers when it is let, or never."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def embed(self, _: list[str]) -> Any:
        self.let.wait(20)
        raise RuntimeError("no embedder today")


def test_a_slow_or_broken_embedder_loses_no_event_and_holds_nobody_up() -> None:
    out: list[Any] = []
    stuck = Stuck()
    made = annotator(out, stuck)
    began = time.perf_counter()
    for number in range(200):
        assert made(event(number), [])
    assert time.perf_counter() - began < 5
    wait_until(lambda: len(out) >= 136, 10, what="those beyond the queue")
    stuck.let.set()
    made.close(20)
    assert sorted(e["request"] for e in out) == sorted(f"r{k}" for k in range(200))
    assert made.annotated + made.passed_on == 200
    assert all(np.all(e["embeddings"] is None) for e in out)
    assert made(event(201), [])  # after the end it goes on at once
    assert out[-1]["request"] == "r201"
