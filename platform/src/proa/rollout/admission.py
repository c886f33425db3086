"""Admission: may this release be rolled out? A pure rule over the model's record (design §4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proa.errors import Refused
from proa.http.clock import rfc3339
from proa.release.reference import ReleaseRef
from proa.rollout.freeze import frozen_until
from proa.rollout.people import By, by_of
from proa.rollout.record import Line, Record
from proa.rollout.refusals import CODES, Refusal
from proa.rollout.rules import Rules

_VERDICT_CODES = {"fail": "GateFailed", "inconclusive": "GateInconclusive"}
_MAKERS_OWN = ("ApprovalMissing", "ApprovalStale", "SamePerson")


@dataclass(frozen=True, slots=True)
class Case:
    """All that admission looks at.

    Attributes:
        champion: what serves now.
        runtime: the fingerprint of the runtime that the release would start on today.
        by: who asks.
        now: when.
        rules: the project's rules in force, the platform's freeze windows added.
        missing_engine: the identity of the engine that it needs and that is not running.
        broken: why its bundle cannot be served.
        freeze_fault: why the platform's freeze windows cannot be read.
    """

    release: ReleaseRef
    champion: ReleaseRef | None
    runtime: str
    record: Record
    by: By
    now: datetime
    rules: Rules
    missing_engine: str | None = None
    broken: str | None = None
    freeze_fault: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """What let a release in: its verdict, its approval, and what an override went over."""

    verdict: Line | None
    approval: Line | None
    overridden: tuple[Refusal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the journal line of the request."""
        found = None if self.verdict is None else self.verdict["details"]["evidence"]
        return {
            "verdict": found,
            "approval": None if self.approval is None else self.approval["seq"],
            "overridden": [refusal.code for refusal in self.overridden],
        }


def admit(case: Case, *, override: bool = False) -> Admitted:
    """Let the release in, or refuse it for the first reason there is.

    Args:
        override: go over every reason that may be gone over.

    Raises:
        Refused: its code is one of `proa.rollout.refusals.CODES`, its hint the mending command.
    """
    found = refusals(case)
    digest = case.release.digest
    if found and override:
        _check_override(case, found)
    elif found:
        raise found[0].error()
    return Admitted(
        case.record.verdicts.get(digest), case.record.approvals.get(digest), tuple(found)
    )


def _check_override(case: Case, found: list[Refusal]) -> None:
    for refusal in found:
        if not CODES[refusal.code].overridable:
            raise refusal.error()
    maker = case.record.maker_like(case.release.digest, case.by)
    if maker is not None and any(refusal.code in _MAKERS_OWN for refusal in found):
        raise Refused(
            f"{case.release.short}: its maker cannot override the approval of another person",
            hint=f"proa approve {case.release.short} --as ANOTHER --reason TEXT",
            code="SamePerson",
        )


def refusals(case: Case) -> list[Refusal]:
    """Every reason against the release, the gravest first; empty when it may go."""
    unknown = list(_unknown(case))
    if unknown and unknown[0].code == "ReleaseUnknown":
        return unknown  # nothing else can be said about it
    return [
        *unknown,
        *_revoked(case),
        *_gate(case),
        *_engine(case),
        *_approval(case),
        *_freeze(case),
    ]


def _unknown(case: Case) -> Iterator[Refusal]:
    """A number and a digest belong together as they were created, whatever a registry says now."""
    release, created = case.release, case.record.created.get(case.release.version)
    if created != release:
        known = "was never created here" if created is None else f"was created as {created}"
        yield Refusal(
            "ReleaseUnknown",
            f"{release} {known}: the registry was changed by hand",
            f"proa history {release.name}",
        )
    elif case.broken is not None:
        yield Refusal(
            "BundleBroken",
            f"{release.short} cannot be served: {case.broken}",
            f"restore the bundle, or create {release.name} again",
        )


def _revoked(case: Case) -> Iterator[Refusal]:
    line = case.record.revoked.get(case.release.digest)
    if line is not None:
        yield revoked(case.release, line)


def revoked(release: ReleaseRef, line: Line) -> Refusal:
    """The refusal of a revoked release."""
    return Refusal(
        "Revoked",
        f"{release.short} was revoked by {line['who']}: {line['reason']}",
        f"proa unrevoke {release.short} --as ANOTHER --reason TEXT",
    )


def _gate(case: Case) -> Iterator[Refusal]:
    short, record = case.release.short, case.record
    gate = f"proa gate {short}"
    line = record.verdicts.get(case.release.digest)
    if line is None:
        yield Refusal(
            "GateMissing", f"{short} has not been judged: no verdict in the journal", gate
        )
        return
    verdict = line["details"]
    if verdict["value"] != "pass":
        yield Refusal(
            _VERDICT_CODES[verdict["value"]],
            f"{short}: the verdict is {verdict['value']}: {verdict['reason']}",
            f"proa diff {short}",
        )
    yield from _exam(case, verdict["exam"], gate)
    if line["action"] == "carried":
        yield from _smoke(case, line)
    else:
        yield from _stale(case, verdict, gate)


def _exam(case: Case, exam: str, gate: str) -> Iterator[Refusal]:
    record, short = case.record, case.release.short
    waiting = record.waiting_exams.get(exam)
    if exam in record.exams:
        return
    if waiting is not None:
        what = "; ".join(waiting["details"]["examined"]["loosened"][:3])
        yield Refusal(
            "ExamLoosened",
            f"{short} was judged by an exam that asks for less than {case.release.name}'s: {what}",
            f"proa approve {case.release.name} --exam {exam[:19]} --as ANOTHER --reason TEXT",
        )
    else:
        yield Refusal(
            "GateStale", f"{short} was judged by an exam that was replaced by a stricter one", gate
        )


def _stale(case: Case, verdict: Mapping[str, Any], hint: str) -> Iterator[Refusal]:
    short, champion = case.release.short, case.champion
    if verdict["champion"] != (champion.digest if champion else None):
        yield Refusal(
            "GateStale",
            f"{short} was judged against another champion than "
            f"{champion.short if champion else 'none'}",
            hint,
        )
    if verdict["runtime"] != case.runtime and case.broken is None:
        yield Refusal("GateStale", f"{short} was judged on another runtime", hint)


def _smoke(case: Case, carried: Line) -> Iterator[Refusal]:
    short = case.release.short
    hint = f"proa promote {short} --to THIS, from where it was judged"
    line = case.record.smoked.get(case.release.digest)
    if line is None or line["seq"] < carried["seq"]:
        yield Refusal(
            "SmokeMissing", f"{short} was judged elsewhere and sat no smoke exam here", hint
        )
        return
    if not line["details"]["good"]:
        yield Refusal("SmokeFailed", f"{short}: the smoke exam failed here: {line['reason']}", hint)
    yield from _stale(case, line["details"], hint)


def _engine(case: Case) -> Iterator[Refusal]:
    if case.missing_engine is not None:
        yield Refusal(
            "EngineMissing",
            f"{case.release.short} needs the engine {case.missing_engine}, which is not running",
            "proa status",
        )


def _approval(case: Case) -> Iterator[Refusal]:
    if not case.rules.approval:
        return
    short, digest = case.release.short, case.release.digest
    hint = f"proa approve {short} --as ANOTHER --reason TEXT"
    line, verdict = case.record.approvals.get(digest), case.record.verdicts.get(digest)
    if line is None:
        yield Refusal("ApprovalMissing", f"{short} has not been approved by a second person", hint)
        return
    if verdict is None or line["details"]["evidence"] != verdict["details"]["evidence"]:
        yield Refusal(
            "ApprovalStale",
            f"{short} was approved by {line['who']} with another verdict than it has now",
            hint,
        )
    approver = by_of(line["details"])
    if case.by.is_same(approver) or case.record.maker_like(digest, approver) is not None:
        yield Refusal(
            "SamePerson",
            f"{short} was approved by {line['who']}, who made it or asks for it",
            hint,
        )


def _freeze(case: Case) -> Iterator[Refusal]:
    if case.freeze_fault is not None:
        yield Refusal(
            "Frozen",
            f"the platform's freeze windows cannot be read, so all is frozen: {case.freeze_fault}",
            "mend freeze.yaml in the platform's home",
        )
    until = frozen_until(case.rules.freeze, case.now)
    if until is not None:
        yield Refusal(
            "Frozen",
            f"{case.release.name} is frozen until {rfc3339(until)[:19]}Z",
            f"proa promote {case.release.short} after {rfc3339(until)[:19]}Z, or with --override",
        )


def check_approver(record: Record, release: ReleaseRef, by: By) -> None:
    """Refuse an approval by who made the release or asked for it.

    Raises:
        Refused: `SamePerson`.
    """
    maker = record.maker_like(release.digest, by)
    if maker is not None:
        what = "the same key" if maker.key == by.key and by.key else "the same person"
        raise Refused(
            f"{release.short}: {what} made it or asked for it; another must approve",
            hint=f"proa approve {release.short} --as ANOTHER --reason TEXT, with another key",
            code="SamePerson",
        )
