"""The canary's rule: a truth table, and whole steps simulated (`tests.canary_trials`)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from proa.ledger.tally import Tally, quantile
from proa.rollout.analysis import analyse
from proa.rollout.policy import Policy
from tests.canary_trials import Harm, Setting, make_calls, outcomes, run_step, sums_of, tally_of

POLICY = Policy()
PLAIN = Setting(per_unit=1.0, alike=1e-6)
ENOUGH, FEW, NONE = 3000, 50, 0
HEALTHY = Harm()


def tally(calls: int, harm: Harm = HEALTHY, *, kind: str = "classic", seed: int = 1) -> Tally:
    if not calls:
        return Tally()
    setting = replace(PLAIN, kind=kind)
    return tally_of(make_calls(np.random.default_rng(seed), calls, harm, setting), kind)


CHAMPION, BASELINE = tally(9000, seed=2), tally(9000, seed=3)


@pytest.mark.parametrize(
    ("harm", "calls", "value", "why"),
    [
        (Harm(), ENOUGH, "pass", "within margins: errors, latency_p95_ms"),
        (Harm(), FEW, "inconclusive", "50 of 200 units seen"),
        (Harm(), NONE, "inconclusive", "0 of 200 units seen"),
        (Harm(slower=0.6), ENOUGH, "pass", "within margins"),
        (Harm(slower=0.6), FEW, "inconclusive", "units seen"),
        (Harm(slower=1.5), ENOUGH, "fail", "latency_p95_ms"),
        (Harm(slower=1.5), FEW, "inconclusive", "units seen"),
        (Harm(errors=0.06), ENOUGH, "fail", "errors"),
        (Harm(errors=0.06), FEW, "inconclusive", "units seen"),
        (Harm(errors=0.6), FEW, "fail", "errors"),  # nobody needs 200 units to see that
        (Harm(shift=1.5), ENOUGH, "fail", "predictions"),
    ],
)
def test_truth_table(harm: Harm, calls: int, value: str, why: str) -> None:
    found = analyse(tally(calls, harm), CHAMPION, POLICY, baseline=BASELINE)
    assert (found.value, why in found.reason) == (value, True), found.reason


@pytest.mark.parametrize(
    ("harm", "signal"), [(Harm(longer=3.0), "tokens_out"), (Harm(stops=0.2), "length_stops")]
)
def test_a_language_model_s_guardrails(harm: Harm, signal: str) -> None:
    champion = tally(9000, kind="llm", seed=2)
    assert analyse(tally(ENOUGH, kind="llm"), champion, POLICY, kind="llm").value == "pass"
    found = analyse(tally(ENOUGH, harm, kind="llm"), champion, POLICY, kind="llm")
    assert (found.value, signal in found.reason) == ("fail", True), found.reason


@pytest.mark.parametrize("candidate", [None, tally(ENOUGH), tally(ENOUGH, Harm(errors=0.5))])
@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_a_silent_gateway_is_inconclusive_whatever_the_rest_says(
    candidate: Tally | None, champion: Tally | None
) -> None:
    if candidate is not None and champion is not None:
        return
    found = analyse(candidate, champion, POLICY, baseline=BASELINE)
    assert (found.value, found.reason) == ("inconclusive", "the gateways' counts are missing")


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1, 2])
def test_a_count_that_is_no_number_is_inconclusive(number: float, side: int) -> None:
    good = tally(ENOUGH)
    broken = replace(good, sums={**good.sums, "errors": replace(good.of("errors"), total=number)})
    sides = [good, CHAMPION, BASELINE]
    sides[side] = broken
    found = analyse(sides[0], sides[1], POLICY, baseline=sides[2])
    assert (found.value, found.reason) == ("inconclusive", "a count is not a number")


def test_an_incident_that_hits_both_neither_aborts_nor_passes() -> None:
    incident = Harm(errors=0.2, slower=2.0)
    candidate, champion = tally(20_000, incident), tally(20_000, incident, seed=2)
    found = analyse(candidate, champion, POLICY, baseline=BASELINE)
    assert found.value == "inconclusive"
    assert "the champion also moved" in found.reason
    # But for the baseline there is nothing to see.
    assert analyse(candidate, champion, POLICY).value == "pass"


def test_harm_beyond_what_moved_the_champion_still_aborts() -> None:
    shaken = tally(9000, Harm(errors=0.05), seed=2)
    assert analyse(tally(ENOUGH, Harm(errors=0.05)), shaken, POLICY, baseline=BASELINE).value == (
        "inconclusive"
    )
    found = analyse(tally(ENOUGH, Harm(errors=0.4)), shaken, POLICY, baseline=BASELINE)
    assert (found.value, found.findings[0].champion_moved) == ("fail", True)


def test_calls_of_one_unit_are_not_taken_for_many() -> None:
    """Ten noisy units that fail half of their thousand calls each are ten units."""
    unit = np.repeat(np.arange(210), 20)
    error = (unit < 10).astype(float)
    alike = sums_of(unit, error)
    assert alike.effective == pytest.approx(210, rel=0.1)
    apart = sums_of(np.arange(4200), error)
    assert apart.effective == pytest.approx(4200, rel=0.01)
    assert sums_of(unit, np.zeros(4200)).effective == 210  # no error yet: the careful extreme


def test_what_was_not_reported_is_not_judged_and_stops_nothing() -> None:
    bare = replace(tally(ENOUGH), predictions={})
    bare = replace(bare, sums={k: v for k, v in bare.sums.items() if k != "predictions"})
    found = analyse(bare, CHAMPION, POLICY, baseline=BASELINE)
    assert found.value == "pass"
    (missing,) = [finding for finding in found.findings if finding.signal == "predictions"]
    assert (missing.interval, missing.candidate) == (None, None)


def test_the_status_says_every_side_of_every_signal() -> None:
    wire = analyse(tally(ENOUGH), CHAMPION, POLICY, baseline=BASELINE).to_json()
    assert set(wire) == {"value", "reason", "units", "signals"}
    assert wire["units"]["champion"] == CHAMPION.units
    for signal in wire["signals"][:2]:
        low, high = signal["interval"]
        assert low < high
        assert None not in (signal["candidate"], signal["champion"], signal["baseline"])


@pytest.mark.parametrize(
    ("units", "quantile_name"), [(200, "p95"), (100, "p90"), (40, "p75"), (15, "p50"), (5, None)]
)
def test_a_demo_s_few_units_get_a_quantile_they_can_bound(
    units: int, quantile_name: str | None
) -> None:
    policy = Policy(minimum_units=units, error_margin=0.7, latency_ratio=20)
    found = analyse(tally(units * 2), tally(units * 4, seed=2), policy)
    assert found.value == "pass", found.reason
    names = [finding.signal for finding in found.findings if "latency" in finding.signal]
    assert names == ([] if quantile_name is None else [f"latency_{quantile_name}_ms"])
    assert ("latency: too few units to judge" in found.reason) == (quantile_name is None)


def test_quantiles_of_the_histogram_are_within_one_percent() -> None:
    values = np.random.default_rng(5).lognormal(3, 1, 20_000)
    buckets = np.floor(np.log(values) / np.log(1.02)).astype(int)
    histogram = dict(
        zip(*(a.tolist() for a in np.unique(buckets, return_counts=True)), strict=True)
    )
    for share in (0.5, 0.9, 0.95, 0.99):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        assert quantile(histogram, share) == pytest.approx(exact, rel=0.0101)


def test_a_guardrail_that_only_looks_worse_by_chance_stops_nothing() -> None:
    """Two of twelve answers cut by length say little; 9 points more of 300 say something."""
    policy = Policy(minimum_units=12, error_margin=0.7, latency_ratio=20)
    champion = tally(60, kind="llm", seed=2)
    few = tally(14, kind="llm")
    few = replace(
        few, sums={**few.sums, "length_stops": sums_of(np.arange(12), np.r_[1, 1, [0] * 10])}
    )
    assert analyse(few, champion, policy, kind="llm").value == "pass"
    many = tally(300, Harm(stops=0.09), kind="llm", seed=4)
    found = analyse(many, tally(2000, kind="llm", seed=2), POLICY, kind="llm")
    assert found.value == "inconclusive"
    (stops,) = [finding for finding in found.findings if finding.signal == "length_stops"]
    assert (stops.value, "may be worse" in stops.note) == ("inconclusive", True)


TRIALS = 25
QUICK = Setting(calls=30_000, looks=25, weight=0.2)


@pytest.mark.parametrize(
    ("harm", "value", "least"),
    [
        (Harm(), "pass", 0.9),
        (Harm(slower=1.5), "fail", 0.9),
        (Harm(errors=0.05), "fail", 0.7),
    ],
)
def test_whole_steps_with_a_look_at_every_tick(harm: Harm, value: str, least: float) -> None:
    """`make bench-canary` has 200 trials of more settings."""
    found = outcomes(replace(QUICK, candidate=harm), TRIALS)
    wrong = "fail" if value == "pass" else "pass"
    assert found[wrong] == 0, found
    assert found[value] >= least, found


def test_an_incident_in_a_simulated_step_never_aborts() -> None:
    both = Harm(errors=0.2, slower=2.0)
    for seed in range(5):
        analysis, _ = run_step(replace(QUICK, candidate=both, champion=both, looks=10), seed)
        assert analysis.value == "inconclusive", analysis.reason
