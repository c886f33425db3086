"""Output rules on a stream: a bounded tail is held back, so that a match is seen before it left."""

from __future__ import annotations

import re

from proa.guard.engine import Finding, Guard, Match, mask_of
from proa.guard.policy import Rule

_CONTEXT = 64
# Whole tokens in which no personal data can begin: what comes after them cannot change that.
_HARMLESS = re.compile(r"(?:(?!-----)[^\s\d@+(]*\s+)*")


class OutputFilter:
    """Feeds deltas of one answer through the guard's output rules.

    What `feed` returns may go out. With built-in detectors only, whole words go out at once and
    the tail from the first doubtful one is held; with rules of a policy's own every tail of
    `hold_back` characters is. A match that is longer than that and not yet recognised by its
    beginning can leave in part.
    """

    def __init__(self, guard: Guard, *, whole: bool = False) -> None:
        """`whole` holds everything back until `close`, for answers that are not streamed."""
        self._guard = guard
        self._whole = whole
        self._watching = guard.watches("output")
        self._sent = ""
        self._held = ""
        self._findings: dict[Finding, None] = {}
        self.refusal: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Rules that fired, each once."""
        return tuple(self._findings)

    def feed(self, delta: str) -> str:
        """Take a delta; return what may go out now. After a block it returns nothing."""
        if self.refusal is not None:
            return ""
        if not self._watching and not self._whole:
            return delta
        self._held += delta
        if self._whole:
            return ""
        cut = max(0, len(self._held) - self._guard.hold_back)
        if self._guard.output_is_tokens:
            harmless = _HARMLESS.match(self._held, cut)
            cut = harmless.end() if harmless else cut
        return self._release(self._token_start(cut))

    def close(self) -> str:
        """The end of the answer; return what was held back."""
        return "" if self.refusal is not None else self._release(len(self._held), last=True)

    def _release(self, cut: int, *, last: bool = False) -> str:
        if not self._held or (cut == 0 and not last):
            return ""
        offset = len(self._sent)
        matches = [
            match
            for match in self._guard.matches(self._sent + self._held, "output")
            if match.end > offset
        ]
        if self._blocked(matches):
            return ""
        if not last:
            # A match that reaches the cut may still grow: everything from its start waits.
            for match in sorted(matches, key=lambda item: item.start, reverse=True):
                if match.start - offset < cut <= match.end - offset:
                    cut = max(0, match.start - offset)
        return self._send(cut, offset, matches)

    def _token_start(self, cut: int) -> int:
        """Not inside a token of up to `hold_back` characters: its other half may change it."""
        start = cut
        while start > 0 and cut - start <= self._guard.hold_back:
            if self._held[start - 1].isspace():
                return start
            start -= 1
        return start if start == 0 else cut

    def _blocked(self, matches: list[Match]) -> bool:
        blocking: Rule | None = None
        for match in matches:
            if match.rule.action == "block":
                blocking = blocking or match.rule
                self._findings[Finding(match.rule.id, "output", "block")] = None
        if blocking is None or self._guard.policy is None:
            return False
        self.refusal = self._guard.policy.refusal(blocking.refusal)
        self._held = ""
        return True

    def _send(self, cut: int, offset: int, matches: list[Match]) -> str:
        done = [match for match in matches if match.end - offset <= cut]
        for match in done:
            self._findings[Finding(match.rule.id, "output", match.rule.action)] = None
        out, position = [], 0
        for match in sorted(done, key=lambda item: (item.start, -item.end)):
            start, end = max(0, match.start - offset), match.end - offset
            if match.rule.action == "mask" and end > position:
                out += [self._held[position : max(start, position)], mask_of(match.rule)]
                position = end
        out.append(self._held[position:cut])
        self._sent = (self._sent + self._held[:cut])[-_CONTEXT:]
        self._held = self._held[cut:]
        return "".join(out)
