"""One release answering questions: features, score, reasons, event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from proa.errors import InvalidInput
from proa.events.event import prediction_event
from proa.http.caller import Caller
from proa.http.clock import Clock
from proa.release.scoring import checked
from proa_predictor.answer import Answer
from proa_predictor.kept_reasons import KeptReasons
from proa_predictor.loading import Loaded
from proa_predictor.question import Question
from proa_predictor.reasons import Explainer

__all__ = ["Features", "Predictor", "Sink"]

_INLINE_ROWS: Final = 256
"""More rows than this are scored in a thread, so that other requests are not held up."""


class Sink(Protocol):
    """Where events go; never blocks."""

    def emit(self, event: Mapping[str, Any]) -> bool: ...


class Features(Protocol):
    """Reads features by entity: columns and, by view, ages in seconds."""

    async def read(
        self, entities: Mapping[str, list[Any]], now: datetime
    ) -> tuple[dict[str, list[Any]], dict[str, list[float]]]: ...


class Predictor:
    """Answers for one loaded release.

    Args:
        features: None when this process was started without a feature server.
        sink: None to write no events.
        reasons_share: the share of users' answers whose event gets reasons unasked, 0 … 1.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        features: Features | None,
        sink: Sink | None,
        clock: Clock,
        reasons_share: float = 0.0,
    ) -> None:
        self.loaded = loaded
        self._spec = loaded.spec
        self._scorer = loaded.scorer
        self._explainer = Explainer(loaded.scorer, loaded.background)
        self._features = features
        self._sink = sink
        self._clock = clock
        self._release = str(loaded.ref)
        self._kept: KeptReasons | None = None
        if sink is not None and reasons_share > 0 and self._spec.explainer == "shap":
            self._kept = KeptReasons(self._explainer, reasons_share, sink.emit)

    def close(self) -> None:
        """Send the events that wait for their reasons."""
        if self._kept is not None:
            self._kept.close()

    async def answer(self, question: Question, caller: Caller) -> Answer:
        """Answer a question.

        Raises:
            ProaError: what is wrong with the question, or that features are unknown or stale.
        """
        columns, ages = question.columns, None
        now = caller.moment() or self._clock.now()
        if columns is None:
            assert self._features is not None, "the reader refuses entities without features"
            read, ages = await self._features.read(question.entities, now)
            columns = {c.name: read[c.name] for c in self._spec.columns if c.name in read}
        values = checked(self._spec, columns)
        if question.rows <= _INLINE_ROWS:
            outputs = self._scorer.answer(values)
        else:
            outputs = await asyncio.to_thread(self._scorer.answer, values)
        answer = Answer(values, outputs, ages)
        if question.explain:
            answer.reasons, answer.explained, answer.base = await asyncio.to_thread(
                self._explainer.reasons, values
            )
        return answer

    def record(
        self,
        caller: Caller,
        *,
        status: int,
        latency_ms: float,
        question: Question | None,
        answer: Answer | None,
    ) -> None:
        """Write the event of one answered request; a failed one has no rows."""
        if self._sink is None:
            return
        entity = self._entity(question) if question is not None and answer is not None else None
        ages = answer.ages if answer is not None else None
        event = prediction_event(
            request=caller.request,
            model=self.loaded.ref.name,
            release=self._release,
            track=caller.track,
            rows=0 if question is None or answer is None else question.rows,
            inputs={} if answer is None else answer.inputs,
            outputs={} if answer is None else answer.outputs,
            latency_ms=latency_ms,
            status=status,
            purpose=caller.purpose,
            entity=entity,
            reasons=None if answer is None else answer.reasons,
            features=None if ages is None else {v: {"age_seconds": a} for v, a in ages.items()},
            team=caller.team,
            feature=caller.feature,
            unit=caller.unit,
            variant=caller.variant,
            trace=caller.trace,
            attributes=None if question is None or answer is None else question.attributes,
            time=_event_time(caller),
        )
        unexplained = answer is not None and answer.reasons is None
        if self._kept is None or not unexplained or not self._kept.take(event, event["inputs"]):
            self._sink.emit(event)

    def _entity(self, question: Question) -> list[Any] | None:
        """The entity column's values, else the only key's, else objects of all keys."""
        known = question.entities
        if self._spec.entity in known:
            return known[self._spec.entity]
        if len(known) <= 1:
            return next(iter(known.values()), None)
        return [
            dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)
        ]


def _event_time(caller: Caller) -> datetime | None:
    try:
        return caller.moment()
    except InvalidInput:  # it was answered with 400; that happened now
        return None
