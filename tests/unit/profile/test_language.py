"""The state of a language release: exact sums, whatever the order."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proa.errors import Conflict, InvalidInput
from proa.events.check import check_event
from proa.events.event import feedback_event, judgement_event
from proa.profile.embedding import RandomFeatures, decode_vectors, encode_vector
from proa.profile.language import LanguageState, opinion_of
from tests.unit.profile.questions import DIMENSION, RELEASE, answer, ask, reference

VECTORS = ask(1, 40)


def judgement(number: int, **more: Any) -> Any:
    given: dict[str, Any] = {
        "event_id": f"{number:026d}",
        "name": "helpful",
        "score": 4,
        "good": True,
        "judge": "j",
        "digest": "d",
        "weight": 20.0,
        "tokens": 300,
    }
    return check_event(judgement_event(answer(number), **(given | more)))


def thumb(value: Any) -> Any:
    return feedback_event(model="python-help", kind="llm", request="r", value=value,
                          release=RELEASE)  # fmt: skip


def states() -> list[LanguageState]:
    """A few different windows."""
    made = []
    for part in range(4):
        state = LanguageState.of(reference())
        rows = range(part * 10, part * 10 + 10)
        events = [answer(k, vector=VECTORS[k], refused=k % 5 == 0) for k in rows]
        for event in events:
            event["embeddings"]["answer"] = encode_vector(VECTORS[39 - part])
        events += [judgement(part, good=bool(part % 2)), thumb(part % 2 == 0)]
        state.add(events, reference())
        made.append(state)
    return made


@given(order=st.permutations(range(4)), cut=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_merge_has_no_order_and_no_grouping(order: list[int], cut: int) -> None:
    parts = states()
    whole = reduce(LanguageState.merge, parts).to_bytes()
    mixed = [parts[k] for k in order]
    left = reduce(LanguageState.merge, mixed[:cut])
    right = reduce(LanguageState.merge, mixed[cut:])
    assert left.merge(right).to_bytes() == whole
    assert right.merge(left).to_bytes() == whole
    assert LanguageState.of(reference()).merge(left.merge(right)).to_bytes() == whole


def test_a_state_is_its_bytes() -> None:
    state = states()[0]
    again = LanguageState.from_bytes(state.to_bytes())
    assert again.to_bytes() == state.to_bytes()
    assert len(state.to_bytes()) < 16_384
    assert LanguageState.from_bytes(LanguageState.of(None).to_bytes()).questions is None
    with pytest.raises(InvalidInput, match="unknown form"):
        LanguageState.from_bytes(b"proa-language 2\n{}")
    with pytest.raises(InvalidInput, match="no language state"):
        LanguageState.from_bytes(b"proa-language 1\n{}")


def test_what_is_counted() -> None:
    state = LanguageState.of(reference())
    index = {"digest": "sha256:i", "documents": 3, "newest": "2013-03-01T00:00:00Z"}
    state.add(
        [
            answer(1, vector=VECTORS[0], index=index, groundedness=0.5, tokens_cached=30),
            answer(2, refused=True, finish_reason="content_filter", retrieved=[],
                   guard=[{"rule": "pii", "where": "input", "action": "block"}]),
            answer(3, status=503, finish_reason="error"),
            answer(4, index=index, retrieved=[], embedder="sha256:other", vector=VECTORS[1]),
            answer(5, purpose="gate"),
            answer(6, purpose="shadow"),
            judgement(7, weight=10.0), judgement(8, weight=0.0),
            judgement(9, score=None, good=None),
            thumb(True), thumb(-1), thumb("so-so"),
        ],
        reference(),
    )  # fmt: skip
    assert (state.counts["calls"], state.rows) == (4, 3)
    assert state.named("finish") == {"stop": 2, "content_filter": 1, "error": 1}
    assert state.named("guard") == {"pii": 1}
    assert state.named("embedder") == {"sha256:other": 1}
    assert (state.counts["searched"], state.counts["empty"]) == (2, 1)
    assert (state.counts["judged"], state.counts["judged_unread"]) == (2, 1)
    assert (state.counts["w"], state.counts["w_good"]) == (10_240, 10_240)
    assert (state.counts["feedback"], state.counts["feedback_good"]) == (2, 1)
    assert state.mean("groundedness").mean == pytest.approx(0.5)
    assert state.mean("cached").mean == pytest.approx(30 / 301, abs=1e-4)
    assert state.newest == "2013-03-01T00:00:00Z"
    assert state.questions is not None
    assert state.questions.rows == 1


def test_vectors_that_are_none_are_left_out_and_counted() -> None:
    state = LanguageState.of(reference())
    events = [answer(k, vector=VECTORS[0]) for k in range(4)]
    events[0]["embeddings"]["question"] = "not base64!"
    events[1]["embeddings"]["question"] = encode_vector(np.zeros(DIMENSION))
    events[2]["embeddings"]["question"] = encode_vector(np.full(DIMENSION, np.inf))
    state.add(events, reference())
    assert state.questions is not None
    assert state.questions.rows == 1
    assert state.counts["unread_embeddings"] == 3


def test_names_without_end_are_bounded() -> None:
    state = LanguageState.of(None)
    state.add([answer(k, finish_reason=f"reason-{k}") for k in range(200)])
    assert len(state.named("finish")) == 41
    assert state.named("finish")["(other)"] == 160


def test_another_reference_is_refused() -> None:
    state = LanguageState.of(None)
    with pytest.raises(Conflict):
        state.merge(LanguageState.of(reference()))
    with pytest.raises(Conflict):
        state.add([], reference())


def test_vectors_survive_the_event() -> None:
    read = decode_vectors([encode_vector(v) for v in VECTORS], DIMENSION)
    assert np.abs(read - VECTORS).max() < 1e-3
    assert len(encode_vector(np.zeros(384))) == 1024


def test_features_are_the_same_everywhere() -> None:
    """Of a fixed seed and vector, to the last place: states of two machines must add up."""
    features = RandomFeatures(3, 1.25, 20_260_101).sums(np.array([[0.6, 0.0, 0.8]], np.float32))
    assert features[:4].tolist() == FIRST


FIRST = [58564, 61080, -63806, 31608]


@pytest.mark.parametrize(
    ("value", "good"),
    [(True, True), (False, False), (1, True), (-1, False), (0, False), (5, True), (4, True),
     (3, None), (2, False), ("up", True), (" Bad ", False), ("hm", None), (float("nan"), None)],
)  # fmt: skip
def test_what_people_mean(value: Any, good: bool | None) -> None:
    assert opinion_of(value) is good
