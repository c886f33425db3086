"""The event, version 1: one flat JSON object per prediction, answer, judgement, label, feedback.

Common keys, all present, null where nothing is known:

    schema_version type id request model kind release track purpose team feature unit variant
    time status latency_ms trace

`id` is a ULID and makes an event count once. `time` is the event time in RFC 3339, UTC.
A `prediction` adds  rows entity inputs outputs reasons features, and attributes when sent;
an `answer` adds     question answer tokens_in tokens_out ttft_ms finish_reason refused retrieved
                     guard context, and where known embeddings index groundedness tokens_cached;
a `judgement` adds   name score good judge digest weight topic tokens why   (of one answer, by a
                     language model; `time` is the answer's);
a `label` adds       entity value   (what came true, for a request or for an entity);
a `feedback` adds    value comment  (what a person thought of one answer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack

from proa.http.clock import WallClock, rfc3339
from proa.http.ids import new_id

__all__ = [
    "EVENT_BYTES",
    "SCHEMA_VERSION",
    "Behind",
    "Event",
    "answer_event",
    "feedback_event",
    "judgement_event",
    "label_event",
    "prediction_event",
]

SCHEMA_VERSION: Final = 1
EVENT_BYTES: Final = 1 << 20
"""The largest event as JSON: 1 MiB."""

Event = dict[str, Any]
_WALL: Final = WallClock()


def prediction_event(
    *,
    request: str,
    model: str,
    release: str,
    track: str | None,
    rows: int,
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any]],
    latency_ms: float,
    status: int = 200,
    purpose: str = "user",
    entity: Sequence[Any] | None = None,
    reasons: Sequence[Any] | None = None,
    features: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    attributes: Mapping[str, Sequence[Any]] | None = None,
    team: str | None = None,
    feature: str | None = None,
    unit: str | None = None,
    variant: str | None = None,
    trace: str | None = None,
    time: datetime | str | None = None,
) -> Event:
    """What a classic model answered, and from what.

    Args:
        request: the call's `x-proa-request`.
        release: `name/version@sha256:hex`.
        track: `champion`, `challenger`, or None when called without a gateway.
        rows: how many rows were scored; 0 when the call failed.
        inputs: column name to its `rows` raw values, as the model got them (null when missing).
        outputs: `probability`, `label`, `prediction` …: name to its `rows` values.
        entity: the `rows` entity values, when the call came by entity.
        reasons: per row the contributions, when they were asked for or are kept of a sample.
        features: feature view to `{"age_seconds": [rows values]}`, when online features were read.
        attributes: protected attribute to `rows` values; the model never had them. Absent if none.
        latency_ms: milliseconds between the request's last byte in and the answer's first out.
        time: event time; the present moment by default.
    """
    return _common("prediction", "classic", time) | {
        "request": request,
        "model": model,
        "release": release,
        "track": track,
        "purpose": purpose,
        "team": team,
        "feature": feature,
        "unit": unit,
        "variant": variant,
        "status": status,
        "latency_ms": latency_ms,
        "trace": trace,
        "rows": rows,
        "entity": entity,
        "inputs": inputs,
        "outputs": outputs,
        "reasons": reasons,
        "features": features,
        **({} if attributes is None else {"attributes": attributes}),
    }


class Behind(TypedDict, total=False):
    """What stood behind an answer, where it is known.

    Attributes:
        context: tokens per part of the prompt, and what was cut.
        embeddings: `embedder` (digest of its weights), `name`, and of `question` and `answer` the
            vector as base64 of float16, where there is one; of the texts as they stand here.
        index: `digest`, `documents` and `newest` (RFC 3339) of the index that was searched.
        groundedness: share of the answer's sentences that its passages support.
        tokens_cached: of `tokens_in`, those the engine had in its cache.
    """

    context: Mapping[str, Any] | None
    embeddings: Mapping[str, Any] | None
    index: Mapping[str, Any] | None
    groundedness: float | None
    tokens_cached: int | None


def answer_event(
    *,
    request: str,
    model: str,
    release: str,
    track: str | None,
    question: str,
    answer: str,
    latency_ms: float,
    tokens_in: int | None = None,
    tokens_out: int | None = None,
    ttft_ms: float | None = None,
    finish_reason: str | None = None,
    refused: bool = False,
    retrieved: Sequence[Mapping[str, Any]] = (),
    guard: Sequence[Mapping[str, Any]] = (),
    status: int = 200,
    purpose: str = "user",
    team: str | None = None,
    feature: str | None = None,
    unit: str | None = None,
    variant: str | None = None,
    trace: str | None = None,
    time: datetime | str | None = None,
    **behind: Unpack[Behind],
) -> Event:
    """What a language model answered, and from what; see `prediction_event` for the rest.

    Args:
        question, answer: the last user message and the text sent back, after redaction.
        tokens_in, tokens_out, ttft_ms: the engine's counts; milliseconds to the first token.
        finish_reason: `stop`, `length`, `content_filter` … as in OpenAI's answers.
        retrieved: `{"id", "title", "score"}` of each passage shown to the model, best first.
        guard: `{"rule", "where", "action"}` of each rule that fired.
        behind: see `Behind`.
    """
    return _common("answer", "llm", time) | {
        "request": request,
        "model": model,
        "release": release,
        "track": track,
        "purpose": purpose,
        "team": team,
        "feature": feature,
        "unit": unit,
        "variant": variant,
        "status": status,
        "latency_ms": latency_ms,
        "trace": trace,
        "question": question,
        "answer": answer,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "ttft_ms": ttft_ms,
        "finish_reason": finish_reason,
        "refused": refused,
        "retrieved": retrieved,
        "guard": guard,
        **{name: behind.get(name) for name in Behind.__annotations__},
    }


def judgement_event(
    answer: Mapping[str, Any],
    *,
    event_id: str,
    name: str,
    score: int | None,
    good: bool | None,
    judge: str,
    digest: str,
    weight: float,
    tokens: int,
    topic: int | None = None,
    why: str | None = None,
) -> Event:
    """What a language model thinks of one answer.

    Args:
        answer: the answer's event.
        event_id: the same however often the answer is judged in this way.
        name: what it was asked, in a word.
        score: 1 to 5; None when its reply cannot be read, and `why` says why.
        good: whether the score reaches what was asked for.
        judge, digest: the engine, and all that its score depends on besides the answer.
        weight: answers it stands for (1 over the probability that it was picked); 0 when it was
            picked for a reason of its own.
        topic: the question's topic in the release's reference.
        tokens: that judging took.
    """
    kept = ("request", "model", "release", "track", "team", "feature", "unit", "variant", "time")
    return _common("judgement", "llm", answer["time"]) | {
        **{key: answer[key] for key in kept},
        "id": event_id,
        "purpose": "judge",
        "name": name,
        "score": score,
        "good": good,
        "judge": judge,
        "digest": digest,
        "weight": weight,
        "topic": topic,
        "tokens": tokens,
        "why": why,
    }


def label_event(
    *,
    model: str,
    kind: str,
    value: Any,
    request: str | None = None,
    entity: Any = None,
    release: str | None = None,
    team: str | None = None,
    time: datetime | str | None = None,
) -> Event:
    """What came true, however late.

    Args:
        model, kind: the model and `classic` or `llm`.
        value: the true label or value: a string, number or boolean.
        request, entity: what it is the truth of; at least one of the two.
        release: the release that answered, when known.
        time: when the truth was observed.
    """
    return _common("label", kind, time) | {
        "request": request,
        "model": model,
        "release": release,
        "team": team,
        "entity": entity,
        "value": value,
    }


def feedback_event(
    *,
    model: str,
    kind: str,
    request: str,
    value: float | str | bool,
    comment: str | None = None,
    release: str | None = None,
    team: str | None = None,
    unit: str | None = None,
    time: datetime | str | None = None,
) -> Event:
    """What a person thought of one answer: `value` is a rating, a thumb or a word."""
    return _common("feedback", kind, time) | {
        "request": request,
        "model": model,
        "release": release,
        "team": team,
        "unit": unit,
        "value": value,
        "comment": comment,
    }


def _common(event_type: str, kind: str, time: datetime | str | None) -> Event:
    if time is None:
        time = _WALL.now()
    return {
        "schema_version": SCHEMA_VERSION,
        "type": event_type,
        "id": new_id(),
        "request": None,
        "model": None,
        "kind": kind,
        "release": None,
        "track": None,
        "purpose": "user",
        "team": None,
        "feature": None,
        "unit": None,
        "variant": None,
        "time": time if isinstance(time, str) else rfc3339(time),
        "status": None,
        "latency_ms": None,
        "trace": None,
    }
