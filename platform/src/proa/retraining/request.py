"""One request for a new release, and a model's past ones: a pure fold over its journal lines.

    retraining_asked        a finding asked (with its evidence); it waits for fresh labels
    retraining_approved, retraining_refused     a person, when the project wants one
    retraining_started      a run, its windows; again after an inconclusive exam
    retraining_judged       the verdict on the candidate
    retraining_promoting    its rollout is asked for
    retraining_done, retraining_failed, retraining_withdrawn    the end
    retraining_reset        a person opens the circuit breaker

    asked ─▶ (awaiting_approval ─▶ asked) ─▶ running ─▶ judged ─▶ promoting ─▶ done
                                                ▲─────────┘ inconclusive

There is one open request at most: a line that would make a second one, or that does not fit the
state, changes nothing. What people ask for by `proa retrain` runs where they ask and is no request
here: its line carries no findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from proa.http.clock import parse_time

__all__ = ["ACTIONS", "BREAKER", "OPEN", "Line", "Past", "Request", "State"]

Line = Mapping[str, Any]
"""A journal line as a JSON object: `seq time model action release who reason details`."""
State = Literal[
    "asked", "awaiting_approval", "running", "judged", "promoting", "done", "failed", "withdrawn"
]
OPEN: Final = ("asked", "awaiting_approval", "running", "judged", "promoting")
BREAKER: Final = 2
"""Failed candidates in a row after which nothing starts by itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its lines tell it.

    Attributes:
        id: short, unique within the model.
        cause: type of the finding that asked.
        asked, last: event time of its first and its newest line.
        champion: the release it was asked about.
        findings: id, type, subject, effect, limit, unit, since, seen, message of each.
        attempt: number of the newest run, 0 before the first.
        windows: `trained` and `until` of that run.
        run: name of that run.
        release, verdict: its candidate, and what the exam said.
        candidate_failed: it ended by a candidate's fault; two in a row open the breaker.
        reason: of its newest line.
        lines: all of its lines, oldest first.
    """

    id: str
    cause: str
    asked: datetime
    last: datetime
    champion: str | None
    findings: tuple[Mapping[str, Any], ...]
    state: State = "asked"
    attempt: int = 0
    windows: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    release: str | None = None
    verdict: str | None = None
    candidate_failed: bool = False
    reason: str = ""
    lines: tuple[Line, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def since(self) -> datetime:
        """From when on things were bad: the first day that the oldest of its findings looked at.

        A finding opens in the window that proves it, weeks after what it proves began.
        """
        return min(
            parse_time(str(found.get("bad_since") or found["since"]), what="since")
            for found in self.findings
        )

    @property
    def until(self) -> datetime | None:
        """Up to when the labels of its newest exam reach."""
        text = self.windows.get("until")
        return None if text is None else parse_time(text, what="until")


@dataclass(slots=True)
class Past:
    """A model's requests, oldest first. `add` takes journal lines in order of `seq`."""

    seq: int = 0
    requests: list[Request] = field(default_factory=list)
    failed_in_a_row: int = 0

    def add(self, lines: Iterable[Line]) -> Past:
        """Take in further lines; returns itself."""
        for line in lines:
            self.seq = max(self.seq, int(line["seq"]))
            if line["action"] in ACTIONS:
                self._take(line)
        return self

    @property
    def open(self) -> Request | None:
        """The one open request."""
        last = self.requests[-1] if self.requests else None
        return last if last is not None and last.is_open else None

    @property
    def stopped(self) -> bool:
        """Whether the circuit breaker is open: nothing starts until a person resets it."""
        return self.failed_in_a_row >= BREAKER

    def _take(self, line: Line) -> None:
        if line["action"] == "retraining_reset":
            self.failed_in_a_row = 0
            return
        if line["action"] == "retraining_asked":
            if line["details"].get("findings") and self.open is None:
                self.requests.append(_asked(line))
            return
        request = self.open
        if request is None or line["details"].get("request") != request.id:
            return
        states, step = _STEPS[line["action"]]
        if request.state not in states:
            return
        after = step(request, line["details"])
        at = parse_time(line["details"]["at"], what="at")
        request = self.requests[-1] = replace(
            after,
            last=max(request.last, at),
            reason=line["reason"],
            lines=(*request.lines, line),
        )
        if request.state == "done":
            self.failed_in_a_row = 0
        elif request.candidate_failed:
            self.failed_in_a_row += 1


def _asked(line: Line) -> Request:
    details = line["details"]
    at = parse_time(details["at"], what="at")
    return Request(
        id=details["request"],
        cause=details["cause"],
        asked=at,
        last=at,
        champion=details["champion"],
        findings=tuple(details["findings"]),
        state="awaiting_approval" if details["approval"] else "asked",
        reason=line["reason"],
        lines=(line,),
    )


def _started(request: Request, details: Mapping[str, Any]) -> Request:
    return replace(
        request,
        state="running",
        attempt=details["attempt"],
        windows=details["windows"],
        run=details["run"],
        release=None,
        verdict=None,
    )


def _judged(request: Request, details: Mapping[str, Any]) -> Request:
    return replace(request, state="judged", release=details["release"], verdict=details["verdict"])


def _failed(request: Request, details: Mapping[str, Any]) -> Request:
    return replace(request, state="failed", candidate_failed=bool(details["candidate"]))


def _to(state: State) -> Callable[[Request, Mapping[str, Any]], Request]:
    return lambda request, _: replace(request, state=state)


_STEPS: Final[
    Mapping[str, tuple[Sequence[State], Callable[[Request, Mapping[str, Any]], Request]]]
] = {
    "retraining_approved": (("awaiting_approval",), _to("asked")),
    "retraining_refused": (OPEN, _to("withdrawn")),
    "retraining_started": (("asked", "judged"), _started),
    "retraining_judged": (("running",), _judged),
    "retraining_promoting": (("judged",), _to("promoting")),
    "retraining_done": (("judged", "promoting"), _to("done")),
    "retraining_failed": (("running", "judged", "promoting"), _failed),
    "retraining_withdrawn": (OPEN, _to("withdrawn")),
}
ACTIONS: Final = ("retraining_asked", "retraining_reset", *_STEPS)
"""Journal actions that this fold reads."""
