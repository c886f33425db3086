"""One answer from question to event: guard, retrieve, pack, engine, guard, citations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from proa.errors import ProaError
from proa.events.event import Event, answer_event
from proa.guard.engine import Finding
from proa.guard.prepare import Prepared, prepare
from proa.guard.stream import OutputFilter
from proa.http import headers as names
from proa.http.bodies import status_of
from proa.http.caller import Caller
from proa.profile.embedding import encode_vector
from proa.retrieval.context import Packed
from proa_assistant.engine import Delta
from proa_assistant.loading import Loaded
from proa_assistant.metrics import Metrics
from proa_assistant.question import Question
from proa_assistant.wire import Usage

__all__ = ["CLIENT_GONE", "Answer", "Answerer", "EngineStream"]

CLIENT_GONE = 499
"""Status of an event whose client did not wait for the end; nobody is sent it."""


class EngineStream(Protocol):
    """The engine: `proa_assistant.engine.EngineDoor`."""

    def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int | None,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[Delta, None]:
        """The answer's pieces."""


@dataclass
class Answer:
    """One answer while it is made; afterwards all that its event says."""

    caller: Caller
    began: float
    time: datetime | None = None
    question: Question | None = None
    prepared: Prepared | None = None
    text: str = ""
    findings: list[Finding] = field(default_factory=list)
    usage: Usage | None = None
    ttft_ms: float | None = None
    finish_reason: str | None = None
    refused: bool = False
    citations: list[dict[str, Any]] = field(default_factory=list)

    def extra(self, release: str) -> dict[str, Any]:
        """The `proa` part of the answer."""
        extra: dict[str, Any] = {
            "release": release,
            "request": self.caller.request,
            "citations": self.citations,
            "context": self.context(),
            "guard": [finding.to_wire() for finding in dict.fromkeys(self.findings)],
            "refused": self.refused,
        }
        if self.question is not None and self.question.ignored:
            extra["ignored"] = list(self.question.ignored)
        return extra

    def context(self) -> dict[str, Any] | None:
        """Tokens of each part of the prompt; None when nothing was packed."""
        packed = None if self.prepared is None else self.prepared.packed
        return None if packed is None else packed.to_wire()


class Answerer:
    """Answers questions with one release."""

    def __init__(self, loaded: Loaded, engine: EngineStream, metrics: Metrics) -> None:
        self._loaded, self._engine, self._metrics = loaded, engine, metrics
        self.release = str(loaded.ref)
        self.model = loaded.ref.name

    async def pieces(self, answer: Answer, question: Question) -> AsyncGenerator[str, None]:
        """Make the answer and yield its text as it may go out; `answer` is filled on the way.

        Raises:
            ProaError: from the engine; what was yielded until then stands in `answer.text`.
        """
        answer.question = question
        async with aclosing(self._pieces(answer, question)) as pieces:
            async for piece in pieces:
                answer.text += piece
                yield piece

    async def _pieces(self, answer: Answer, question: Question) -> AsyncGenerator[str, None]:
        began = time.perf_counter()
        prepared = answer.prepared = await asyncio.to_thread(
            prepare,
            question.messages,
            guard=self._loaded.guard,
            searcher=self._loaded.searcher,
            packer=self._loaded.packer,
        )
        self._metrics.prepare.observe(time.perf_counter() - began)
        answer.findings += prepared.findings
        if prepared.packed is None:
            answer.usage = Usage()
            yield self._refused(answer, prepared.refusal or "")
            return
        async with aclosing(self._generated(answer, question, prepared.packed)) as pieces:
            async for piece in pieces:
                yield piece
        if self._loaded.spec.citations and prepared.packed.used and not answer.refused:
            answer.citations = [hit.citation() for hit in prepared.packed.used]
            yield _sources(answer.citations)

    async def _generated(
        self, answer: Answer, question: Question, packed: Packed
    ) -> AsyncGenerator[str, None]:
        """The engine's text through the output rules."""
        output = OutputFilter(self._loaded.guard, whole=not question.stream)
        deltas = self._engine.stream(
            packed.messages, max_tokens=question.max_tokens, headers=_forwarded(answer.caller)
        )
        async with aclosing(deltas):
            async for delta in deltas:
                answer.usage = delta.usage or answer.usage
                answer.finish_reason = delta.finish_reason or answer.finish_reason
                if delta.text and answer.ttft_ms is None:
                    answer.ttft_ms = (time.perf_counter() - answer.began) * 1000
                if piece := output.feed(delta.text):
                    yield piece
                if output.refusal is not None:
                    break
        if piece := output.close():
            yield piece
        answer.findings += output.findings
        if output.refusal is not None:
            # Text that is out cannot be taken back; the fixed one says why it ends here.
            text = self._refused(answer, output.refusal)
            yield f"\n\n{text}" if answer.text else text

    def _refused(self, answer: Answer, text: str) -> str:
        answer.refused = True
        answer.finish_reason = "content_filter"
        self._metrics.refusals.inc()
        return text

    def event(self, answer: Answer, *, error: ProaError | None, gone: bool) -> Event:
        """The event of an answer, complete or not. It holds no text that a rule masks."""
        guard, question, prepared = self._loaded.guard, answer.question, answer.prepared
        used = () if prepared is None or prepared.packed is None else prepared.packed.used
        status = CLIENT_GONE if gone else 200 if error is None else status_of(error)
        caller = answer.caller
        return answer_event(
            request=caller.request,
            model=self.model,
            release=self.release,
            track=caller.track,
            question="" if question is None else guard.redact(question.text),
            answer=guard.redact(answer.text),
            latency_ms=(time.perf_counter() - answer.began) * 1000,
            tokens_in=None if answer.usage is None else answer.usage.tokens_in,
            tokens_out=None if answer.usage is None else answer.usage.tokens_out,
            ttft_ms=answer.ttft_ms,
            finish_reason=_ending(answer, error=error, gone=gone),
            refused=answer.refused,
            retrieved=[
                {key: value for key, value in hit.citation().items() if key != "source"}
                for hit in used
            ],
            guard=[finding.to_wire() for finding in dict.fromkeys(answer.findings)],
            context=answer.context(),
            embeddings=self._embeddings(prepared),
            index=self._loaded.index,
            tokens_cached=None if answer.usage is None else answer.usage.tokens_cached,
            status=status,
            purpose=caller.purpose,
            team=caller.team,
            feature=caller.feature,
            unit=caller.unit,
            variant=caller.variant,
            trace=caller.trace,
            time=answer.time,
        )

    def passages(self, answer: Answer) -> list[str]:
        """The texts that an answer was made from."""
        prepared = answer.prepared
        used = () if prepared is None or prepared.packed is None else prepared.packed.used
        return [hit.text for hit in used]

    def _embeddings(self, prepared: Prepared | None) -> dict[str, Any] | None:
        """The question's vector, as it was searched by; the answer's comes later."""
        retrieval = self._loaded.spec.retrieval
        if retrieval is None or prepared is None or prepared.vector is None:
            return None
        return {
            "embedder": retrieval.embedder_digest,
            "name": retrieval.embedder,
            "question": encode_vector(prepared.vector),
            "answer": None,
        }


def _ending(answer: Answer, *, error: ProaError | None, gone: bool) -> str | None:
    if gone:
        return "cancelled"
    return "error" if error is not None else answer.finish_reason


def _sources(citations: Sequence[Mapping[str, Any]]) -> str:
    """The list of sources under an answer, numbered as the passages were for the model."""
    listed = "; ".join(f"[{number}] {item['title']}" for number, item in enumerate(citations, 1))
    return f"\n\nSources: {listed}"


def _forwarded(caller: Caller) -> dict[str, str]:
    """Whom the engine's work is for: the gateway trusts these from a key with `internal`."""
    given = {
        names.PARENT: caller.request,
        names.TEAM: caller.team,
        names.FEATURE: caller.feature,
        names.PURPOSE: caller.purpose,
        names.VARIANT: caller.variant,
        names.UNIT: caller.unit,
        names.TRACEPARENT: caller.traceparent,
    }
    return {name: value for name, value in given.items() if value}
