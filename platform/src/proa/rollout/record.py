"""What a model's journal says today: a pure fold over its lines, in order of `seq`.

created, requested                who made a release, who asked for it
judged, carried, smoked           verdicts: sat here, brought from elsewhere, tried here
exam_approved, rules_set, rules_proposed, rules_approved
retrain_set, retrain_proposed, retrain_approved     the project's section `retrain:`
approved, revoked, unrevoked, refused, overridden
promoted, rolled_back, undone     what served
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proa.release.reference import ReleaseRef
from proa.rollout.people import UNKNOWN, By, by_of

Line = Mapping[str, Any]
"""A journal line as a JSON object: `seq time model action release who reason details`."""

SERVED = ("promoted", "rolled_back", "undone")
"""Actions after which their release is the champion."""


@dataclass
class Record:
    """One model's record. `add` takes lines in order; everything is keyed by manifest digest.

    Attributes:
        seq: the last line taken in.
        verdicts: the latest `judged` or `carried` line of each candidate.
        smoked: the latest smoke exam of each candidate.
        created: every release as it was created, by version.
        makers: who created or asked for each release.
        approvals: the latest approval of each release.
        exams: the present exam, and those that were at least as strict as it.
        present: the digest of the present exam.
        summaries: what each exam asks for.
        waiting_exams: looser exams that nobody has approved, each with its first line.
        section: the rollout section in force.
        waiting_section: the line of a looser one that nobody has approved.
        retrain: the section `retrain:` in force; empty when nothing is retrained by itself.
        waiting_retrain: the line of a looser one that nobody has approved.
        revoked: the line that revoked each digest.
        champions: what served, oldest first.
        refused: the last refusal, until something was admitted after it.
    """

    seq: int = 0
    verdicts: dict[str, Line] = field(default_factory=dict)
    smoked: dict[str, Line] = field(default_factory=dict)
    created: dict[int, ReleaseRef] = field(default_factory=dict)
    makers: dict[str, list[By]] = field(default_factory=dict)
    approvals: dict[str, Line] = field(default_factory=dict)
    exams: set[str] = field(default_factory=set)
    present: str | None = None
    summaries: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting_exams: dict[str, Line] = field(default_factory=dict)
    section: Mapping[str, Any] = field(default_factory=dict)
    waiting_section: Line | None = None
    retrain: Mapping[str, Any] = field(default_factory=dict)
    waiting_retrain: Line | None = None
    revoked: dict[str, Line] = field(default_factory=dict)
    champions: list[ReleaseRef] = field(default_factory=list)
    refused: Line | None = None

    def add(self, lines: Iterable[Line]) -> Record:
        """Take in further lines; returns itself."""
        for line in lines:
            self.seq = max(self.seq, int(line["seq"]))
            taker = _TAKERS.get(line["action"])
            if taker is not None:
                taker(self, line)
        return self

    def maker_like(self, digest: str, by: By) -> By | None:
        """The first of a release's makers who may be the same person as `by`."""
        return next((maker for maker in self.makers.get(digest, []) if maker.is_same(by)), None)

    def good_before(self, champion: ReleaseRef | None) -> list[ReleaseRef]:
        """What served before and is not revoked, latest first, without `champion`."""
        found: list[ReleaseRef] = []
        for release in reversed(self.champions):
            if release not in found and release != champion and release.digest not in self.revoked:
                found.append(release)
        return found


def _digest(line: Line) -> str:
    return ReleaseRef.parse(line["release"]).digest if line["release"] else ""


def _created(record: Record, line: Line) -> None:
    release = ReleaseRef.parse(line["release"])
    record.created[release.version] = release
    _made(record, line)


def _made(record: Record, line: Line) -> None:
    by = by_of(line["details"])
    makers = record.makers.setdefault(_digest(line), [])
    if by != UNKNOWN and by not in makers:
        makers.append(by)


def _requested(record: Record, line: Line) -> None:
    record.refused = None
    _made(record, line)


def _judged(record: Record, line: Line) -> None:
    details = line["details"]
    record.verdicts[details["candidate"]] = line
    exam, found = details["exam"], details.get("examined")
    if found is None:  # written before exams were compared
        if not record.exams:
            record.exams, record.present = {exam}, exam
        return
    if found.get("summary") is not None:
        record.summaries[exam] = found["summary"]
    if found["standing"] == "set":
        record.exams, record.present = {exam}, exam
    elif found["standing"] == "proposed":
        record.waiting_exams.setdefault(exam, line)


def _smoked(record: Record, line: Line) -> None:
    record.smoked[line["details"]["candidate"]] = line


def _exam_approved(record: Record, line: Line) -> None:
    exam = line["details"]["exam"]
    proposed = record.waiting_exams.pop(exam, None)
    stricter = proposed is not None and proposed["details"]["examined"]["tightened"]
    record.exams = {exam} if stricter else record.exams | {exam}
    record.present = exam


def _rules_set(record: Record, line: Line) -> None:
    record.section = line["details"]["rollout"]
    record.waiting_section = None


def _rules_proposed(record: Record, line: Line) -> None:
    record.waiting_section = line


def _retrain_set(record: Record, line: Line) -> None:
    record.retrain = line["details"]["retrain"]
    record.waiting_retrain = None


def _retrain_proposed(record: Record, line: Line) -> None:
    record.waiting_retrain = line


def _approved(record: Record, line: Line) -> None:
    record.approvals[_digest(line)] = line


def _refused(record: Record, line: Line) -> None:
    record.refused = line


def _revoked(record: Record, line: Line) -> None:
    record.revoked[line["details"]["digest"]] = line


def _unrevoked(record: Record, line: Line) -> None:
    record.revoked.pop(line["details"]["digest"], None)


def _served(record: Record, line: Line) -> None:
    if line["release"]:
        record.champions.append(ReleaseRef.parse(line["release"]))


_TAKERS = {
    "created": _created,
    "requested": _requested,
    "judged": _judged,
    "carried": _judged,
    "smoked": _smoked,
    "exam_approved": _exam_approved,
    "rules_set": _rules_set,
    "rules_approved": _rules_set,
    "rules_proposed": _rules_proposed,
    "retrain_set": _retrain_set,
    "retrain_approved": _retrain_set,
    "retrain_proposed": _retrain_proposed,
    "approved": _approved,
    "refused": _refused,
    "revoked": _revoked,
    "unrevoked": _unrevoked,
    **dict.fromkeys(SERVED, _served),
}
