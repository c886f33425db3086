"""A model's findings, labels, exams and journal in memory, driven by the real `next_step`.

Faked: everything outside the rule. A journal writes a key once, as the real one does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from proa.findings.finding import Finding
from proa.http.clock import rfc3339
from proa.project.retrain import RetrainSection
from proa.retraining.request import Past
from proa.retraining.step import (
    Hold,
    Promote,
    Run,
    Situation,
    Stop,
    Wait,
    Write,
    judged_of,
    marked,
    next_step,
    rollout_of,
)

START = datetime(2013, 4, 1, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 63


def release(number: int) -> str:
    return f"m/{number}@{DIGEST}{number % 10}"


def finding(kind: str = "calibration", *, since: datetime = START, **more: Any) -> Finding:
    """An open finding of release 1, seen for three days."""
    seen = since + timedelta(days=3)
    values: dict[str, Any] = {
        "id": hashlib.sha256(f"{kind} {since} {more}".encode()).hexdigest()[:16],
        "model": "m",
        "kind": "classic",
        "release": release(1),
        "track": "champion",
        "type": kind,
        "subject": "",
        "window": "w",
        "since": rfc3339(since),
        "seen": rfc3339(seen),
        "until": None,
        "windows": 3,
        "severity": "warning",
        "effect": 0.1,
        "limit": 0.05,
        "unit": "points",
        "message": f"{kind} is off",
        "evidence": {},
    }
    return Finding(**{**values, **more})


@dataclass
class World:
    """One model; `turn` does what the controller's loop does."""

    section: RetrainSection
    now: datetime = START + timedelta(days=3)
    findings: list[Finding] = field(default_factory=list)
    champion: str = field(default_factory=lambda: release(1))
    trained: datetime | None = START - timedelta(days=40)
    lines: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    runs: dict[str, str] = field(default_factory=dict)
    waits: str = ""
    busy: str | None = None
    started: int = 0
    number: int = 1
    verdicts: list[str] = field(default_factory=list)
    rollouts: list[str] = field(default_factory=list)

    @property
    def past(self) -> Past:
        """The fold of the whole journal, as after a restart."""
        return Past().add(self.lines)

    def situation(self) -> Situation:
        past = self.past
        request = past.open
        seen = Situation(
            self.now,
            self.now,
            tuple(self.findings),
            self.champion,
            trained=self.trained,
            busy=self.busy,
        )
        if request is None:
            return seen
        run = self.runs.get(request.run or "", "absent")
        return replace(
            seen,
            run=run,  # type: ignore[arg-type]
            judged=judged_of(request, self.lines),
            rollout=rollout_of(request, self.lines, self.champion),
        )

    def write(self, key: str, action: str, reason: str = "", **more: Any) -> bool:
        """Append a line unless its key is there; whether it was new."""
        if key in self.keys:
            return False
        self.keys.add(key)
        line = {"seq": len(self.lines) + 1, "model": "m", "action": action, "reason": reason}
        line |= {"time": "t", "release": None, "who": "proa-controller", "details": {}, **more}
        self.lines.append(line)
        return True

    def turn(self, most: int = 20) -> None:
        """Steps until nothing is to be done now."""
        for _ in range(most):
            step = next_step(self.section, self.past, self.situation())
            if not self.act(step):
                return
        raise AssertionError(f"no end of steps: {step}")

    def act(self, step: Any) -> bool:
        """Whether something was done after which the next step must be asked for."""
        match step:
            case Write(key, action, reason, details, about):
                assert self.write(key, action, reason, details=dict(details), release=about), key
            case Hold(note, reason):
                self.waits = reason
                self.write(note.key, note.action, note.reason, details=dict(note.details))
                return False
            case Stop(request, then):
                self.runs[request.run or ""] = "ended"
                return self.act(then)
            case Run(request):
                self.started += 1
                self.runs[request.run or ""] = "running"
                return False
            case Promote(request):
                self.write(f"requested {request.id}", "requested", release=request.release)
            case Wait(reason):
                self.waits = reason
                return False
        return True

    def finish_run(self, verdict: str | None) -> None:
        """The pipeline ends: a candidate and its verdict, or nothing."""
        request = self.past.open
        assert request is not None
        assert request.run is not None
        self.runs[request.run] = "ended"
        if verdict is None:
            return
        self.number += 1
        ref = release(self.number)
        reason = f"calibration {marked(request.run)}"
        self.write(f"created {self.number}", "created", reason, release=ref)
        details = {"value": verdict, "candidate": ref}
        self.write(f"judged {self.number}", "judged", "why", release=ref, details=details)

    def finish_rollout(self, word: str) -> None:
        request = self.past.open
        assert request is not None
        self.write(f"{word} {request.id}", word, "canary", release=request.release)
        if word == "promoted":
            self.champion = str(request.release)
            self.trained = self.now - timedelta(days=self.section.fresh_days)
            self.findings = [f for f in self.findings if f.until is not None]

    def person(self, action: str) -> None:
        request = self.past.open
        details = {"at": rfc3339(self.now), "request": None if request is None else request.id}
        self.write(f"{action} {len(self.lines)}", action, "because", details=details)

    def pass_days(self, days: float) -> None:
        """Time goes on; what is open is seen again."""
        self.now += timedelta(days=days)
        self.findings = [replace(f, seen=rfc3339(self.now)) if f.open else f for f in self.findings]

    def actions(self) -> list[str]:
        return [line["action"] for line in self.lines if line["action"].startswith("retraining")]
