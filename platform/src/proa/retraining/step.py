"""What to do next about one model: a pure rule over what is known. Called until it says Wait.

Each step is either one journal line (`Write`) or something that may be done twice without harm
(`Run`, `Stop`, `Promote`): a controller that is killed between any two goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from proa.findings.finding import Finding
from proa.http.clock import rfc3339
from proa.project.retrain import RetrainSection
from proa.retraining.policy import Refusal, next_windows, why_not
from proa.retraining.request import Line, Past, Request
from proa.retraining.triage import broken_reason, faults, triage
from proa.retraining.windows import Windows

__all__ = [
    "CONTROLLER",
    "Hold",
    "Judged",
    "Promote",
    "Rollout",
    "Run",
    "Situation",
    "Step",
    "Stop",
    "Wait",
    "Write",
    "judged_of",
    "marked",
    "next_step",
    "rollout_of",
]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the exam said of a run's candidate."""

    release: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the candidate's rollout came."""

    word: Literal["none", "under_way", "promoted", "stopped"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a model.

    Attributes:
        now: its event time.
        labelled: up to when its labels are mature; None while none are.
        findings: all of them, open and closed.
        champion: what serves; None before the first release.
        trained: the last moment of what the champion was trained on; None where that says nothing.
        dated: its training and exam have windows that move.
        busy: what is under way with the model's releases, which an exam has to wait for.
        run: how the present run stands: `absent`, `running`, `ended`, and what it said last.
        judged: the verdict on that run's candidate, once there is one.
    """

    now: datetime
    labelled: datetime | None
    findings: Sequence[Finding]
    champion: str | None
    trained: datetime | None = None
    dated: bool = True
    busy: str | None = None
    run: Literal["absent", "running", "ended"] = "absent"
    said: str = ""
    judged: Judged | None = None
    rollout: Rollout = field(default_factory=lambda: Rollout("none"))


@dataclass(frozen=True, slots=True)
class Write:
    """One journal line; `key` makes it be written once."""

    key: str
    action: str
    reason: str
    details: Mapping[str, Any]
    release: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Make sure that the request's run goes on."""

    request: Request


@dataclass(frozen=True, slots=True)
class Promote:
    """Ask for the candidate's rollout, unless it is under way."""

    request: Request


@dataclass(frozen=True, slots=True)
class Stop:
    """End the request's run; `then` is written."""

    request: Request
    then: Write


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Something asks and must not: said once per finding and cause, then it waits."""

    note: Write
    reason: str


Step = Write | Run | Promote | Stop | Wait | Hold
CONTROLLER: Final = "proa-controller"
"""Who asks for runs that findings made."""
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHOWN: Final = (
    *("id", "type", "subject", "release", "window", "since", "seen", "effect", "limit", "unit"),
    *("message", "severity"),
)


def next_step(section: RetrainSection, past: Past, situation: Situation) -> Step:
    """The next thing to do."""
    request = past.open
    if request is None:
        return _ask(section, past, situation)
    gone = _gone(request, situation)
    if gone is not None:
        end = _write(request, situation, "retraining_withdrawn", gone)
        return Stop(request, end) if request.state == "running" else end
    return _BY_STATE[request.state](section, request, situation)


def judged_of(request: Request, lines: Sequence[Line]) -> Judged | None:
    """The verdict on the candidate of the request's present run, from the model's journal.

    The candidate is the release whose creation names the run.
    """
    if request.run is None:
        return None
    mark, release = marked(request.run), None
    for line in lines:
        if line["action"] == "created" and mark in line["reason"]:
            release = line["release"]
    if release is None:
        return None
    for line in reversed(lines):
        if line["action"] == "judged" and line["release"] == release:
            return Judged(release, line["details"]["value"], line["reason"])
    return None


def marked(run: str) -> str:
    """How a run's name stands in the reason of the release it makes."""
    return f"[retraining {run}]"


def rollout_of(request: Request, lines: Sequence[Line], champion: str | None) -> Rollout:
    """How far the candidate's rollout came, from the lines since it was asked for."""
    if request.state != "promoting":
        return Rollout("none")
    begun = request.lines[-1]["seq"]
    found = Rollout("none")
    for line in lines:
        if line["seq"] < begun or line["release"] != request.release:
            continue
        if line["action"] == "requested":
            found = Rollout("under_way")
        elif line["action"] == "promoted":
            return Rollout("promoted", line["reason"])
        elif line["action"] in ("aborted", "revoked"):
            found = Rollout("stopped", line["reason"])
    return Rollout("promoted") if champion == request.release else found


# ---- no request is open -----------------------------------------------------------------------


def _ask(section: RetrainSection, past: Past, situation: Situation) -> Step:
    if situation.champion is None:
        return Wait("no release serves yet")
    found = triage(
        situation.findings, now=situation.now, section=section, champion=situation.champion
    )
    if found.word == "nothing":
        return Wait(found.reason)
    asking = next(finding for finding in found.findings if finding.type in section.when)
    if found.word != "real":
        return _hold(found.findings, asking.id, found.word, found.reason, situation)
    refusal = why_not(past, section, situation.now)
    if refusal is not None:
        return _hold(found.findings, asking.id, refusal.code, str(refusal), situation)
    identity = f"{len(past.requests) + 1}-{asking.id[:8]}"
    details = {
        "request": identity,
        "at": rfc3339(situation.now),
        "cause": asking.type,
        "evidence": asking.id,
        "champion": situation.champion,
        "findings": [_shown(finding) for finding in found.findings[:10]],
        "triage": found.to_json(),
        "approval": section.approval,
    }
    return Write(f"asked:{identity}", "retraining_asked", found.reason, details)


def _hold(
    findings: Sequence[Finding], about: str, code: str, reason: str, situation: Situation
) -> Step:
    details = {
        "code": code,
        "at": rfc3339(situation.now),
        "findings": [_shown(finding) for finding in findings[:10]],
    }
    note = Write(f"held:{about}:{code}", "retraining_held", reason, details)
    return Hold(note, reason)


def _shown(finding: Finding) -> dict[str, Any]:
    wire = finding.to_wire()
    day = str(finding.evidence.get("since") or "")
    began = f"{day}T00:00:00.000000Z" if _DAY.fullmatch(day) else finding.since
    return {key: wire[key] for key in _SHOWN} | {"bad_since": min(began, finding.since)}


# ---- one is -----------------------------------------------------------------------------------


def _gone(request: Request, situation: Situation) -> str | None:
    """Why the request has no object any more."""
    after = request.release if request.state in ("judged", "promoting") else None
    if situation.champion not in (request.champion, after):
        return f"the champion is {situation.champion} now, by another way"
    if request.state in ("asked", "awaiting_approval"):
        # One that merely closed stays: an interval that touches its limit for a day is no proof
        # that all is as before. The exam on fresh days decides.
        asked = {found["id"] for found in request.findings if found["type"] == request.cause}
        known = {finding.id: finding for finding in situation.findings}
        if asked and all(
            name in known and known[name].evidence.get("taken_back") for name in asked
        ):
            return "what asked for it was taken back: later labels say that it never was"
    return None


def _start(section: RetrainSection, request: Request, situation: Situation) -> Step:
    broken = faults(situation.findings, situation.champion)
    if situation.busy is not None:
        return Wait(f"the run waits for what is under way: {situation.busy}")
    if broken:
        return _hold(broken, request.id, "data_broken", broken_reason(broken), situation)
    stored: dict[str, str] = {}
    if situation.dated:
        if situation.labelled is None:
            return Wait("no labels have come yet")
        windows = next_windows(
            request, section, labelled=situation.labelled, trained=situation.trained
        )
        if isinstance(windows, Refusal):
            return Wait(str(windows))
        stored = _stored(windows)
    elif request.attempt and situation.now < _again(section, request):
        return Wait(f"the exam was inconclusive; it is sat again from {_again(section, request)}")
    attempt = request.attempt + 1
    details = {"attempt": attempt, "windows": stored, "run": f"{request.id}/{attempt}"}
    told = f"exam on {stored['trained'][:10]} to {stored['until'][:10]}" if stored else "its exam"
    reason = f"run {attempt} of {request.id}: trained on what came before, {told}"
    return _write(request, situation, "retraining_started", reason, **details)


def _again(section: RetrainSection, request: Request) -> datetime:
    return request.last + timedelta(days=section.again_days)


def _stored(windows: Windows) -> dict[str, str]:
    return {"trained": windows.trained.isoformat(), "until": windows.until.isoformat()}


def _awaiting(section: RetrainSection, request: Request, situation: Situation) -> Step:
    return Wait("a person must approve it")


def _running(section: RetrainSection, request: Request, situation: Situation) -> Step:
    judged = situation.judged
    if judged is not None:
        details = {"verdict": judged.verdict, "attempt": request.attempt}
        reason = f"{judged.verdict}: {judged.reason}"
        return _write(
            request, situation, "retraining_judged", reason, **details, release=judged.release
        )
    if situation.run == "ended":
        reason = f"the run ended without a verdict: {situation.said or 'it said nothing'}"
        return _write(request, situation, "retraining_failed", reason, candidate=True)
    return Run(request) if situation.run == "absent" else Wait(f"run {request.run} is under way")


def _after_exam(section: RetrainSection, request: Request, situation: Situation) -> Step:
    short = (request.release or "").partition("@")[0]
    if situation.champion == request.release:
        reason = f"{short} is champion"
        return _write(request, situation, "retraining_done", reason, promoted=True)
    if request.verdict == "fail":
        reason = f"the candidate {short} failed its exam"
        return _write(request, situation, "retraining_failed", reason, candidate=True)
    if request.verdict != "pass":
        if request.attempt >= section.attempts:
            reason = f"{request.attempt} exams, none conclusive"
            return _write(request, situation, "retraining_failed", reason, candidate=False)
        return _start(section, request, situation)
    if section.promote == "never":
        reason = f"{short} passed and is left to a person: proa promote {short}"
        return _write(request, situation, "retraining_done", reason, promoted=False)
    reason = f"{short} passed its exam"
    return _write(request, situation, "retraining_promoting", reason, release=request.release)


def _promoting(section: RetrainSection, request: Request, situation: Situation) -> Step:
    short = (request.release or "").partition("@")[0]
    match situation.rollout.word:
        case "promoted":
            reason = f"{short} is champion"
            return _write(request, situation, "retraining_done", reason, promoted=True)
        case "stopped":
            reason = f"the rollout of {short} was stopped: {situation.rollout.reason}"
            return _write(request, situation, "retraining_failed", reason, candidate=True)
        case "under_way":
            return Wait(f"the rollout of {short} is under way")
        case "none":
            return Promote(request)


def _write(
    request: Request, situation: Situation, action: str, reason: str, **details: Any
) -> Write:
    key = f"{request.id}:{action}:{details.get('attempt', request.attempt)}"
    release = details.get("release", request.release)
    about = {"request": request.id, "at": rfc3339(situation.now), **details}
    return Write(key, action, reason, about, release)


_BY_STATE: Final = {
    "asked": _start,
    "awaiting_approval": _awaiting,
    "running": _running,
    "judged": _after_exam,
    "promoting": _promoting,
}
