"""The section `rollout:`: one set of keys in `proa.yaml`, in the controller and in the policy."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from proa.errors import InvalidInput
from proa.project import load
from proa.project.rollout import RolloutSection, Shadow
from proa.rollout import policy
from proa.rollout.plan import steps_of
from proa.rollout.policy import Policy
from proa.rollout.refusals import CODES
from proa.rollout.rules import loosened, over, parse_rules
from proa.rollout.state import Rollout
from tests.unit.rollout.test_revocation import ONE, TWO, at_rest

FRIDAY = {"days": ["fri"], "from": "16:00", "to": "24:00", "zone": "Europe/Berlin"}
WINTER = {"from": "2026-12-20", "to": "2027-01-02"}


def test_the_project_and_the_policy_have_the_same_keys() -> None:
    admission = {"approval", "freeze"}
    assert set(RolloutSection.model_fields) == {item.name for item in fields(Policy)} | admission
    assert set(Shadow.model_fields) == {item.name for item in fields(policy.Shadow)}


def test_a_section_is_read_whole_and_comes_back_as_it_was_written() -> None:
    said = {
        "steps": [5, 20],
        "minimum_units": 50,
        "warm_seconds": 60.0,
        "shadow": {"units": 30},
        "approval": True,
        "freeze": [FRIDAY, WINTER],
    }
    rules = parse_rules(said)
    assert (rules.policy.steps, rules.policy.minimum_units, rules.approval) == ((5, 20), 50, True)
    assert rules.said == said
    assert parse_rules(rules.said) == rules
    assert parse_rules({}).policy == Policy()


def test_one_request_s_settings_lie_over_the_model_s() -> None:
    rules = parse_rules({"steps": [5], "max_seconds": 60.0, "approval": True})
    found = over(rules, {"steps": [20]})
    assert (found.steps, found.max_seconds) == ((20,), 60.0)
    with pytest.raises(InvalidInput, match="approval"):
        over(rules, {"approval": False})


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ({}, {"approval": True, "freeze": [FRIDAY]}, 0),
        ({"approval": True}, {"approval": True, "steps": []}, 0),
        ({"approval": True}, {}, 1),
        ({"freeze": [FRIDAY, WINTER]}, {"freeze": [WINTER]}, 1),
        ({"freeze": [FRIDAY]}, {"freeze": [{**FRIDAY, "from": "17:00"}]}, 1),
        ({"approval": True, "freeze": [FRIDAY, WINTER]}, {}, 3),
    ],
)
def test_what_is_looser(before: dict[str, Any], after: dict[str, Any], count: int) -> None:
    assert len(loosened(parse_rules(before), parse_rules(after))) == count


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"aproval": True}, "aproval is not a key"),
        ({"approval": "yes"}, "approval = 'yes'"),
        ({"steps": [50, 10]}, "rising"),
        ({"freeze": [{"from": "4pm", "to": "24:00"}]}, "freeze.0.from = '4pm'"),
        ({"on_inconclusive": "wait"}, "on_inconclusive = 'wait'"),
    ],
)
def test_a_mistake_is_named(section: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_rules(section)
    assert said in caught.value.message


PROJECT = """\
version: 1
name: m
kind: classic
task: binary
data: {ingest: rows:build, time: at, label: late, train: {start: 2013-01-01, end: 2013-02-01}}
train: {function: rows:build}
"""


def test_a_project_hands_it_over_and_its_release_does_not_change(tmp_path: Path) -> None:
    file = tmp_path / "proa.yaml"
    file.write_text(PROJECT)
    plain = load(file)
    assert plain.rollout == {}
    text = "rollout: {approval: true, freeze: [{from: 2026-12-20, to: 2027-01-02}]}\n"
    file.write_text(PROJECT + text)
    ruled = load(file)
    assert ruled.rollout == {"approval": True, "freeze": [WINTER]}
    assert "rollout" not in ruled.settings
    assert ruled.digest == plain.digest
    file.write_text(PROJECT + "rollout: {freeze: [{from: 16:00, to: 17:00}]}\n")
    with pytest.raises(InvalidInput, match=r"rollout\.freeze\.0\.from = 960: .*in quotes"):
        load(file)


def test_the_steps_of_a_plan() -> None:
    first = steps_of(Rollout("m", "classic"), ONE, Policy())
    assert first[0] == "m/1 gets all traffic at once: there is no champion yet"
    settings = policy.parse_policy({"steps": [5, 40], "shadow": 30, "warm_seconds": 60})
    text = "\n".join(steps_of(at_rest(champion=ONE), TWO, settings))
    for part in ("shadow", "canary at 5 %", "canary at 40 %", "m/2 replaces m/1", "60 s"):
        assert part in text
    assert "canary" not in "\n".join(steps_of(at_rest(), TWO, Policy(steps=())))


def test_every_code_says_what_it_means() -> None:
    assert all(code.meaning and code.meaning[0].islower() for code in CODES.values())
    assert {name for name, code in CODES.items() if not code.overridable} == {
        "ReleaseUnknown", "BundleBroken", "Revoked", "EngineMissing",
    }  # fmt: skip
