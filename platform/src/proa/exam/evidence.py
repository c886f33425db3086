"""Evidence, version 1: the results of both sides with the rules they are judged by.

    {"schema_version": 1, "model", "candidate": digest, "champion": digest|null,
     "exam": digest, "data": digest, "rules": {…}, "runtime": fingerprint,
     "candidate_results": [result…], "champion_results": [result…]|null}

A result of a classic model: `id unit suite label value decision error blame slices`; of an llm:
`id unit suite passed failures error blame` and, for people, `question answer citations`.
`error` is null or the sentence of what went wrong; `blame` is then `model` or `transport`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from proa.errors import InvalidInput
from proa.exam.metrics import Answers
from proa.exam.rules import Rules
from proa.release.canonical import digest_bytes, digest_json

SCHEMA_VERSION = 1
ROWS = "rows"
"""The one suite of a classic exam."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one side answered to one task or row, and whether that was right.

    Attributes:
        value: a probability, a prediction, a probability per class; None without an answer.
        passed: for an llm, whether every expectation held.
        failures: the expectations that did not hold, one sentence each.
        error: why there is no answer; `blame` says whose fault that was.
        shown: what people want to see beside it (question, answer, citations, tokens).
    """

    id: str
    unit: str
    suite: str
    label: float | str | None = None
    value: float | list[float] | None = None
    decision: float | str | bool | None = None
    passed: bool | None = None
    failures: tuple[str, ...] = ()
    error: str | None = None
    blame: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The result as evidence carries it."""
        common = {"id": self.id, "unit": self.unit, "suite": self.suite, "error": self.error}
        common |= {"blame": self.blame}
        if self.suite == ROWS:
            body: dict[str, Any] = {
                "label": self.label,
                "value": self.value,
                "decision": self.decision,
            }
            if self.slices:
                body["slices"] = dict(self.slices)
            return common | body
        return common | {
            "passed": bool(self.passed),
            "failures": list(self.failures),
            **self.shown,
        }


def make_evidence(
    *,
    model: str,
    rules: Rules,
    data: str,
    runtime: str,
    candidate: str,
    candidate_results: Sequence[Outcome],
    champion: str | None,
    champion_results: Sequence[Outcome] | None,
) -> dict[str, Any]:
    """Lay results together as evidence, plain JSON.

    Args:
        data: the digest of the exam's rows or tasks.
        runtime: the candidate's runtime fingerprint.
        candidate, champion: manifest digests.
    """
    as_json = rules.model_dump(mode="json")
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "candidate": candidate,
        "champion": champion,
        "exam": exam_digest(as_json, data),
        "data": data,
        "rules": as_json,
        "runtime": runtime,
        "candidate_results": [outcome.to_json() for outcome in candidate_results],
        "champion_results": None
        if champion_results is None
        else [outcome.to_json() for outcome in champion_results],
    }


def exam_digest(rules: Mapping[str, Any], data: str) -> str:
    """An exam's identity: its rules and the digest of its rows or tasks."""
    return digest_json({"rules": rules, "data": data})


def evidence_digest(evidence: Mapping[str, Any]) -> str:
    """The digest that a verdict names and that seeds its intervals.

    Evidence has megabytes, so this is orjson with sorted keys and not RFC 8785, which is fifty
    times slower; both are one byte string per value.

    Raises:
        InvalidInput: a value that is no JSON.
    """
    try:
        return digest_bytes(orjson.dumps(evidence, option=orjson.OPT_SORT_KEYS))
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"evidence: cannot be written as JSON: {error}") from error


_KEYS = {
    "schema_version", "model", "candidate", "champion", "exam", "data", "rules", "runtime",
    "candidate_results", "champion_results",
}  # fmt: skip


def check_shape(evidence: Any) -> Mapping[str, Any]:
    """Return the evidence if it has the shape of version 1, whatever its contents say.

    Raises:
        InvalidInput: names the key that is missing, unknown or of another type.
    """
    if not isinstance(evidence, Mapping):
        raise InvalidInput("evidence: expected a JSON object", param="evidence")
    for key in sorted(_KEYS ^ set(evidence)):
        word = "is missing" if key in _KEYS else "is not a key"
        raise InvalidInput(f"evidence: {key} {word}", param=key)
    if evidence["schema_version"] != SCHEMA_VERSION:
        raise InvalidInput(
            f"evidence: schema_version = {evidence['schema_version']!r}: expected 1",
            param="schema_version",
        )
    for key in ("model", "candidate", "exam", "data", "runtime"):
        if not isinstance(evidence[key], str) or not evidence[key]:
            raise InvalidInput(f"evidence: {key}: expected a text", param=key)
    if evidence["champion"] is not None and not isinstance(evidence["champion"], str):
        raise InvalidInput("evidence: champion: expected a digest or null", param="champion")
    for key in ("candidate_results", "champion_results"):
        value = evidence[key]
        if value is None and key == "champion_results":
            continue
        if not isinstance(value, list) or not all(_is_result(item) for item in value):
            raise InvalidInput(
                f"evidence: {key}: expected results with id, unit and suite", param=key
            )
    return evidence


def _is_result(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(value.get(key), str) for key in ("id", "unit", "suite")
    )


def to_answers(results: Sequence[Mapping[str, Any]], rules: Rules) -> Answers:
    """Arrays of results; what is missing or no number becomes NaN.

    For an llm, a task without an answer counts as not passed.
    """
    answered = np.array([item.get("error") is None for item in results], dtype=np.float64)
    if rules.kind == "llm":
        passed = np.array([item.get("passed") is True for item in results], dtype=np.float64)
        nothing = np.full(len(results), np.nan)
        return Answers(nothing, passed * answered, nothing, answered)
    label = np.array([_number(item.get("label"), rules) for item in results], dtype=np.float64)
    decision = np.array([_number(item.get("decision"), rules) for item in results], np.float64)
    if rules.task == "multiclass":
        value = np.array([_vector(item.get("value"), len(rules.classes)) for item in results])
        return Answers(label, value.reshape(len(results), -1), decision, answered)
    value = np.array([_number(item.get("value"), rules) for item in results], dtype=np.float64)
    return Answers(label, value, decision, answered)


def _number(value: Any, rules: Rules) -> float:
    if isinstance(value, str) and value in rules.classes:
        return float(rules.classes.index(value))
    return float(value) if isinstance(value, bool | int | float) else float("nan")


def _vector(value: Any, size: int) -> list[float]:
    if isinstance(value, list) and len(value) == size:
        return [float(item) if isinstance(item, int | float) else float("nan") for item in value]
    return [float("nan")] * size
