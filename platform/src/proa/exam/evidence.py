"""Evidence, version 1: the results of both sides with the rules they are judged by.

    {"schema_version": 1, "model", "candidate": digest, "champion": digest|null,
     "exam": digest, "data": digest, "rules": {…}, "runtime": fingerprint,
     "candidate_results": [result…], "champion_results": [result…]|null}

and, where there is something to say,

     "asked": {"tasks": n, "of": N, "looks": k, "rest": {suite: not asked}}   an exam cut short
     "leakage": {"checked": bool, "rows": n, "leaked": n, "ids": [first…], "times": n,
                 "until": time|null, "why_not": text|null}                  see `exam.leakage`
     "selftest": {"cases": n, "passed": bool}     what the candidate's process says of itself
     "judge": {"engine": identity, "self_judged": bool, "decides": bool, "labelled": n,
               "scored": n, "accuracy", "kappa", "low", "high", …}  see `exam.agreement`

A result of a classic model: `id unit suite label value decision error blame slices`; of an llm:
`id unit suite passed failures error blame` and, for people, `question answer citations`.
`error` is null or the sentence of what went wrong; `blame` is then `model` or `transport`.
The other fields of `Outcome` are written when they are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from proa.errors import InvalidInput
from proa.exam.answers import Answers
from proa.exam.rules import Rules
from proa.release.canonical import digest_bytes, digest_json

SCHEMA_VERSION = 1
Results = Sequence[Mapping[str, Any]]
"""Results as evidence carries them, in the exam's order."""
ROWS = "rows"
"""The one suite of a classic exam."""
_NUMBERS = (
    "baseline", "scale", "lower", "upper", "latency_ms", "ttft_ms", "tokens_in", "tokens_out",
)  # fmt: skip
_PLAIN = {float, int, bool, type(None)}
_OPTIONAL = frozenset({*_NUMBERS, "repeats", "scores"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one side answered to one task or row, and whether that was right.

    Attributes:
        value: a probability, a prediction, a probability per class; None without an answer.
        passed: for an llm, whether every expectation held.
        failures: the expectations that did not hold, one sentence each.
        error: why there is no answer; `blame` says whose fault that was.
        shown: what people want to see beside it (question, answer, citations).
        group: ranking: the query this row is a candidate of.
        baseline: forecasting: the seasonal naive forecast of this row.
        scale: forecasting: mean absolute error of that forecast in the series' own past.
        lower, upper: the interval a regression or forecast gives with its value.
        latency_ms: one call with this row or task alone, to the end of the answer; None for rows
            that were asked in a batch, which has no latency of its own.
        ttft_ms: milliseconds to the first token.
        tokens_in, tokens_out: as the engine counted them.
        repeats: whether further runs of the same task passed; the task's value is the mean of
            `passed` and these.
        scores: further figures of the answer (similarity, groundedness, rubric), 0 to 1.
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
    group: str | None = None
    baseline: float | None = None
    scale: float | None = None
    lower: float | None = None
    upper: float | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    repeats: tuple[bool, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The result as evidence carries it."""
        common: dict[str, Any] = {"id": self.id, "unit": self.unit, "suite": self.suite}
        common |= {"error": self.error, "blame": self.blame, **self._known()}
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
            **{key: value for key, value in self.shown.items() if key not in common},
        }

    def _known(self) -> dict[str, Any]:
        """The optional fields that have a value."""
        found: dict[str, Any] = {key: getattr(self, key) for key in (*_NUMBERS, "group")}
        found = {key: value for key, value in found.items() if value is not None}
        if self.repeats:
            found["repeats"] = list(self.repeats)
        if self.scores:
            found["scores"] = dict(self.scores)
        return found


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
    asked: Mapping[str, Any] | None = None,
    leakage: Mapping[str, Any] | None = None,
    selftest: Mapping[str, Any] | None = None,
    judge: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Lay results together as evidence, plain JSON.

    Args:
        data: the digest of the exam's rows or tasks.
        runtime: the candidate's runtime fingerprint.
        candidate, champion: manifest digests.
        asked, leakage, selftest, judge: as the module says; None is left out.
    """
    as_json = rules.model_dump(mode="json")
    more = {"asked": asked, "leakage": leakage, "selftest": selftest, "judge": judge}
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
        **{key: dict(value) for key, value in more.items() if value is not None},
    }


def exam_digest(rules: Mapping[str, Any], data: str) -> str:
    """An exam's identity: its rules and the digest of its rows or tasks."""
    return digest_json({"rules": rules, "data": data})


def evidence_digest(evidence: Mapping[str, Any]) -> str:
    """The digest that a verdict names.

    Evidence has megabytes, so this is orjson with sorted keys and not RFC 8785, which is fifty
    times slower; both are one byte string per value.

    Raises:
        InvalidInput: a value that is no JSON.
    """
    try:
        return digest_bytes(orjson.dumps(evidence, option=orjson.OPT_SORT_KEYS))
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"evidence: cannot be written as JSON: {error}") from error


def evidence_seed(evidence: Mapping[str, Any]) -> int:
    """What seeds the intervals: the answers, so that equal answers give equal intervals however
    long they took."""
    sides = {
        key: None if evidence[key] is None else [_without_times(item) for item in evidence[key]]
        for key in ("candidate_results", "champion_results")
    }
    return int(evidence_digest({**evidence, **sides})[7:23], 16)


def _without_times(item: Mapping[str, Any]) -> Mapping[str, Any]:
    if "latency_ms" not in item and "ttft_ms" not in item:
        return item
    return {key: value for key, value in item.items() if key not in ("latency_ms", "ttft_ms")}


_KEYS = {
    "schema_version", "model", "candidate", "champion", "exam", "data", "rules", "runtime",
    "candidate_results", "champion_results",
}  # fmt: skip
_PARTS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "asked": {"tasks": int, "of": int, "looks": int},
    "leakage": {"checked": bool, "rows": int, "ids": list, "times": int},
    "selftest": {"cases": int, "passed": bool},
    "judge": {
        "engine": str, "self_judged": bool, "decides": bool, "labelled": int, "scored": int,
        "kappa": float, "low": float, "high": float,
    },
}  # fmt: skip
"""The optional parts, with the keys that each must have."""


def check_shape(evidence: Any) -> Mapping[str, Any]:
    """Return the evidence if it has the shape of version 1, whatever its contents say.

    Raises:
        InvalidInput: names the key that is missing, unknown or of another type.
    """
    if not isinstance(evidence, Mapping):
        raise InvalidInput("evidence: expected a JSON object", param="evidence")
    for key in sorted(_KEYS ^ (set(evidence) - _PARTS.keys())):
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
        for item in value:
            _check_result(item, key)
    for part in _PARTS.keys() & set(evidence):
        _check_part(evidence[part], part)
    return evidence


def _is_result(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("id"), str)
        and isinstance(value.get("unit"), str)
        and isinstance(value.get("suite"), str)
    )


def _check_result(item: Mapping[str, Any], side: str) -> None:
    """The optional fields have their type, or are null."""
    if _OPTIONAL.isdisjoint(item):
        return

    def refuse(key: str, expected: str) -> InvalidInput:
        return InvalidInput(
            f"evidence: {side}: {item['id']!r}: {key} = {item[key]!r:.80}: expected {expected}",
            param=key,
        )

    for key in _NUMBERS:
        if item.get(key) is not None and not _is_number(item[key]):
            raise refuse(key, "a number")
    repeats, scores = item.get("repeats"), item.get("scores")
    if repeats is not None and not (
        isinstance(repeats, list) and all(isinstance(one, bool) for one in repeats)
    ):
        raise refuse("repeats", "a list of booleans")
    if scores is not None and not (
        isinstance(scores, Mapping) and all(_is_number(one) for one in scores.values())
    ):
        raise refuse("scores", "a number for each name")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_part(value: Any, part: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"evidence: {part}: expected a JSON object", param=part)
    for key, kind in _PARTS[part].items():
        if not isinstance(value.get(key), kind) or (kind is int and value[key] is True):
            raise InvalidInput(
                f"evidence: {part}.{key} = {value.get(key)!r:.80}: expected {kind}",
                param=f"{part}.{key}",
            )


def to_answers(results: Sequence[Mapping[str, Any]], rules: Rules) -> Answers:
    """Arrays of results; what is missing or no number becomes NaN.

    For an llm, a task's value is the share of its runs that passed; without an answer, none did.
    """
    answered = np.array([item.get("error") is None for item in results], dtype=np.float64)
    facts = _facts(results)
    if rules.kind == "llm":
        passed = np.array([_share_passed(item) for item in results], dtype=np.float64)
        nothing = np.full(len(results), np.nan)
        return Answers(nothing, passed * answered, nothing, answered, facts)
    label = _numbers(results, "label", rules)
    decision = _numbers(results, "decision", rules)
    if rules.task == "multiclass":
        value = np.array([_vector(item.get("value"), len(rules.classes)) for item in results])
        return Answers(label, value.reshape(len(results), -1), decision, answered, facts)
    return Answers(label, _numbers(results, "value", rules), decision, answered, facts)


def _share_passed(item: Mapping[str, Any]) -> float:
    runs = [item.get("passed") is True, *(item.get("repeats") or ())]
    return float(sum(runs)) / len(runs)


def _facts(results: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What some results know beyond their answer, NaN for the others."""
    known = set().union(*results) if results else set()
    found = {key: _column(item.get(key) for item in results) for key in _NUMBERS if key in known}
    if "group" in known:
        names = [str(item.get("group")) for item in results]
        found["group"] = np.unique(names, return_inverse=True)[1].astype(np.float64)
    if "scores" in known:
        scored: list[Mapping[str, Any]] = [item.get("scores") or {} for item in results]
        for name in sorted(set().union(*scored)):
            found[f"score:{name}"] = _column(item.get(name) for item in scored)
    return found


def _column(values: Iterable[Any]) -> np.ndarray[Any, Any]:
    return np.array([np.nan if value is None else float(value) for value in values])


def _numbers(results: Results, key: str, rules: Rules) -> np.ndarray[Any, Any]:
    values = [item.get(key) for item in results]
    if set(map(type, values)) <= _PLAIN:  # the usual case, ten times faster; None becomes NaN
        return np.array(values, dtype=np.float64)
    return np.array([_number(value, rules) for value in values], dtype=np.float64)


def _number(value: Any, rules: Rules) -> float:
    if isinstance(value, str) and value in rules.classes:
        return float(rules.classes.index(value))
    return float(value) if isinstance(value, bool | int | float) else float("nan")


def _vector(value: Any, size: int) -> list[float]:
    if isinstance(value, list) and len(value) == size:
        return [float(item) if isinstance(item, int | float) else float("nan") for item in value]
    return [float("nan")] * size
