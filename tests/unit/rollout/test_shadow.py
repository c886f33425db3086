"""The step in the shadow: copies, seconds and later labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proa.errors import InvalidInput
from proa.ledger.tally import Sums, Tally
from proa.release.reference import ReleaseRef
from proa.rollout.analysis import Analysis
from proa.rollout.machine import Seen, Track, promote
from proa.rollout.policy import Policy, Shadow
from proa.rollout.sequence import Interval
from proa.rollout.shadow import Truth, analyse_shadow
from proa.rollout.state import Request, Rollout
from tests.canary_trials import Harm
from tests.unit.rollout.test_analysis import BASELINE, CHAMPION, tally

COPIES = replace(tally(3000), sums={**tally(3000).sums, "agreed": Sums(3000, 3000, 3000, 2910)})
MARGIN = 0.008


def judge(
    shadow: Shadow, truth: Truth | None = None, *, copies: Tally | None = COPIES, seconds: float = 1
) -> Analysis:
    policy = Policy(shadow=shadow)
    return analyse_shadow(copies, CHAMPION, policy, baseline=BASELINE, seconds=seconds, truth=truth)


def labelled(labels: int, low: float, high: float) -> Truth:
    return Truth(labels, "brier", Interval((low + high) / 2, low, high), MARGIN)


def test_enough_copies_pass_and_say_how_alike_both_decide() -> None:
    found = judge(Shadow(units=500))
    assert found.value == "pass"
    assert found.reason.startswith("shadow: ")
    assert found.reason.endswith("97.0% of 3000 calls decided alike")


@pytest.mark.parametrize(
    ("shadow", "truth", "value", "why"),
    [
        (Shadow(units=5000), None, "inconclusive", "3000 of 5000 units seen"),
        (Shadow(units=500, seconds=60), None, "inconclusive", "1 of 60 s"),
        (Shadow(labels=500), None, "inconclusive", "does not tell"),
        (Shadow(labels=500), labelled(499, -0.1, -0.05), "inconclusive", "499 of 500 labels"),
        (Shadow(labels=500), labelled(500, -0.1, -0.05), "pass", "brier by 500 labels: -0.075"),
        (Shadow(labels=500), labelled(500, -0.1, 0.05), "inconclusive", "do not decide yet"),
        (Shadow(labels=500), labelled(500, 0.01, 0.05), "fail", "worse by the labels"),
        (Shadow(labels=500), Truth(500, "brier", None, MARGIN), "inconclusive", "500 of 500"),
    ],
)
def test_what_the_project_asked_for_is_waited_for(
    shadow: Shadow, truth: Truth | None, value: str, why: str
) -> None:
    found = judge(shadow, truth)
    assert (found.value, why in found.reason) == (value, True), found.reason


def test_a_language_model_has_no_shadow() -> None:
    seen = Seen(
        now=0, wall=0, running=None, generation=0, champion=Track(), challenger=Track(), routed=True
    )
    request = Request(ReleaseRef("m", 2, "sha256:" + "2" * 64), "ann", "because")
    with pytest.raises(InvalidInput, match="m is a language model: shadow is for classic"):
        promote(Rollout("m", "llm"), request, Policy(shadow=Shadow(units=5)), seen)


def test_good_labels_save_no_release_that_errs_and_no_gateway_no_verdict() -> None:
    good = labelled(500, -0.1, -0.05)
    assert judge(Shadow(labels=500), good, copies=tally(3000, Harm(errors=0.2))).value == "fail"
    assert judge(Shadow(labels=500), good, copies=None).value == "inconclusive"
