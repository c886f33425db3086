"""Everything before the engine: guard the question, retrieve, guard the passages, pack.

The assistant and the selftest of a release run this one function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from proa.guard.engine import Finding, Guard
from proa.retrieval.context import Packed, Packer
from proa.retrieval.search import Found, Hit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Search(Protocol):
    """What finds passages: `proa.retrieval.search.Searcher`."""

    def find(self, question: str) -> Found:
        """The best passages, best first, and the question's vector."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes to the engine, or the refusal that is answered instead.

    Attributes:
        question: the last message, masked; what is searched for and packed.
        retrieved: every passage found, before the guard.
        refusal: the fixed text to answer with; then `packed` is None.
        vector: of the question, float32 [dimension]; None when nothing was searched for.
    """

    question: str
    retrieved: tuple[Hit, ...]
    findings: tuple[Finding, ...]
    packed: Packed | None
    refusal: str | None
    vector: NDArray[np.float32] | None = field(default=None, compare=False)

    def to_selftest(self) -> dict[str, Any]:
        """The output of a selftest case: the same on every machine, without an engine."""
        wire = {} if self.packed is None else self.packed.to_wire()
        return {
            "retrieved": [hit.id for hit in self.retrieved],
            "context": {key: wire[key] for key in _PARTS if key in wire},
            "packed": None if self.packed is None else self.packed.digest,
            "guard": [finding.to_wire() for finding in self.findings],
        }


_PARTS = ("system", "retrieved", "history", "question")


def prepare(
    messages: Sequence[Mapping[str, str]],
    *,
    guard: Guard,
    searcher: Search | None,
    packer: Packer,
) -> Prepared:
    """Prepare the answer to a conversation.

    Args:
        messages: `{"role": "user"|"assistant", "content"}`; the last one is the user's question.
        searcher: None for a release without retrieval.
    """
    findings: list[Finding] = []
    history, refusal = [], None
    for message in messages[:-1]:
        checked = guard.check(message["content"], "history")
        findings += checked.findings
        refusal = refusal or checked.refusal
        history.append({"role": message["role"], "content": checked.text})
    asked = guard.check(messages[-1]["content"], "input")
    findings += asked.findings
    refusal = asked.refusal or refusal
    refusal = refusal or _across(messages, guard, findings)
    if refusal is not None:
        return Prepared(asked.text, (), _once(findings), None, refusal)
    found = Found([], None) if searcher is None else searcher.find(asked.text)
    retrieved = tuple(found.hits)
    hits = _guarded(retrieved, guard, findings)
    if searcher is not None and (refusal := _no_context(hits, guard)) is not None:
        return Prepared(asked.text, retrieved, _once(findings), None, refusal, found.vector)
    packed = packer.pack(asked.text, hits=hits, history=history)
    return Prepared(asked.text, retrieved, _once(findings), packed, None, found.vector)


def _across(
    messages: Sequence[Mapping[str, str]], guard: Guard, findings: list[Finding]
) -> str | None:
    """Orders cut in pieces over several turns of the user."""
    found = guard.across([m["content"] for m in messages if m["role"] == "user"])
    findings += found
    blocking = {finding.rule for finding in found if finding.action == "block"}
    if not blocking or guard.policy is None:
        return None
    rule = next(rule for rule in guard.policy.rules if rule.id in blocking)
    return guard.policy.refusal(rule.refusal)


def _guarded(hits: Sequence[Hit], guard: Guard, findings: list[Finding]) -> list[Hit]:
    kept = []
    for hit in hits:
        checked = guard.check(hit.text, "retrieved")
        findings += checked.findings
        if checked.dropped:
            continue
        if checked.text != hit.text:
            hit = replace(hit, chunk=replace(hit.chunk, text=checked.text))
        kept.append(hit)
    return kept


def _no_context(hits: Sequence[Hit], guard: Guard) -> str | None:
    policy = guard.policy
    if policy is None or policy.on_no_context != "refuse":
        return None
    if hits and max(hit.cosine for hit in hits) >= policy.min_score:
        return None
    return policy.refusal("no_context")


def _once(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(findings))
