"""Requests for a new release: who asked, on what evidence, what became of it.

The journal is their only state (`proa.retraining.request`): a controller that is killed between
any two steps reads it again and goes on. What people ask for by `proa retrain` is written down
here and runs where they ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from proa.errors import Conflict, InvalidInput, NotFound, ProaError
from proa.http.clock import parse_time, rfc3339
from proa.http.ids import new_id
from proa.project.retrain import RetrainSection
from proa.release.reference import ReleaseRef
from proa.retraining import rules
from proa.retraining.policy import why_not
from proa.retraining.request import Line, Past, Request
from proa.retraining.step import CONTROLLER, Situation, Write, judged_of, rollout_of
from proa.retraining.story import tell
from proa.retraining.triage import triage
from proa.rollout.machine import Entry
from proa.rollout.people import By
from proa.rollout.state import Rollout
from proa_controller.decisions import Decisions
from proa_controller.findings import Seen
from proa_controller.wishes import Wishes

_CAUSE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SHOWN: Final = 20
DECIDED: Final = {"approve": "approved", "refuse": "refused", "reset": "reset"}
"""What a person may decide, and the journal's word for it."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What the last look at a model's findings came to.

    Attributes:
        now, labelled: its event time, and up to when its labels are mature.
        wait: why nothing happens, in one sentence.
        blocked: triage says that the data are broken.
    """

    now: datetime | None = None
    labelled: datetime | None = None
    triage: Mapping[str, Any] | None = None
    wait: str = ""
    blocked: bool = False


class Retraining(Wishes, Decisions):
    """A model's requests. The thread that takes the steps is `retrainer`."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._pasts: dict[str, Past] = {}
        self._looked: dict[str, Looked] = {}

    def take_over(self) -> None:
        """Another controller may have written since."""
        with self._lock:
            self._pasts.clear()

    # What people ask

    def ask_retraining(
        self, name: str, *, cause: str, evidence: str, who: str, reason: str, by: By
    ) -> dict[str, Any]:
        """Journal a person's request before anything runs.

        Args:
            cause: one word: `asked`, `schedule`, or a finding's kind.
            evidence: where the reason can be looked up.

        Returns:
            `request`, which the run can name, and `who`.

        Raises:
            NotFound: the model is not known.
            InvalidInput: `cause` is no word.
        """
        if not _CAUSE.fullmatch(cause):
            raise InvalidInput(
                f"cause = {cause!r}: expected one word, as asked, schedule or drift", param="cause"
            )
        request = new_id()
        details = {
            "request": request,
            "cause": cause,
            "evidence": evidence[:1000],
            "by": by.to_json(),
        }
        with self._lock:
            state = self._state(name)
            self._decide(state, Entry("retraining_asked", None, who, reason, details))
        return {"request": request, "who": who}

    def decide_retraining(
        self, name: str, verb: str, *, who: str, reason: str, by: By
    ) -> dict[str, Any]:
        """A person approves or refuses the open request, or resets the circuit breaker.

        Raises:
            NotFound: nothing of the kind waits.
        """
        with self._lock:
            state, past = self._state(name), self._past(name)
            request = past.open
            waits = {
                "approve": request is not None and request.state == "awaiting_approval",
                "refuse": request is not None,
                "reset": past.failed_in_a_row > 0,
            }
            if verb not in waits or not waits[verb]:
                what = "no candidate has failed" if verb == "reset" else "no request waits for it"
                raise NotFound(f"{name}: {what}", hint=f"proa retraining {name}")
            now = self._looked.get(name, Looked()).now
            at = now or (past.requests[-1].last if past.requests else self._clock.now())
            details: dict[str, Any] = {"at": rfc3339(at), "by": by.to_json()}
            if request is not None:
                details["request"] = request.id
            entry = Entry(f"retraining_{DECIDED[verb]}", None, who, reason, details)
            self._decide(state, entry)
            return self.retraining(name)

    def take_retrain(
        self, name: str, said: Mapping[str, Any], *, who: str, by: By, may_loosen: bool
    ) -> dict[str, Any]:
        """Take in a project's `retrain:` section, as `take_rules` does its `rollout:` section.

        With a model's first release it is in force at once: there is nothing yet to lose.

        Raises:
            InvalidInput: names the key at fault.
        """
        after = rules.parse_section(said)
        with self._lock:
            state, record = self._state(name), self._record(name)
            before = rules.parse_section(record.retrain)
            looser = rules.loosened(before, after)
            waits = bool(looser) and not may_loosen and len(record.created) > 1
            waiting = record.waiting_retrain
            section = {} if after is None else after.to_json()
            found = {"retrain": section, "loosened": looser, "by": by.to_json()}
            standing = "proposed" if waits else "set"
            if before == after and waiting is None:
                standing = "present"
            elif waits and waiting is not None and waiting["details"]["retrain"] == section:
                standing = "proposed"
            else:
                what = "; ".join(looser) or "the project's rules of retraining"
                self._decide(state, Entry(f"retrain_{standing}", None, who, what, found))
            return {**found, "standing": standing, "in_force": dict(self._record(name).retrain)}

    # What is

    def standing(self, state: Rollout) -> dict[str, Any]:
        """With what a person must decide about a retraining, as it was last known."""
        told, past, name = super().standing(state), self.retraining_counts(state.model), state.model
        command = f"{name} --as NAME --reason TEXT"
        if past.open is not None and past.open.state == "awaiting_approval":
            told["attention"].append(
                f"retraining {past.open.id} waits: {past.open.reason}; "
                f"proa retraining approve {command}"
            )
        if past.stopped:
            told["attention"].append(
                f"{past.failed_in_a_row} candidates failed in a row, so nothing is retrained: "
                f"proa retraining reset {command}"
            )
        return told

    def retraining(self, name: str) -> dict[str, Any]:
        """A model's rules, what the last look came to, and its requests, newest first."""
        with self._lock:
            self._state(name)
            past, looked = self._past(name), self._looked.get(name, Looked())
            section = self.retrain_section(name)
            shown = past.requests[: -_SHOWN - 1 : -1]
            refusal = None
            if section is not None and looked.now is not None:
                refusal = why_not(past, section, looked.now)
            return {
                "model": name,
                "section": None if section is None else section.to_json(),
                "now": None if looked.now is None else rfc3339(looked.now),
                "labelled": None if looked.labelled is None else rfc3339(looked.labelled),
                "triage": looked.triage,
                "waits": looked.wait if section is not None else "no section retrain: off",
                "blocked": None if refusal is None else str(refusal),
                "data_blocked": looked.blocked,
                "stopped": past.stopped,
                "failed_in_a_row": past.failed_in_a_row,
                "requests": [self._request_json(name, request) for request in shown],
            }

    def retraining_models(self) -> list[str]:
        """Models whose project has a section `retrain:`."""
        with self._lock:
            return [name for name in self._states.names() if self._last_record(name).retrain]

    def retrain_section(self, name: str) -> RetrainSection | None:
        """The section in force."""
        with self._lock:
            return rules.parse_section(self._last_record(name).retrain)

    def retraining_counts(self, name: str) -> Past:
        """For metrics: the requests as they were last known, without asking the journal."""
        return self._pasts.get(name, Past())

    def looked(self, name: str) -> Looked:
        """What the last look came to."""
        return self._looked.get(name, Looked())

    # What the retrainer does

    def retraining_past(self, name: str) -> Past:
        """Requests so far, the journal read.

        Raises:
            Unavailable: the journal cannot be read.
        """
        with self._lock:
            return self._past(name)

    def situation(self, name: str, section: RetrainSection, seen: Seen) -> Situation | None:
        """What is known of a model now; None while its time has not begun."""
        with self._lock:
            state, past = self._state(name), self._past(name)
            latest = past.requests[-1].last if past.requests else None
            known = [moment for moment in (seen.judged, seen.labelled, latest) if moment]
            now = max(known, default=None)
            if now is None:
                self._looked[name] = Looked(wait="no window has been judged yet")
                return None
            champion = None if state.champion is None else str(state.champion)
            found = triage(seen.findings, now=now, section=section, champion=champion)
            self._looked[name] = Looked(
                now, seen.labelled, found.to_json(), found.reason, found.word == "data_broken"
            )
            situation = Situation(
                now=now,
                labelled=seen.labelled,
                findings=seen.findings,
                champion=champion,
                trained=self._trained(state.champion),
                dated=state.kind == "classic",
                busy=None if state.phase == "idle" else f"{state.phase}: {state.message}",
            )
            request = past.open
            if request is None:
                return situation
            lines = self._since(request, name)
            return replace(
                situation,
                judged=judged_of(request, lines),
                rollout=rollout_of(request, lines, champion),
            )

    def note_retraining(self, name: str, write: Write) -> None:
        """Write one line into the journal; the same again writes nothing.

        Raises:
            Unavailable: the journal cannot be written.
        """
        release = None if write.release is None else ReleaseRef.parse(write.release)
        entry = Entry(write.action, release, CONTROLLER, write.reason, write.details)
        with self._lock:
            self._state(name)
            self._journal.append(
                key=f"{name}:retraining:{write.key}",
                time=rfc3339(self._clock.now()),
                model=name,
                action=entry.action,
                release=write.release,
                who=entry.who,
                reason=entry.reason,
                details=entry.details,
            )
            self._tell(name, entry)

    def waits(self, name: str, reason: str) -> None:
        """Why nothing happens with a model now, for its status."""
        self._looked[name] = replace(self._looked.get(name, Looked()), wait=reason)

    def promote_retrained(self, request: Request) -> str:
        """Ask for the candidate's rollout, by the ordinary way; why it is not to be had now, or
        "" when it is under way. Asked again later, a refusal is not journaled each time."""
        assert request.release is not None
        release = ReleaseRef.parse(request.release)
        plan = self.plan(release)
        if not plan["admitted"]:
            first = plan["refusals"][0]
            return f"{release.short} may not go yet: {first['message']} ({first['hint']})"
        try:
            reason = f"retraining {request.id}: {request.lines[0]['reason']}"
            self.promote(release, who=CONTROLLER, reason=reason)
        except ProaError as error:
            return f"{release.short} may not go yet: {error.message}"
        return ""

    # Language models: what became of bad answers

    def language_models(self) -> list[str]:
        """Models that answer in words."""
        with self._lock:
            states = [self._states.find(name) for name in self._states.names()]
            return [state.model for state in states if state is not None and state.kind == "llm"]

    def note_resolved(
        self, name: str, item: str, resolution: str, *, who: str, reason: str, by: By
    ) -> None:
        """Journal what became of an item of the worklist, once."""
        details = {"item": item, "resolution": resolution, "by": by.to_json()}
        with self._lock:
            self._state(name)
            self._journal.append(
                key=f"{name}:worklist:{item}",
                time=rfc3339(self._clock.now()),
                model=name,
                action="worklist_resolved",
                release=None,
                who=who,
                reason=reason,
                details=details,
            )

    def _past(self, name: str) -> Past:
        past = self._pasts.setdefault(name, Past())
        lines = self._journal.lines(name, after=past.seq, limit=-1)
        return past.add(line.to_json() for line in lines)

    def _since(self, request: Request, name: str) -> list[Line]:
        begin = int(request.lines[0]["seq"]) - 1
        return [line.to_json() for line in self._journal.lines(name, after=begin, limit=-1)]

    def _trained(self, champion: ReleaseRef | None) -> datetime | None:
        """The last moment of the champion's own data."""
        if champion is None:
            return None
        try:
            data = self._bundles.manifest(champion.digest).data
            return None if data is None or data.end is None else parse_time(data.end)
        except ProaError:
            return None  # a bundle that broke, or a time without a zone

    def _request_json(self, name: str, request: Request) -> dict[str, Any]:
        return {
            "id": request.id,
            "state": request.state,
            "cause": request.cause,
            "at": rfc3339(request.asked),
            "last": rfc3339(request.last),
            "attempt": request.attempt,
            "windows": dict(request.windows),
            "run": request.run,
            "release": request.release,
            "verdict": request.verdict,
            "reason": request.reason,
            "findings": [dict(found) for found in request.findings],
            "story": tell(request, self._since(request, name)),
        }


def check_verb(verb: str) -> str:
    """A decision's name.

    Raises:
        Conflict: it is none.
    """
    if verb not in DECIDED:
        raise Conflict(f"{verb!r}: expected {', '.join(DECIDED)}", code="unknown_decision")
    return verb
