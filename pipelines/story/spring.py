"""April to June, replayed: the probabilities stop being true, and a new release is made.

Every virtual hour the flights due are asked for through the gateway, with features of that hour and
with its event time; outcomes are reported hours or days later. The monitor judges by event time.
Nobody here asks for a retraining, starts a run or promotes: this only looks on, and holds the clock
while a run is under way, since a minute's run must not take two virtual months.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from proa.fleet import Fleet
from story.airline import Answered, Hour, ask, hours
from story.scale import Spring
from story.telling import Facts

_STILL = ("running", "judged")
_RUN_SECONDS = 900.0
_POLL_SECONDS = 0.5
_FORTNIGHT = 14
Say = Callable[[str], None]


@dataclass
class Replay:
    """One replay as it goes.

    Attributes:
        fleet: the onlooker's.
        user: with the rights call, events and replay.
        reported: outcomes that are not sent yet.
        days: local ones that have begun; `last`: the time of the hour before.
        promoted_on: the day after which another release was champion.
    """

    fleet: Fleet
    user: Fleet
    model: str
    scale: Spring
    say: Say
    answered: Answered = field(default_factory=Answered)
    reported: list[dict[str, Any]] = field(default_factory=list)
    days: list[str] = field(default_factory=list)
    promoted_on: str | None = None
    last: str = ""
    told: set[str] = field(default_factory=set)

    def run(self, following: Any, before: str) -> None:
        """Live hour after hour, until enough days after a promotion or the end.

        Args:
            before: the champion at the beginning.
        """
        state = ""
        with ThreadPoolExecutor(4) as pool:
            for hour in following:
                if not self.days or hour.day != self.days[-1]:
                    if self.days:
                        state = self._close_day(before)
                    if self._enough(hour.day):
                        break
                    self.days.append(hour.day)
                self._live(hour, state, pool)
            self._report()

    def _live(self, hour: Hour, state: str, pool: ThreadPoolExecutor) -> None:
        self.reported += hour.labels
        if hour.time[:10] != self.last[:10]:  # before the monitor's day, one in UTC, is over
            self._report()
        self.last = hour.time
        # a canary counts units: while there is one, every flight is a call of its own
        size = 1 if state == "promoting" else self.scale.flights_a_call
        ask(self.user, self.model, hour, self.answered, pool, size)

    def _close_day(self, before: str) -> str:
        """Look at the retraining after a day; waits while a run is under way."""
        if len(self.days) % _FORTNIGHT == 0:
            known = f"{len(self.answered.late):,} outcomes are known"
            self.say(f"{self.days[-1]}: {len(self.answered.said):,} flights asked for, {known}")
        began = time.monotonic()
        while True:
            request = newest(self.fleet.retraining(self.model))
            self._tell(request)
            if request.get("state") not in _STILL or time.monotonic() - began > _RUN_SECONDS:
                break
            if request["state"] == "judged" and request["verdict"] == "inconclusive":
                break  # it waits for further labels: the clock must go on
            time.sleep(_POLL_SECONDS)
        if self.promoted_on is None and self.fleet.status(self.model)["champion"] != before:
            self.promoted_on = self.days[-1]
        return str(request.get("state", ""))

    def _report(self) -> None:
        if not self.reported:
            return
        verdict = self.user.label(self.model, self.reported)
        if verdict["rejected"]:
            raise RuntimeError(f"outcomes were rejected: {verdict['rejected'][:3]}")
        self.answered.late |= {label["entity"]: label["value"] for label in self.reported}
        self.reported = []

    def _enough(self, day: str) -> bool:
        if self.promoted_on is None:
            return False
        passed = date.fromisoformat(day) - date.fromisoformat(self.promoted_on)
        return passed.days > self.scale.days_after

    def _tell(self, request: Mapping[str, Any]) -> None:
        for sentence in request.get("story", ()):
            text = str(sentence)
            if text not in self.told:
                self.told.add(text)
                self.say(f"{self.days[-1]}: {text}")


def newest(retraining: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newest request; empty when nothing was asked yet."""
    requests: Sequence[Mapping[str, Any]] = retraining["requests"]
    return requests[0] if requests else {}


def replay(
    fleet: Fleet,
    user: Fleet,
    model: str,
    scale: Spring,
    say: Say,
    *,
    home: Path,
    projects: Path,
) -> Facts:
    """Tell the chapter; returns its facts."""
    before = fleet.status(model)["champion"]
    one = Replay(fleet, user, model, scale, say)
    span: dict[str, Any] = {"start": scale.start, "end": scale.end, "flights": scale.flights}
    began = time.monotonic()
    with hours(home, projects, **span) as following:
        one.run(following, before)
    after = fleet.status(model)["champion"]
    return {
        **_retraining_facts(fleet, model),
        "findings": _findings(fleet, model),
        "before": before,
        "promoted": after if after != before else None,
        "promoted_on": one.promoted_on,
        "calibration": {
            "before": one.answered.calibration(before),
            "after": one.answered.calibration(after) if after != before else None,
        },
        "by_day": one.answered.by_day(),
        "days": len(one.days),
        "flights": len(one.answered.said),
        "labels": len(one.answered.late),
        "calls": one.answered.calls,
        "replay_seconds": round(time.monotonic() - began, 1),
    }


def _retraining_facts(fleet: Fleet, model: str) -> Facts:
    """The one request, and what the journal says of its runs."""
    found = fleet.retraining(model)
    lines = [line for line in fleet.history(model) if line["action"].startswith("retraining_")]
    return {
        "triage": found["triage"],
        "requests": [
            {key: request[key] for key in ("id", "state", "cause", "at", "attempt", "release")}
            | {"findings": list(request["findings"])}
            for request in found["requests"]
        ],
        "verdicts": [
            line["details"]["verdict"] for line in lines if line["action"] == "retraining_judged"
        ],
        "journal": [[line["action"], line["reason"]] for line in lines],
    }


def _findings(fleet: Fleet, model: str) -> list[dict[str, Any]]:
    """What the monitor found of the model, oldest first, in short."""
    keys = ("type", "subject", "since", "seen", "until", "effect", "message", "release")
    found = fleet.findings(model, limit=1000)
    return [{key: finding[key] for key in keys} for finding in reversed(found)]
