"""Admission over a record folded from journal lines: every code, and what each is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.errors import InvalidInput, Refused
from proa.release.reference import ReleaseRef
from proa.rollout.admission import Case, admit, check_approver, refusals
from proa.rollout.people import By, person_of, reason_of
from proa.rollout.record import Record
from proa.rollout.refusals import CODES
from proa.rollout.rules import parse_rules

ONE, TWO, OTHER = (ReleaseRef("m", number, f"sha256:{number:064x}") for number in (1, 2, 3))
RUNTIME, EXAM = "python 3.11", "sha256:" + "e" * 64
ANN, BERT, EVE = By("key-a", "Ann"), By("key-b", "Bert"), By("key-e", "Eve")
NOW = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)  # a Friday


class Told:
    """Journal lines as the controller writes them."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def line(
        self,
        action: str,
        release: ReleaseRef | None = TWO,
        by: By | None = None,
        because: str = "why",
        **details: Any,
    ) -> Told:
        if by is not None:
            details["by"] = by.to_json()
        self.lines.append(
            {
                "seq": len(self.lines) + 1,
                "time": "2026-11-20T10:00:00.000000Z",
                "model": "m",
                "action": action,
                "release": None if release is None else str(release),
                "who": by.person if by and by.person else "team/feature#k",
                "reason": because,
                "details": details,
            }
        )
        return self

    def judged(
        self,
        value: str = "pass",
        *,
        action: str = "judged",
        release: ReleaseRef = TWO,
        standing: str = "set",
        **changes: Any,
    ) -> Told:
        details = {
            "value": value,
            "candidate": release.digest,
            "champion": ONE.digest,
            "exam": EXAM,
            "runtime": RUNTIME,
            "evidence": "sha256:" + "f" * 64,
            "reason": "because",
            "examined": {"standing": standing, "summary": {}, "loosened": ["a floor is gone"],
                         "tightened": []},
        }  # fmt: skip
        return self.line(action, release, because="because", **{**details, **changes})

    def record(self) -> Record:
        return Record().add(self.lines)


def told() -> Told:
    """A release that Ann made, with a passing verdict against the present champion."""
    return (
        Told()
        .line("created", ONE, ANN)
        .line("created", TWO, ANN)
        .line("created", OTHER, ANN)
        .judged()
    )


def case(story: Told, *, section: Mapping[str, Any] | None = None, **changes: Any) -> Case:
    base = Case(
        release=TWO,
        champion=ONE,
        runtime=RUNTIME,
        record=story.record(),
        by=BERT,
        now=NOW,
        rules=parse_rules(section or {}),
    )
    return replace(base, **changes)


def codes(given: Case) -> list[str]:
    return [refusal.code for refusal in refusals(given)]


APPROVAL = {"approval": True}
FRIDAY = {"freeze": [{"days": ["fri"], "from": "16:00", "to": "24:00"}]}


def looser() -> Told:
    return told().judged(exam="sha256:" + "1" * 64, standing="proposed")


def approved(story: Told, by: By = EVE, evidence: str = "f") -> Told:
    return story.line("approved", TWO, by, evidence="sha256:" + evidence * 64)


TABLE: list[tuple[str, Case]] = [
    ("ReleaseUnknown", case(told(), release=ReleaseRef("m", 9, "sha256:" + "9" * 64))),
    ("ReleaseUnknown", case(told(), release=ReleaseRef("m", 2, OTHER.digest))),
    ("BundleBroken", case(told(), broken="its bytes have another digest", runtime="")),
    ("Revoked", case(told().line("revoked", TWO, EVE, digest=TWO.digest))),
    ("GateMissing", case(Told().line("created", TWO, ANN))),
    ("GateFailed", case(told().judged("fail"))),
    ("GateInconclusive", case(told().judged("inconclusive"))),
    ("GateStale", case(told(), champion=OTHER)),
    ("GateStale", case(told(), champion=None)),
    ("GateStale", case(told(), runtime="another")),
    ("GateStale", case(told().judged(release=OTHER, exam="sha256:" + "2" * 64))),
    ("ExamLoosened", case(looser())),
    ("SmokeMissing", case(told().judged(action="carried", champion=OTHER.digest))),
    (
        "SmokeMissing",
        case(told().judged(action="smoked", good=True).judged(action="carried")),
    ),
    (
        "SmokeFailed",
        case(told().judged(action="carried").judged(action="smoked", good=False)),
    ),
    (
        "GateStale",
        case(told().judged(action="carried").judged(action="smoked", good=True), champion=OTHER),
    ),
    ("EngineMissing", case(told(), missing_engine="sha256:abc")),
    ("ApprovalMissing", case(told(), section=APPROVAL)),
    ("ApprovalStale", case(approved(told(), evidence="0"), section=APPROVAL)),
    ("SamePerson", case(approved(told(), ANN), section=APPROVAL)),
    ("SamePerson", case(approved(told(), By("key-z", " ann ")), section=APPROVAL)),
    ("SamePerson", case(approved(told(), BERT), section=APPROVAL)),
    ("Frozen", case(told(), section=FRIDAY)),
    ("Frozen", case(told(), freeze_fault="line 3: expected a list")),
]


@pytest.mark.parametrize(("code", "given"), TABLE, ids=[row[0] for row in TABLE])
def test_each_code_with_its_sentence_and_its_mending_command(code: str, given: Case) -> None:
    assert codes(given) == [code]
    with pytest.raises(Refused) as caught:
        admit(given)
    assert caught.value.code == code
    assert caught.value.message
    hint = caught.value.hint or ""
    assert "proa" in hint or "bundle" in hint or "freeze.yaml" in hint
    assert CODES[code].meaning


def test_the_table_has_every_code() -> None:
    # HeldByUndo is given by the controller, before admission is asked.
    assert {code for code, _ in TABLE} == set(CODES) - {"HeldByUndo"}


@pytest.mark.parametrize(("code", "given"), TABLE, ids=[row[0] for row in TABLE])
def test_an_override_goes_over_what_may_be_gone_over(code: str, given: Case) -> None:
    by = By("key-x", "Xenia")
    overriding = replace(given, by=by)
    if CODES[code].overridable:
        admitted = admit(overriding, override=True)
        assert [refusal.code for refusal in admitted.overridden] == codes(overriding)
    else:
        with pytest.raises(Refused) as caught:
            admit(overriding, override=True)
        assert caught.value.code == code


def test_what_lets_a_release_in() -> None:
    assert codes(case(told())) == []
    assert admit(case(told())).to_json()["verdict"] == "sha256:" + "f" * 64
    assert codes(case(approved(told()), section=APPROVAL)) == []
    thursday = NOW.replace(day=19)
    assert codes(case(told(), section=FRIDAY, now=thursday)) == []
    carried = told().judged(action="carried", champion=OTHER.digest)
    assert codes(case(carried.judged(action="smoked", good=True))) == []


def test_every_reason_is_said_at_once_the_gravest_first() -> None:
    story = told().line("revoked", TWO, EVE, digest=TWO.digest).judged("fail", runtime="x")
    both = {**APPROVAL, **FRIDAY}
    found = codes(case(story, section=both, champion=OTHER, missing_engine="e"))
    assert found == [
        "Revoked", "GateFailed", "GateStale", "GateStale", "EngineMissing", "ApprovalMissing",
        "Frozen",
    ]  # fmt: skip


def test_the_latest_verdict_counts() -> None:
    assert codes(case(told().judged("fail").judged("pass"))) == []
    assert codes(case(told().judged("pass").judged("fail"))) == ["GateFailed"]


def test_a_looser_exam_counts_once_another_person_approved_it() -> None:
    story = looser().line("exam_approved", None, EVE, exam="sha256:" + "1" * 64)
    assert codes(case(story)) == []
    # What was judged by the stricter exam before stays judged.
    assert codes(case(story.judged(release=OTHER, standing="present"), release=OTHER)) == []


def test_an_exam_that_is_both_looser_and_stricter_replaces_the_one_before() -> None:
    story = told().judged(release=OTHER)
    mixed = "sha256:" + "3" * 64
    story.judged(exam=mixed, standing="proposed",
                 examined={"standing": "proposed", "loosened": ["a"], "tightened": ["b"],
                           "summary": {}})  # fmt: skip
    story.line("exam_approved", None, EVE, exam=mixed)
    assert codes(case(story)) == []
    assert codes(case(story, release=OTHER)) == ["GateStale"]


def test_a_revocation_that_was_taken_back_is_gone() -> None:
    story = told().line("revoked", TWO, EVE, digest=TWO.digest)
    assert codes(case(story.line("unrevoked", TWO, ANN, digest=TWO.digest))) == []


def test_the_maker_cannot_override_the_missing_approval_of_another() -> None:
    with pytest.raises(Refused, match="its maker cannot override") as caught:
        admit(case(told(), section=APPROVAL, by=ANN), override=True)
    assert caught.value.code == "SamePerson"
    assert admit(case(told(), section=APPROVAL, by=EVE), override=True).overridden


@pytest.mark.parametrize(
    ("by", "refused"),
    [
        (ANN, True),
        (By("key-a", None), True),
        (By("key-z", "ANN"), True),
        (By("key-z", None), False),
        (By("key-e", "Eve"), False),
        (By("key-b", "Bert"), True),
    ],
)
def test_who_made_or_asked_cannot_approve(by: By, refused: bool) -> None:
    story = told().line("requested", TWO, BERT)
    if refused:
        with pytest.raises(Refused, match="another must approve"):
            check_approver(story.record(), TWO, by)
    else:
        check_approver(story.record(), TWO, by)


def test_a_journal_of_before_exams_were_compared_still_admits() -> None:
    story = told()
    del story.lines[-1]["details"]["examined"]
    assert codes(case(story)) == []


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "x" * 81])
def test_a_person_has_a_name_of_one_line(text: str) -> None:
    with pytest.raises(InvalidInput):
        person_of(text, required="an override")


def test_reasons_are_of_a_few_words() -> None:
    assert reason_of(" the house burns ", required="x") == "the house burns"
    for text in ("", "because", "just because"):
        with pytest.raises(InvalidInput, match="at least 3 words"):
            reason_of(text, required="an override")
