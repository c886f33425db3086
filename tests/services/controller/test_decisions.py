"""People decide: approvals, overrides, revocations, rules, freezes; over HTTP with real keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.embedded.workloads import WorkloadFiles
from proa.errors import Conflict, Forbidden, InvalidInput, NotFound, ProaError, Refused
from proa.fleet import Fleet
from proa.ledger.keys import KeyStore
from proa.release.reference import ReleaseRef
from tests.processes import wait_until
from tests.services.controller.platform import SmallPlatform, evidence


@contextmanager
def caller(small: SmallPlatform, person: str | None, *rights: str) -> Iterator[Fleet]:
    """A fleet with a key of its own."""
    store = KeyStore(small.home.ledger)
    text = store.create(team="team", feature="tool", rights=["read", *rights]).text
    store.close()
    with Fleet(small.fleet.endpoints, text, home=small.home, person=person) as fleet:
        yield fleet


def announce(small: SmallPlatform, ref: ReleaseRef, rollout: dict[str, Any]) -> Any:
    path = f"/v1/models/{ref.name}/releases"
    return small.ask("POST", path, {"release": str(ref), "rollout": rollout})["rules"]


def promote(fleet: Fleet, ref: ReleaseRef, **body: Any) -> Any:
    return fleet._controller(
        "POST", f"/v1/models/{ref.name}/promote", {"release": str(ref), "reason": "t", **body}
    )


def plan(fleet: Fleet, ref: ReleaseRef) -> Any:
    return promote(fleet, ref, dry_run=True)["plan"]


def refused_codes(fleet: Fleet, ref: ReleaseRef) -> list[str]:
    return [item["code"] for item in plan(fleet, ref)["refusals"]]


def lines(small: SmallPlatform, name: str, action: str) -> list[dict[str, Any]]:
    return [line for line in small.fleet.history(name) if line["action"] == action]


def attention(small: SmallPlatform, name: str) -> list[str]:
    """What people must decide; without what is said of MLflow, which does not run here."""
    found = small.fleet.status(name)["attention"]
    return [sentence for sentence in found if not sentence.startswith("registry: ")]


NO_CANARY = {"steps": [], "warm_seconds": 0}


def second(small: SmallPlatform, name: str, **rollout: Any) -> tuple[ReleaseRef, ReleaseRef]:
    """A champion, and a judged release after it."""
    one = small.champion(name)
    two = small.release(name)
    if rollout:
        announce(small, two, rollout)
    small.gate(two)
    return one, two


def test_an_approval_by_another_key_and_person(small: SmallPlatform) -> None:
    _, two = second(small, "approved", approval=True, **NO_CANARY)
    with pytest.raises(Refused, match="not been approved by a second person") as caught:
        promote(small.fleet, two)
    assert caught.value.code == "ApprovalMissing"
    with (
        Fleet(small.fleet.endpoints, small.fleet._key, person="Bert") as same,
        pytest.raises(Refused, match="the same key made it"),
    ):
        same.approve(two, reason="looks good to me")
    with (
        caller(small, "Ann", "promote") as ann,
        pytest.raises(Forbidden, match="lacks the right 'approve'"),
    ):
        ann.approve(two, reason="looks good to me")
    with caller(small, "Bert", "approve") as bert:
        with pytest.raises(InvalidInput, match="at least 3 words"):
            bert.approve(two, reason="ok")
        nobody = Fleet(bert.endpoints, bert._key)
        with pytest.raises(InvalidInput, match="needs a person's name"):
            nobody.approve(two, reason="looks good to me")
        nobody.close()
        bert.approve(two, reason="looks good to me")
    promote(small.fleet, two)
    assert small.fleet.settle("approved", seconds=60)["champion"] == str(two)
    line = lines(small, "approved", "approved")[0]
    judged = lines(small, "approved", "judged")[-1]
    assert line["details"]["evidence"] == judged["details"]["evidence"]
    assert line["who"].startswith("Bert (team/tool#")


def test_an_approval_is_stale_with_another_verdict(small: SmallPlatform) -> None:
    _, two = second(small, "stale-approval", approval=True)
    with caller(small, "Bert", "approve") as bert:
        bert.approve(two, reason="looks good to me")
        assert refused_codes(small.fleet, two) == []
        slot = small.ask("POST", "/v1/models/stale-approval/gate", {"release": str(two)})
        try:
            other = evidence(slot, two, good=True)
            other["candidate_results"][0]["value"] += 0.01
            body = {"slot": slot["slot"], "evidence": other}
            small.ask("POST", "/v1/models/stale-approval/verdicts", body)
        finally:
            small.ask("DELETE", f"/v1/models/stale-approval/gate/{slot['slot']}")
        assert refused_codes(small.fleet, two) == ["ApprovalStale"]
        bert.approve(two, reason="still looks good")
        assert refused_codes(small.fleet, two) == []


def test_who_asked_by_name_cannot_approve_with_another_key(small: SmallPlatform) -> None:
    _, two = second(small, "asked-by", approval=True)
    with (
        caller(small, "Eve", "promote") as eve,
        pytest.raises(Refused, match="second person"),
    ):
        promote(eve, two)
    with caller(small, " eve", "approve", "promote") as again:
        again.approve(two, reason="I say it is good")  # she has not asked yet: it was refused
        with pytest.raises(Refused, match="who made it or asks for it") as caught:
            promote(again, two)
        assert caught.value.code == "SamePerson"


def test_an_override_has_a_person_and_a_reason_and_is_told(small: SmallPlatform) -> None:
    one = small.champion("overridden")
    two = small.release("overridden")
    small.gate(two, good=False)
    with caller(small, "Ann", "promote") as ann, pytest.raises(Forbidden, match="approve"):
        promote(ann, two, override=True)
    with caller(small, None, "approve") as nobody, pytest.raises(InvalidInput, match="person"):
        promote(nobody, two, override=True, reason="the house burns")
    with caller(small, "Zoe", "approve") as zoe:
        with pytest.raises(InvalidInput, match="at least 3 words"):
            promote(zoe, two, override=True, reason="now")
        promote(zoe, two, override=True, reason="the house burns", policy=NO_CANARY)
    assert small.fleet.settle("overridden", seconds=60)["champion"] == str(two)
    line = lines(small, "overridden", "overridden")[0]
    assert line["details"]["codes"] == ["GateFailed"]
    assert "verdict is fail" in line["details"]["messages"][0]
    story = " ".join(small.fleet.why("overridden"))
    assert "Zoe (team/tool#" in story
    assert "overrode GateFailed, because “the house burns”" in story
    assert one.short in story


def test_a_revoked_champion_gives_way_to_the_last_good_release(small: SmallPlatform) -> None:
    one, two = second(small, "revoked")
    promote(small.fleet, two, policy=NO_CANARY)
    assert small.fleet.settle("revoked", seconds=60)["champion"] == str(two)
    with caller(small, "Ann", "approve") as ann, pytest.raises(Forbidden, match="admin"):
        ann.revoke(two, reason="it leaks training data")
    with caller(small, "Ann", "admin") as ann:
        ann.revoke(two, reason="it leaks training data")
        with pytest.raises(Conflict, match="revoked already"):
            ann.revoke(two, reason="it leaks training data")
        wait_until(
            lambda: small.predict("revoked").headers["x-proa-release"] == str(one), deadline=30
        )
        assert small.fleet.settle("revoked", seconds=30)["champion"] == str(one)
        assert [item["release"] for item in small.fleet.revoked() if "revoked/" in item["release"]]

        # Nothing brings it back: promote, override, gate, rollback, undo, a hand on the template.
        assert refused_codes(small.fleet, two)[0] == "Revoked"
        for act in (
            lambda: promote(small.fleet, two),
            lambda: promote(ann, two, override=True, reason="the house burns"),
            lambda: small.ask("POST", "/v1/models/revoked/gate", {"release": str(two)}),
            lambda: small.fleet.rollback("revoked"),
            lambda: small.fleet.undo("revoked"),
        ):
            with pytest.raises(ProaError) as caught:
                act()
            assert caught.value.code in ("Revoked", "no_previous")
        WorkloadFiles(small.home).undo("revoked")  # what kubectl rollout undo does
        wait_until(lambda: lines(small, "revoked", "put_back") != [], deadline=20)
        wait_until(lambda: small.fleet.status("revoked")["ready"]["champion"], deadline=20)
        assert small.fleet.status("revoked")["champion"] == str(one)
        assert small.predict("revoked").headers["x-proa-release"] == str(one)
        with pytest.raises(Refused, match="another person"):
            ann.unrevoke(two, reason="it was a mistake")
    with caller(small, "Bert", "approve") as bert:
        bert.unrevoke(two, reason="it was a mistake")
        with pytest.raises(NotFound, match="not revoked"):
            bert.unrevoke(two, reason="it was a mistake")
    assert refused_codes(small.fleet, two) == []


def test_a_revoked_first_release_serves_on_and_says_so_loudly(small: SmallPlatform) -> None:
    one = small.champion("only")
    with caller(small, "Ann", "admin") as ann:
        ann.revoke(one, reason="it leaks training data")
    assert attention(small, "only")[0].startswith("REVOKED: only/")
    assert small.predict("only").headers["x-proa-release"] == str(one)
    two = small.release("only")
    small.gate(two)
    promote(small.fleet, two, policy=NO_CANARY)
    status = small.fleet.settle("only", seconds=60)
    assert status["champion"] == str(two)
    assert attention(small, "only") == []
    with pytest.raises(Refused, match="no previous release"):
        small.fleet.rollback("only")
    wait_until(lambda: small.fleet.status("only")["previous"] is None, deadline=20)


def test_a_revoked_challenger_loses_its_weight(small: SmallPlatform) -> None:
    one, two = second(small, "weighty")
    promote(small.fleet, two, policy={"steps": [50], "max_seconds": 600})
    wait_until(lambda: small.fleet.status("weighty")["traffic"].get(str(two)) == 0.5, deadline=30)
    with caller(small, "Ann", "admin") as ann:
        ann.revoke(two, reason="it leaks training data")
    wait_until(lambda: small.fleet.status("weighty")["traffic"] == {str(one): 1.0}, deadline=20)
    assert "revoked" in small.fleet.status("weighty")["message"]


def test_a_freeze_says_when_it_ends_and_leaves_the_way_back_open(small: SmallPlatform) -> None:
    now = datetime.now(UTC)
    window = {
        "from": f"{now - timedelta(days=1):%Y-%m-%d}",
        "to": f"{now + timedelta(days=2):%Y-%m-%d}",
    }
    one, two = second(small, "frozen")
    promote(small.fleet, two, policy={"steps": [], "warm_seconds": 600})
    assert small.fleet.settle("frozen", seconds=60)["champion"] == str(two)
    three = small.release("frozen")
    announce(small, three, {"freeze": [window]})
    small.gate(three)
    end = f"{window['to']}T00:00:00"
    with pytest.raises(Refused, match=f"frozen until {end}Z") as caught:
        promote(small.fleet, three)
    assert caught.value.code == "Frozen"
    assert small.fleet.status("frozen")["frozen_until"].startswith(end)
    assert small.fleet.rollback("frozen", reason="away from it")["champion"] == str(one)
    with caller(small, "Zoe", "approve") as zoe:
        promote(zoe, three, override=True, reason="the judge is stale though")
    small.fleet.abort("frozen")


def test_a_platform_wide_freeze(small: SmallPlatform) -> None:
    _, two = second(small, "frozen-all")
    file = small.home.freeze_file
    try:
        file.write_text(
            'freeze:\n  - {from: "00:00", to: "24:00"}\n  - {from: 2020-01-01, to: 2020-01-02}\n'
        )
        assert refused_codes(small.fleet, two) == ["Frozen"]
        file.write_text("freeze:\n  - {from: 16:00, to: 24:00}\n")  # YAML reads 16:00 as a number
        found = plan(small.fleet, two)["refusals"]
        assert [item["code"] for item in found] == ["Frozen"]
        assert "in quotes" in found[0]["message"]
    finally:
        file.unlink()
    assert refused_codes(small.fleet, two) == []


def test_looser_rules_wait_for_another_person(small: SmallPlatform) -> None:
    one = small.champion("ruled")
    strict = {"approval": True, "steps": [20]}
    assert announce(small, one, strict)["standing"] == "set"
    assert announce(small, one, strict)["standing"] == "present"
    with caller(small, "Ann", "judge") as ann:
        path = "/v1/models/ruled/releases"
        told = ann._controller("POST", path, {"release": str(one), "rollout": {"steps": [30]}})
        assert told["rules"]["standing"] == "proposed"
        assert told["rules"]["in_force"] == strict
        bad = {"freeze": [{"from": "25:00", "to": "26:00"}]}
        with pytest.raises(InvalidInput, match=r"freeze\.0\.from"):
            ann._controller("POST", path, {"release": str(one), "rollout": bad})
    status = small.fleet.status("ruled")
    assert status["rules"] == strict
    assert "approval is no longer asked for" in attention(small, "ruled")[0]
    with caller(small, "Ann", "approve") as same, pytest.raises(Refused, match="another person"):
        same.approve_rules("ruled", reason="I want it so")
    with caller(small, "Bert", "approve") as bert:
        bert.approve_rules("ruled", reason="Ann is right here")
        with pytest.raises(NotFound, match="no looser rules"):
            bert.approve_rules("ruled", reason="Ann is right here")
    assert small.fleet.status("ruled")["rules"] == {"steps": [30]}
    assert attention(small, "ruled") == []
    two = small.release("ruled")
    small.gate(two)
    assert "canary at 30 %" in " ".join(plan(small.fleet, two)["steps"])


def with_exam(small: SmallPlatform, ref: ReleaseRef, fleet: Fleet, **rules: Any) -> Any:
    """Judge by the small exam with other rules."""
    from proa.exam.evidence import exam_digest
    from proa.exam.rules import rules_from_json

    path = f"/v1/models/{ref.name}"
    slot = fleet._controller("POST", f"{path}/gate", {"release": str(ref)})
    try:
        found = evidence(slot, ref, good=True)
        found["rules"] = rules_from_json({**found["rules"], **rules}).model_dump(mode="json")
        found["exam"] = exam_digest(found["rules"], found["data"])
        body = {"slot": slot["slot"], "evidence": found}
        return fleet._controller("POST", f"{path}/verdicts", body)
    finally:
        fleet._controller("DELETE", f"{path}/gate/{slot['slot']}")


STRICTER = {"floors": [{"metric": "roc_auc", "min": 0.7}]}
LOOSER = {"floors": [{"metric": "roc_auc", "min": 0.5}]}


def test_a_stricter_exam_makes_verdicts_of_the_one_before_stale(small: SmallPlatform) -> None:
    _, two = second(small, "stricter")
    three = small.release("stricter")
    assert refused_codes(small.fleet, two) == []
    with_exam(small, three, small.fleet, **STRICTER)
    assert refused_codes(small.fleet, three) == []
    with pytest.raises(Refused, match="replaced by a stricter one") as caught:
        promote(small.fleet, two)
    assert (caught.value.code, caught.value.hint) == ("GateStale", f"proa gate {two.short}")


def test_a_looser_exam_needs_a_second_person(small: SmallPlatform) -> None:
    _, two = second(small, "looser")
    three = small.release("looser")
    with caller(small, "Ann", "judge") as ann:
        with_exam(small, three, ann, **LOOSER)
    with pytest.raises(Refused, match=r"roc_auc went from 0.6 down to 0.5") as caught:
        promote(small.fleet, three)
    assert caught.value.code == "ExamLoosened"
    assert (caught.value.hint or "").startswith("proa approve looser --exam sha256:")
    assert refused_codes(small.fleet, two) == []
    with caller(small, "ANN", "approve") as same, pytest.raises(Refused, match="another person"):
        same.approve_exam("looser", reason="it was too strict")
    with caller(small, "Bert", "approve") as bert:
        with pytest.raises(NotFound, match="no looser exam"):
            bert.approve_exam("looser", "sha256:0000", reason="it was too strict")
        bert.approve_exam("looser", reason="it was too strict")
    assert refused_codes(small.fleet, three) == []
    assert refused_codes(small.fleet, two) == []  # judged by more than is asked for now


def test_a_dry_run_says_every_reason_and_every_step_and_changes_nothing(
    small: SmallPlatform,
) -> None:
    one = small.champion("dry")
    two = small.release("dry")
    announce(
        small,
        two,
        {"approval": True, "steps": [5, 40], "freeze": [{"from": "00:00", "to": "24:00"}]},
    )
    before = small.fleet.history("dry"), small.fleet.status("dry")["sequence"]
    found = plan(small.fleet, two)
    assert [item["code"] for item in found["refusals"]] == [
        "GateMissing", "ApprovalMissing", "Frozen",
    ]  # fmt: skip
    assert found["overridable"]
    assert not found["admitted"]
    steps = " | ".join(found["steps"])
    assert "canary at 5 %" in steps
    assert "canary at 40 %" in steps
    assert f"{two.short} replaces {one.short}" in steps
    assert "already_champion" in refused_codes(small.fleet, one)
    assert (small.fleet.history("dry"), small.fleet.status("dry")["sequence"]) == before


def test_pause_resume_abort_are_journaled_with_person_and_reason(small: SmallPlatform) -> None:
    _, two = second(small, "held-up")
    promote(small.fleet, two, policy={"steps": [10], "max_seconds": 600})
    wait_until(lambda: lines(small, "held-up", "step") != [], deadline=30)
    with caller(small, "Ann", "promote") as ann:
        ann.pause("held-up", reason="let me look")
        ann.resume("held-up", reason="all is well")
        ann.abort("held-up", reason="not so well")
    told = [
        (line["action"], line["who"].partition(" ")[0], line["reason"])
        for line in small.fleet.history("held-up")[-3:]
    ]
    assert told[:2] == [("paused", "Ann", "let me look"), ("resumed", "Ann", "all is well")]
    assert told[2][:2] == ("aborted", "Ann")
    assert "not so well" in told[2][2]


def test_a_refusal_shows_in_the_status_until_something_is_admitted(small: SmallPlatform) -> None:
    small.champion("shown")
    two = small.release("shown")
    with pytest.raises(Refused):
        promote(small.fleet, two)
    refused = small.fleet.status("shown")["refused"]
    assert (refused["code"], refused["hint"]) == ("GateMissing", f"proa gate {two.short}")
    assert f"refused {two.short}" in small.fleet.status("shown")["message"]
    small.gate(two)
    promote(small.fleet, two, policy=NO_CANARY)
    assert small.fleet.settle("shown", seconds=60)["refused"] is None


def test_what_ran_and_why_from_the_journal_alone(small: SmallPlatform) -> None:
    one, two = second(small, "told")
    promote(small.fleet, two, policy=NO_CANARY, reason="it is better")
    small.fleet.settle("told", seconds=60)
    history = small.fleet.history("told")
    first = next(line for line in history if line["action"] == "promoted")
    moment = small.fleet.history_at("told", datetime.fromisoformat(first["time"]))
    assert moment.running.champion == str(one)
    assert moment.verdict is not None
    now = small.fleet.history_at("told", datetime.now(UTC))
    assert now.running.champion == str(two)
    assert now.verdict is not None
    assert now.verdict["value"] == "pass"
    story = small.fleet.why("told")
    assert story[0].startswith(f"{two.short} became champion at ")
    assert f"in place of {one.short}" in story[0]
    assert "because “it is better”" in story[1]
    found = small.fleet.verify_journal()
    assert found["lines"] > 0
    assert small.fleet.verify_journal(found["head"])["lines"] >= found["lines"]
    with pytest.raises(Conflict, match="has another line"):
        small.fleet.verify_journal("1:sha256:" + "0" * 64)
    with pytest.raises(NotFound, match="nobody"):
        small.fleet.why("nobody")
