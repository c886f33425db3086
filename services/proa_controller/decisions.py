"""Decisions of people: approve, revoke, unrevoke; a model's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proa.errors import Conflict, NotFound, Refused
from proa.http.clock import rfc3339
from proa.http.ids import new_id
from proa.release.reference import ReleaseRef
from proa.rollout.admission import Case, check_approver, refusals
from proa.rollout.freeze import frozen_until
from proa.rollout.machine import Entry
from proa.rollout.people import By, by_of
from proa.rollout.record import Line, Record
from proa.rollout.revocation import must_decide
from proa.rollout.rules import loosened, parse_rules
from proa.rollout.state import Rollout
from proa_controller.admission import Admission

_OF_VERDICTS = ("ReleaseUnknown", "Revoked", "GateMissing", "GateFailed", "GateInconclusive")


class Decisions(Admission):
    """What needs a person; each is journaled with who and why."""

    def approve(self, release: ReleaseRef, *, who: str, reason: str, by: By) -> dict[str, Any]:
        """Approve a release with the verdict it has now.

        Raises:
            Refused: it has no passing verdict, or `by` made it or asked for it.
        """
        with self._lock:
            state = self._state(release.name)
            case = self._case(state, release, by)
            for refusal in refusals(case):
                if refusal.code in _OF_VERDICTS:
                    raise refusal.error()
            check_approver(case.record, release, by)
            verdict = case.record.verdicts[release.digest]["details"]
            details = {
                "candidate": release.digest,
                "exam": verdict["exam"],
                "evidence": verdict["evidence"],
                "by": by.to_json(),
            }
            self._decide(state, Entry("approved", release, who, reason, details))
            return details

    def approve_exam(
        self, name: str, exam: str | None, *, who: str, reason: str, by: By
    ) -> dict[str, Any]:
        """Let a looser exam be the model's exam.

        Args:
            exam: the beginning of its digest; None when only one waits.

        Raises:
            NotFound: no such exam waits.  Refused: `by` is who gave it in.
        """
        with self._lock:
            state, record = self._state(name), self._record(name)
            digest, line = _waiting(record, name, exam)
            _check_other(line, by, f"the looser exam of {name}", f"proa approve {name} --exam")
            examined = line["details"]["examined"]
            details = {"exam": digest, "loosened": examined["loosened"], "by": by.to_json()}
            self._decide(state, Entry("exam_approved", None, who, reason, details))
            return details

    def approve_rules(self, name: str, *, who: str, reason: str, by: By) -> dict[str, Any]:
        """Let looser rules of a project be in force: of its rollouts, of its retraining, or both.

        Raises:
            NotFound: none wait.  Refused: `by` is who gave them in.
        """
        with self._lock:
            state, record = self._state(name), self._record(name)
            waiting = {"rules": record.waiting_section, "retrain": record.waiting_retrain}
            found = {word: line for word, line in waiting.items() if line is not None}
            if not found:
                raise NotFound(f"{name}: no looser rules wait for an approval")
            command = f"proa approve {name} --rules"
            for line in found.values():
                _check_other(line, by, f"the looser rules of {name}", command)
            done: dict[str, Any] = {"loosened": []}
            for word, line in found.items():
                details = {**_plain(line["details"]), "by": by.to_json()}
                self._decide(state, Entry(f"{word}_approved", None, who, reason, details))
                done |= {**details, "loosened": [*done["loosened"], *details["loosened"]]}
            return done

    def take_rules(
        self, name: str, section: Mapping[str, Any], *, who: str, by: By, may_loosen: bool
    ) -> dict[str, Any]:
        """Take in a project's `rollout:` section: at once, unless it is looser and `may_loosen`
        is not given; then the old one stays in force and the new one waits for an approval.

        Raises:
            InvalidInput: names the key at fault.
        """
        with self._lock:
            state, record = self._state(name), self._record(name)
            before, after = parse_rules(record.section), parse_rules(section)
            looser = loosened(before, after)
            waits = bool(looser) and not may_loosen
            waiting = record.waiting_section
            found = {"rollout": dict(after.said), "loosened": looser, "by": by.to_json()}
            standing = "proposed" if waits else "set"
            if before.said == after.said and waiting is None:
                standing = "present"
            elif waits and waiting is not None and waiting["details"]["rollout"] == after.said:
                standing = "proposed"
            else:
                what = "; ".join(looser) or "the project's rules"
                self._decide(state, Entry(f"rules_{standing}", None, who, what, found))
            return {**found, "standing": standing, "in_force": dict(self._record(name).section)}

    def revoke(self, name: str, digest: str, *, who: str, reason: str, by: By) -> dict[str, Any]:
        """Never let this digest run again; what it serves or is about to is stopped.

        Raises:
            Conflict: it is revoked already.  NotFound: the model has no release of this digest.
        """
        with self._lock:
            state, record = self._state(name), self._record(name)
            release = _named(record, name, digest)
            if digest in record.revoked:
                raise Conflict(f"{release.short} is revoked already", code="already_revoked")
            details = {"digest": digest, "by": by.to_json()}
            self._decide(state, Entry("revoked", release, who, reason, details))
            self._record(name)
            self.tick()
            return {"release": str(release), "status": self._state(name).message}

    def unrevoke(self, name: str, digest: str, *, who: str, reason: str, by: By) -> dict[str, Any]:
        """Take a revocation back; it needs a second person.

        Raises:
            NotFound: it is not revoked.  Refused: `by` is who revoked it.
        """
        with self._lock:
            state, record = self._state(name), self._record(name)
            release = _named(record, name, digest)
            line = record.revoked.get(digest)
            if line is None:
                raise NotFound(f"{release.short} is not revoked", hint="proa revoked")
            hint = f"proa unrevoke {release.short}"
            _check_other(line, by, f"the revocation of {release.short}", hint)
            details = {"digest": digest, "by": by.to_json()}
            self._decide(state, Entry("unrevoked", release, who, reason, details))
            self._record(name)
            return {"release": str(release)}

    def revoked(self) -> list[dict[str, Any]]:
        """Every revoked release: `release time who reason`."""
        with self._lock:
            return [
                {key: line[key] for key in ("release", "time", "who", "reason")}
                for name in self._states.names()
                for line in self._record(name).revoked.values()
            ]

    def standing(self, state: Rollout) -> dict[str, Any]:
        """What people must know or decide, for the status; never a fault of its own."""
        record = self._last_record(state.model)
        fault: str | None = None
        until = None
        try:
            case = Case(
                state.applied or ReleaseRef(state.model, 1, "sha256:" + "0" * 64),
                state.champion, "", record, By(), self._clock.now(), parse_rules(record.section),
            )  # fmt: skip
            windows = (*case.rules.freeze, *self._freezes())
            until = frozen_until(windows, case.now)
        except Exception as error:
            fault = str(error)
        decide = must_decide(state, revoked=record.revoked)
        waits = [decide] if decide else []
        waits += [_exam_waits(state.model, line) for line in record.waiting_exams.values()]
        for line in (record.waiting_section, record.waiting_retrain):
            if line is not None:
                waits.append(
                    f"looser rules wait: {line['reason']}; "
                    f"proa approve {state.model} --rules --as ANOTHER --reason TEXT"
                )
        if fault is not None:
            waits.append(f"freeze windows: {fault}")
        if self._faults.get(state.model) is not None:
            waits.append(f"registry: {self._faults[state.model]}")
        refused = record.refused
        return {
            "attention": waits,
            "frozen_until": None if until is None else rfc3339(until),
            "refused": None
            if refused is None
            else {
                **{key: refused[key] for key in ("release", "time", "who")},
                "message": refused["reason"],
                "code": refused["details"].get("code"),
                "hint": refused["details"].get("hint"),
            },
            "rules": dict(record.section),
        }

    def _decide(self, state: Rollout, entry: Entry) -> None:
        key = f"{state.model}:{entry.action}:{new_id()}"
        self._write_down(state, {key: entry})
        self._record(state.model)


def _exam_waits(name: str, line: Line) -> str:
    details = line["details"]
    return (
        f"a looser exam waits: {'; '.join(details['examined']['loosened'][:2])}; "
        f"proa approve {name} --exam {details['exam'][:19]} --as ANOTHER --reason TEXT"
    )


def _waiting(record: Record, name: str, exam: str | None) -> tuple[str, Line]:
    found = [item for item in record.waiting_exams.items() if item[0].startswith(exam or "")]
    if not found:
        raise NotFound(
            f"{name}: no looser exam {exam or ''} waits for an approval".replace("  ", " ")
        )
    if len(found) > 1:
        known = ", ".join(digest[:19] for digest, _ in found)
        raise Conflict(f"{name}: {len(found)} looser exams wait: {known}", hint="name one of them")
    return found[0]


def _check_other(line: Line, by: By, what: str, command: str) -> None:
    if by.is_same(by_of(line["details"])):
        raise Refused(
            f"{what} is of {line['who']}: another person, with another key, must decide",
            hint=f"{command} --as ANOTHER --reason TEXT",
            code="SamePerson",
        )


def _named(record: Record, name: str, digest: str) -> ReleaseRef:
    found = next((ref for ref in record.created.values() if ref.digest == digest), None)
    if found is None:
        raise NotFound(f"{name} has no release {digest}", hint=f"proa history {name}")
    return found


def _plain(details: Mapping[str, Any]) -> dict[str, Any]:
    return {key: details[key] for key in ("rollout", "retrain", "loosened") if key in details}
