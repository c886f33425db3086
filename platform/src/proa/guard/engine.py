"""The guard: a policy's rules over one segment of text at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from proa.guard.injection import injections
from proa.guard.normal import Normal, normalise, plain
from proa.guard.pii import DETECTORS
from proa.guard.policy import INJECTION, Policy, Rule, Where

Span = tuple[int, int]
_REMOVED = "[removed]"
_SENTENCE_END = ".!?\n"


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fired; never the text that made it fire."""

    rule: str
    where: str
    action: str

    def to_wire(self) -> dict[str, str]:
        """As in `proa.guard` of an answer and in the event."""
        return {"rule": self.rule, "where": self.where, "action": self.action}


@dataclass(frozen=True, slots=True)
class Checked:
    """A segment after the rules.

    Attributes:
        text: with masked matches; for people and models to see.
        refusal: the fixed text to answer with when a rule blocks, else None.
        dropped: the segment must not be used (retrieved text only).
    """

    text: str
    findings: tuple[Finding, ...] = ()
    refusal: str | None = None
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """Where in the original a rule fired."""

    rule: Rule
    start: int
    end: int


class Guard:
    """Applies a policy; without one nothing is found. Stateless and thread-safe."""

    def __init__(self, policy: Policy | None) -> None:
        self.policy = policy
        self._rules = tuple(policy.rules) if policy is not None else ()
        self._patterns = {rule.id: _compile(rule) for rule in self._rules}
        self.hold_back = policy.hold_back if policy and self.watches("output") else 0
        self.output_is_tokens = all(
            rule.detect in DETECTORS for rule in self._rules if "output" in rule.where
        )

    def watches(self, where: Where) -> bool:
        """Whether any rule looks there."""
        return any(where in rule.where for rule in self._rules)

    def check(self, text: str, where: Where) -> Checked:
        """Apply the rules for `where` to one segment."""
        matches = self.matches(text, where)
        if not matches:
            return Checked(text)
        findings = tuple(dict.fromkeys(_finding(match.rule, where) for match in matches))
        blocking = next((m.rule for m in matches if _effect(m.rule, where) == "block"), None)
        refusal = None
        if blocking is not None and self.policy is not None:
            refusal = self.policy.refusal(blocking.refusal)
        return Checked(
            masked(text, [match for match in matches if match.rule.action == "mask"]),
            findings,
            refusal,
            any(_effect(match.rule, where) == "drop" for match in matches),
        )

    def matches(self, text: str, where: Where) -> list[Match]:
        """Every match of the rules for `where`, in the order of the policy."""
        rules = [rule for rule in self._rules if where in rule.where]
        if not rules or not text:
            return []
        normal = self._normal(text)
        return [match for rule in rules for match in self._matches(rule, normal, text)]

    def across(self, texts: Sequence[str]) -> tuple[Finding, ...]:
        """Injection rules over several of a user's turns read as one: orders cut in pieces."""
        rules = [
            rule
            for rule in self._rules
            if rule.detect == INJECTION and {"input", "history"} <= set(rule.where)
        ]
        joined = " ".join(texts)
        if len(texts) < 2 or not rules or not joined:
            return ()
        normal = self._normal(joined)
        return tuple(
            _finding(rule, "input")
            for rule in rules
            if any(True for _ in self._matches(rule, normal, joined))
        )

    def redact(self, text: str) -> str:
        """The text for records: whatever any rule for personal data finds is masked."""
        normal = self._normal(text)
        found = [
            match
            for rule in self._rules
            if rule.detect is not None and rule.detect != INJECTION
            for match in self._matches(rule, normal, text)
        ]
        return masked(text, found)

    def _normal(self, text: str) -> Normal:
        normal_form = self.policy is None or self.policy.normalise
        return normalise(text) if normal_form else plain(text)

    def _matches(self, rule: Rule, normal: Normal, original: str) -> Iterator[Match]:
        for start, end in self._spans(rule, normal, original):
            first, last = normal.span(start, end)
            if rule.detect == INJECTION and rule.action == "mask":
                first, last = _sentence(original, first, last)
            yield Match(rule, first, last)

    def _spans(self, rule: Rule, normal: Normal, original: str) -> Iterable[Span]:
        if rule.detect == INJECTION:
            return injections(normal.text, original)
        if rule.detect is not None:
            return DETECTORS[rule.detect](normal.text)
        pattern = self._patterns[rule.id]
        assert pattern is not None
        return (match.span() for match in pattern.finditer(normal.text))


def masked(text: str, matches: Sequence[Match]) -> str:
    """`text` with every match replaced by `[detector]`, or by its rule's id in brackets."""
    parts: list[str] = []
    position = 0
    for match in sorted(matches, key=lambda item: (item.start, -item.end)):
        if match.end <= position:
            continue
        if match.start >= position:
            parts += [text[position : match.start], mask_of(match.rule)]
        position = match.end
    return "".join([*parts, text[position:]]) if parts else text


def mask_of(rule: Rule) -> str:
    """What stands in the place of a match."""
    if rule.detect == INJECTION:
        return _REMOVED
    return f"[{rule.detect or rule.id}]"


def _finding(rule: Rule, where: Where) -> Finding:
    return Finding(rule.id, where, _effect(rule, where))


def _effect(rule: Rule, where: Where) -> str:
    """A blocking rule on a passage drops the passage: the question itself is not at fault."""
    return "drop" if rule.action == "block" and where == "retrieved" else rule.action


def _compile(rule: Rule) -> re.Pattern[str] | None:
    if rule.pattern is not None:
        return re.compile(rule.pattern, re.IGNORECASE)
    if rule.any_of is not None:
        words = "|".join(
            r"\s+".join(re.escape(part) for part in normalise(word).text.split())
            for word in sorted(rule.any_of, key=len, reverse=True)
        )
        return re.compile(rf"(?<!\w)(?:{words})(?!\w)")
    return None


def _sentence(text: str, start: int, end: int) -> Span:
    while start > 0 and text[start - 1] not in _SENTENCE_END:
        start -= 1
    while end < len(text) and text[end - 1] not in _SENTENCE_END:
        end += 1
    return start, end
