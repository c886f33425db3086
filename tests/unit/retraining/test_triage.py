"""Broken data, a season, something real, or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.http.clock import rfc3339
from proa.project.retrain import ASKING, RetrainSection
from proa.retraining.rules import loosened, parse_section
from proa.retraining.triage import BROKEN, Triage, triage
from tests.unit.retraining.world import START, finding, release

NOW = START + timedelta(days=6)
SECTION = RetrainSection()


def judged(*findings: Any, section: RetrainSection = SECTION) -> Triage:
    return triage(findings, now=NOW, section=section, champion=release(1))


def test_a_measured_loss_on_sound_data_is_real() -> None:
    found = judged(finding("feature_drift", subject="wind"), finding("calibration"))
    assert found.word == "real"
    assert found.reason == "calibration is off (for 6 days, on sound data)"


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_fault_of_the_data_comes_before_all(kind: str) -> None:
    fault = finding(kind, subject="wind")
    assert judged(finding(), fault).word == "data_broken"
    assert judged(finding(), replace(fault, severity="info")).word == "real"
    assert judged(finding(), replace(fault, release=release(9))).word == "real"
    assert judged(finding(), replace(fault, release="", track="")).word == "data_broken"


def test_a_fault_that_is_over_counts_while_it_explains_most_of_what_asks() -> None:
    until = rfc3339(START + timedelta(days=4))
    fault = finding("null_burst", subject="wind", until=until)
    assert judged(finding(), fault).word == "data_broken"
    brief = replace(fault, until=rfc3339(START + timedelta(days=2)))
    assert judged(finding(), brief).word == "real"


def test_a_new_category_is_the_worlds_and_no_fault() -> None:
    assert judged(finding(), finding("new_category", subject="carrier")).word == "real"


def test_what_came_and_went_before_is_a_season_until_it_lasts_longer() -> None:
    year = timedelta(days=100)
    since, until = START - year, START - year + timedelta(days=10)
    before = finding(since=since, until=rfc3339(until))
    found = judged(finding(), before)
    assert (found.word, "once before and lasted up to 10 days" in found.reason) == ("season", True)
    longer = triage([finding(), before], now=START + timedelta(days=11), section=SECTION)
    assert longer.word == "real"
    ended = replace(before, release=release(0))
    assert judged(finding(), ended).word == "real"  # its release ended, and it with it
    seen = replace(finding("volume", since=until), release=release(0))
    assert judged(finding(), ended, seen).word == "season"


def test_an_estimate_beside_drift_of_the_week_is_a_season() -> None:
    section = RetrainSection(when=["estimated_quality"])
    week = finding("feature_drift", evidence={"holds": {"training": True, "week": False}})
    real = finding("feature_drift", evidence={"holds": {"training": True, "week": True}})
    asked = finding("estimated_quality")
    assert judged(asked, week, section=section).word == "season"
    assert judged(asked, week, real, section=section).word == "real"
    assert judged(asked, section=section).word == "real"


def test_a_finding_must_have_lasted() -> None:
    young = replace(finding(), seen=rfc3339(START + timedelta(days=1)))
    assert judged(young).word == "nothing"
    assert "not yet the 2 it must last" in judged(young).reason


def test_what_is_not_present_does_not_ask() -> None:
    gone = replace(finding(), until=rfc3339(NOW))
    shadow = replace(finding(), track="challenger")
    older = replace(finding(), release=release(0))
    assert judged(gone, shadow, older).word == "nothing"
    assert "has not made the answers worse" in judged(finding("prediction_drift")).reason


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"when": ["feature_drift"]}, "what has moved need not be worse"),
        ({"when": ["null_burst"]}, "may not ask for a retraining"),
        ({"fresh_days": 13}, "retrain: fresh_days = 13"),
        ({"zone": "Mars"}, "a time zone"),
        ({"promote": "yes"}, "retrain: promote = 'yes'"),
        ({"cooldown": 3}, "cooldown"),
    ],
)
def test_a_wrong_section_is_named(said: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_section(said)


def test_no_section_is_none_and_a_whole_one_comes_back() -> None:
    assert parse_section({}) is None
    whole = RetrainSection(when=list(ASKING), set_={"train.trials": 2}, promote="auto")
    assert parse_section(whole.to_json()) == whole


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"when": ["quality", "fairness"]}, "fairness may ask"),
        ({"lasts_days": 0}, "days that a finding must last went from 2 down to 0"),
        ({"fresh_days": 14}, "fresh days went from 20 down to 14"),
        ({"cooldown_days": 1}, "days of cooldown went from 30 down to 1"),
        ({"budget": 4}, "the budget went from 3 in 90 days to 4 in 90"),
        ({"budget_days": 30}, "the budget went from 3 in 90 days to 3 in 30"),
        ({"attempts": 4}, "exams of one request went from 3 up to 4"),
        ({"approval": False}, "approval of a retraining is no longer asked for"),
        ({"promote": "auto"}, "a candidate that passed may be promoted by itself"),
    ],
)
def test_loosening_is_told_and_the_way_back_is_free(change: dict[str, Any], sentence: str) -> None:
    before = RetrainSection(approval=True, fresh_days=20)
    after = before.model_copy(update=change)
    assert loosened(before, after) == [sentence]
    assert "fairness" in change.get("when", ()) or loosened(after, before) == []
    assert loosened(before, None) == []
    assert loosened(None, after)[0].startswith("a retraining may start")
