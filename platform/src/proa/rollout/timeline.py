"""What ran at a moment, and why: a pure fold over journal lines.

Lines are ordered by `seq`. Where the clock stepped back a moment came twice; the later reading
counts, and the answer says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from proa.http.clock import parse_time, rfc3339
from proa.rollout.record import SERVED, Line

_WEIGHT = re.compile(r"weight (\d+) %")
_ENDS = ("promoted", "aborted", "held", "rolled_back", "undone")


@dataclass(frozen=True, slots=True)
class Because:
    """One journal line, as a reason."""

    seq: int
    time: str
    action: str
    who: str
    reason: str

    @classmethod
    def of(cls, line: Line) -> Because:
        """The reason in a line."""
        return cls(*(line[key] for key in ("seq", "time", "action", "who", "reason")))


@dataclass(frozen=True, slots=True)
class Running:
    """A model's traffic after some lines.

    Attributes:
        champion: the release that was champion, `name/version@digest`.
        because: the line that made it so.
        candidate: the release of a rollout under way, with its `weight` in percent.
        since: the line that set the weight.
        paused: whether the canary was held by hand.
        returning: the release that a rollback was on its way to.
    """

    champion: str | None = None
    because: Because | None = None
    candidate: str | None = None
    weight: int = 0
    since: Because | None = None
    paused: bool = False
    returning: str | None = None

    def after(self, line: Line) -> Running:
        """The same after one more line."""
        action, release = line["action"], line["release"]
        if action in SERVED:
            return Running(champion=release, because=Because.of(line))
        if action in ("aborted", "held"):
            return replace(self, candidate=None, weight=0, since=None, paused=False, returning=None)
        if action == "requested":
            return replace(self, candidate=release, weight=0, since=Because.of(line))
        if action == "step":
            return replace(self, weight=weight_of(line), since=Because.of(line))
        if action in ("paused", "resumed"):
            return replace(self, paused=action == "paused")
        if action == "rollback_requested":
            return replace(self, returning=release)
        return self


@dataclass(frozen=True, slots=True)
class Moment:
    """The answer: what ran when, how it had been judged, what to know about the answer itself."""

    model: str | None
    time: str
    running: Running
    verdict: Mapping[str, Any] | None
    exam: str | None
    last: Because | None
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        return {**asdict(self), "notes": list(self.notes)}


def weight_of(line: Line) -> int:
    """The weight that a `step` line put in force, in percent."""
    details = line["details"]
    if isinstance(details.get("weight"), int):
        return int(details["weight"])
    found = _WEIGHT.search(line["reason"])
    return int(found[1]) if found else 0


def replay(lines: Iterable[Line]) -> Running:
    """What runs after these lines."""
    running = Running()
    for line in lines:
        running = running.after(line)
    return running


def at(lines: Sequence[Line], when: datetime) -> Moment:
    """What ran at `when`: everything that was written up to the last line not after it.

    Args:
        lines: all of one model's journal lines, in order of `seq`.
    """
    times = [parse_time(line["time"]) for line in lines]
    count = max((number + 1 for number, time in enumerate(times) if time <= when), default=0)
    known = lines[:count]
    running = replay(known)
    verdict = _verdict(known, running.champion)
    return Moment(
        model=lines[0]["model"] if lines else None,
        time=rfc3339(when),
        running=running,
        verdict=None if verdict is None else _figures(verdict),
        exam=None if verdict is None else verdict["details"]["exam"],
        last=Because.of(known[-1]) if known else None,
        notes=tuple(_notes(lines, times, count, when)),
    )


def _notes(
    lines: Sequence[Line], times: Sequence[datetime], count: int, when: datetime
) -> Iterable[str]:
    if count == 0:
        first = f"; its first line is of {lines[0]['time']}" if lines else ""
        yield f"nothing had been written yet{first}"
    later = [number for number in range(count) if times[number] > when]
    if later:
        back = next(n for n in range(later[-1] + 1, len(times)) if times[n] < times[n - 1])
        yield (
            f"the clock stepped back between lines {lines[back - 1]['seq']} and "
            f"{lines[back]['seq']}, so this time came twice; lines are ordered by number, and "
            "this is the answer for the later one"
        )


def _verdict(lines: Sequence[Line], release: str | None) -> Line | None:
    """The verdict that a champion had when it was asked for."""
    if release is None:
        return None
    digest = release.partition("@")[2]
    end = max(
        (
            number
            for number, line in enumerate(lines)
            if line["action"] == "requested" and line["release"] == release
        ),
        default=len(lines),
    )
    for line in reversed(lines[:end]):
        if line["action"] in ("judged", "carried") and line["details"]["candidate"] == digest:
            return line
    return None


def _figures(line: Line) -> dict[str, Any]:
    details = line["details"]
    keys = ("value", "reason", "candidate", "champion", "runtime", "evidence")
    return {**{key: details[key] for key in keys}, "seq": line["seq"], "time": line["time"]}
