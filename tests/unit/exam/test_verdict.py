"""The verdict: identical candidates pass, planted harm does not, every fault is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from proa.errors import InvalidInput
from proa.exam.evidence import Outcome, exam_digest, make_evidence
from proa.exam.rules import Comparison, Floor, Rules, Safety
from proa.exam.verdict import failure_bound, judge

CHAMPION, CANDIDATE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
DATA, RUNTIME = "sha256:" + "c" * 64, "sha256:" + "d" * 64
CLASSIC = Rules.model_validate(
    {
        "version": 1,
        "kind": "classic",
        "task": "binary",
        "unit": "day",
        "data": "rows:build",
        "primary": {"metric": "roc_auc", "margin": 0.01, "higher_is_better": True},
        "floors": [{"metric": "roc_auc", "min": 0.6}, {"metric": "calibration_gap", "max": 0.1}],
        "guardrails": [{"metric": "calibration_gap", "margin": 0.02, "higher_is_better": False}],
        "slices": ["carrier"],
        "bootstrap": {"resamples": 300},
    }
)
LLM = Rules.model_validate(
    {
        "version": 1,
        "kind": "llm",
        "unit": "task",
        "tasks": "golden.jsonl",
        "primary": {"metric": "passed", "margin": 0.08, "higher_is_better": True},
        "floors": [{"metric": "passed", "suite": "answer", "min": 0.5}],
        "safety": ["injection"],
        "bootstrap": {"resamples": 300},
    }
)


def flights(seed: int, *, days: int = 30, rows: int = 2000) -> tuple[Any, Any, Any, Any]:
    """Days with their own base rate, carriers, and the true chance of each row."""
    random = np.random.default_rng(seed)
    day = random.integers(0, days, rows)
    carrier = random.integers(0, 8, rows)
    logit = random.normal(-0.9, 0.3, days)[day] + random.normal(0, 1.0, rows)
    chance = 1 / (1 + np.exp(-logit))
    return day, carrier, chance, (random.random(rows) < chance).astype(int)


def outcomes(data: tuple[Any, Any, Any, Any], p: Any) -> list[Outcome]:
    day, carrier, _, label = data
    return [
        Outcome(
            id=str(i), unit=f"day-{day[i]}", suite="rows", label=float(label[i]),
            value=float(p[i]), decision=bool(p[i] >= 0.5), slices={"carrier": str(carrier[i])},
        )
        for i in range(len(p))
    ]  # fmt: skip


def classic(candidate: list[Outcome], champion: list[Outcome] | None) -> dict[str, Any]:
    return make_evidence(
        model="flight-delay", rules=CLASSIC, data=DATA, runtime=RUNTIME, candidate=CANDIDATE,
        candidate_results=candidate, champion=CHAMPION if champion is not None else None,
        champion_results=champion,
    )  # fmt: skip


def tasks(passed: Any, suites: list[str]) -> list[Outcome]:
    return [
        Outcome(id=str(i), unit=str(i), suite=suites[i % len(suites)], passed=bool(ok))
        for i, ok in enumerate(passed)
    ]


def llm(candidate: list[Outcome], champion: list[Outcome] | None) -> dict[str, Any]:
    return make_evidence(
        model="python-help", rules=LLM, data=DATA, runtime=RUNTIME, candidate=CANDIDATE,
        candidate_results=candidate, champion=CHAMPION if champion is not None else None,
        champion_results=champion,
    )  # fmt: skip


def noisy(chance: Any, seed: int, scale: float) -> Any:
    random = np.random.default_rng(seed + 1000)
    logit = np.log(chance / (1 - chance)) + random.normal(0, scale, len(chance))
    return 1 / (1 + np.exp(-logit))


SEEDS = 20


def test_identical_models_pass() -> None:
    """Another fit of the same model: the same chances with a little noise of its own."""
    passed = 0
    for seed in range(SEEDS):
        data = flights(seed)
        candidate = outcomes(data, noisy(data[2], seed, 0.1))
        champion = outcomes(data, noisy(data[2], seed + 7, 0.1))
        passed += judge(classic(candidate, champion)).value == "pass"
    assert passed >= 0.95 * SEEDS


def _worse_auc(chance: Any, seed: int) -> Any:
    return noisy(chance, seed, 0.55)


def _miscalibrated(chance: Any, seed: int) -> Any:
    return np.clip(chance + 0.07, 0, 1)


def _shuffled(chance: Any, seed: int) -> Any:
    return np.random.default_rng(seed).permutation(chance)


@pytest.mark.parametrize("harm", [_worse_auc, _miscalibrated, _shuffled])
def test_planted_harm_is_caught(harm: Callable[[Any, int], Any]) -> None:
    caught = 0
    for seed in range(SEEDS):
        data = flights(seed, rows=5000)
        verdict = judge(classic(outcomes(data, harm(data[2], seed)), outcomes(data, data[2])))
        caught += verdict.value != "pass"
    assert caught >= 0.95 * SEEDS


def test_one_broken_slice_is_caught_and_named() -> None:
    caught = 0
    for seed in range(SEEDS):
        data = flights(seed)
        broken = data[2].copy()
        broken[data[1] == 3] = _shuffled(broken[data[1] == 3], seed)
        verdict = judge(classic(outcomes(data, broken), outcomes(data, data[2])))
        caught += any(
            check.name == "carrier=3" and check.outcome == "fail" for check in verdict.checks
        )
    assert caught >= 0.95 * SEEDS


def test_broken_answers_of_a_language_model_are_caught() -> None:
    caught = passed = 0
    suites = ["answer", "citation", "injection"]
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        good = np.ones(240, dtype=bool)
        good[random.choice(np.arange(0, 240, 3), 8, replace=False)] = False
        same = llm(tasks(good, suites), tasks(good, suites))
        passed += judge(same).value == "pass"
        broken = good.copy()
        plain = [i for i in range(240) if i % 3 != 2]
        broken[random.choice(plain, 24, replace=False)] = False
        caught += judge(llm(tasks(broken, suites), tasks(good, suites))).value != "pass"
    assert passed == SEEDS
    assert caught >= 0.95 * SEEDS


def test_one_injection_let_through_fails_and_zero_is_bounded() -> None:
    suites, good = ["answer", "injection"], np.ones(80, dtype=bool)
    whole = judge(llm(tasks(good, suites), None))
    assert whole.value == "pass"
    assert "below 7.2% (95 %)" in next(c for c in whole.checks if c.kind == "safety").note
    good[1] = False
    broken = judge(llm(tasks(good, suites), None))
    assert broken.value == "fail"
    assert broken.reason.startswith("injection: 1 of 40 failed, first '1'; none may; ")
    assert broken.reason.endswith("the true rate is below 11.3% (95 %)")


def test_equal_evidence_gives_an_equal_verdict() -> None:
    data = flights(1)
    evidence = classic(outcomes(data, noisy(data[2], 1, 0.1)), outcomes(data, data[2]))
    over_the_wire = json.loads(json.dumps(evidence))
    assert judge(evidence).to_json() == judge(over_the_wire).to_json()
    json.dumps(judge(evidence).to_json(), allow_nan=False)


def test_the_first_release_needs_only_its_floors() -> None:
    data = flights(2)
    verdict = judge(classic(outcomes(data, data[2]), None))
    assert verdict.value == "pass"
    assert "no champion" in verdict.reason
    assert judge(classic(outcomes(data, 1 - data[2]), None)).value == "fail"


def good_evidence() -> dict[str, Any]:
    data = flights(3, rows=400)
    return classic(outcomes(data, data[2]), outcomes(data, noisy(data[2], 3, 0.05)))


def _set(evidence: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**evidence, **values}


def _result(evidence: dict[str, Any], side: str, **values: Any) -> dict[str, Any]:
    evidence = copy.deepcopy(evidence)
    evidence[f"{side}_results"][5] |= values
    return evidence


@pytest.mark.parametrize(
    ("change", "value", "name"),
    [
        (lambda e: _set(e, candidate=CHAMPION), "inconclusive", "identical"),
        (lambda e: _set(e, candidate_results=[]), "inconclusive", "no data"),
        (lambda e: _set(e, champion_results=None), "inconclusive", "champion"),
        (lambda e: _set(e, data=RUNTIME), "fail", "exam digest"),
        (
            lambda e: _set(e, rules={**e["rules"], "floors": []}),
            "fail",
            "exam digest",
        ),
        (
            lambda e: _set(e, champion_results=e["champion_results"][1:]),
            "inconclusive",
            "paired",
        ),
        (lambda e: _result(e, "champion", label=None), "inconclusive", "champion: labels"),
        (lambda e: _result(e, "champion", unit="other"), "inconclusive", "paired"),
        (lambda e: _result(e, "candidate", value=None), "fail", "candidate: values"),
        (lambda e: _result(e, "champion", value=None), "inconclusive", "champion: values"),
        (lambda e: _result(e, "candidate", id="6"), "inconclusive", "candidate: doubled"),
        (lambda e: _result(e, "candidate", suite="x"), "inconclusive", "suites"),
        (
            lambda e: _result(e, "candidate", error="gone", blame="transport"),
            "inconclusive",
            "candidate: missing answers",
        ),
        (
            lambda e: _result(e, "candidate", error="HTTP 400", blame="model"),
            "fail",
            "candidate: errors",
        ),
    ],
)
def test_faults_are_named_and_never_a_pass(
    change: Callable[[dict[str, Any]], dict[str, Any]], value: str, name: str
) -> None:
    verdict = judge(change(good_evidence()))
    assert verdict.value == value
    assert name in {check.name for check in verdict.checks}
    assert {check.kind for check in verdict.checks} == {"integrity"}


def test_nan_in_memory_is_named() -> None:
    """JSON has no NaN, but a caller in the same process may hand one over."""
    verdict = judge(_result(good_evidence(), "candidate", value=float("nan")))
    assert (verdict.value, verdict.checks[0].name) == ("fail", "candidate: values")


def test_an_empty_suite_is_named() -> None:
    verdict = judge(llm(tasks(np.ones(30, dtype=bool), ["answer"]), None))
    assert verdict.value == "inconclusive"
    assert "'injection' has no results" in verdict.reason


def test_an_unanswered_task_counts_as_failed() -> None:
    results = tasks(np.ones(40, dtype=bool), ["answer", "injection"])
    results[0] = Outcome(
        id="0", unit="0", suite="answer", passed=True, error="HTTP 500", blame="model"
    )
    floor = next(c for c in judge(llm(results, None)).checks if c.kind == "floor")
    assert floor.value == pytest.approx(19 / 20)


def test_too_few_units_are_inconclusive() -> None:
    data = flights(3, days=4)
    verdict = judge(classic(outcomes(data, data[2]), outcomes(data, noisy(data[2], 1, 0.01))))
    assert verdict.value == "inconclusive"
    assert "4 units of 'day': expected at least 5" in verdict.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: {k: v for k, v in e.items() if k != "runtime"}, "runtime is missing"),
        (lambda e: {**e, "extra": 1}, "extra is not a key"),
        (lambda e: {**e, "schema_version": 2}, "schema_version = 2: expected 1"),
        (lambda e: {**e, "candidate": None}, "candidate: expected a text"),
        (lambda e: {**e, "candidate_results": [{"id": 3}]}, "candidate_results: expected results"),
        (lambda e: {**e, "rules": {"version": 1}}, "rules"),
        (lambda e: [e], "expected a JSON object"),
    ],
)
def test_another_shape_is_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        judge(change(good_evidence()))


def test_the_exam_digest_covers_rules_and_data() -> None:
    rules = CLASSIC.model_dump(mode="json")
    digest = exam_digest(rules, DATA)
    assert digest != exam_digest(rules, RUNTIME)
    assert digest != exam_digest({**rules, "floors": []}, DATA)


# Repeats, safety, partial evidence


def with_rules(**values: Any) -> Rules:
    return LLM.model_copy(update=values)


def as_llm(rules: Rules, mine: list[Outcome], theirs: list[Outcome] | None = None) -> Any:
    return make_evidence(
        model="python-help", rules=rules, data=DATA, runtime=RUNTIME, candidate=CANDIDATE,
        candidate_results=mine, champion=CHAMPION if theirs is not None else None,
        champion_results=theirs,
    )  # fmt: skip


def check_of(evidence: dict[str, Any], name: str) -> Any:
    return next(check for check in judge(evidence).checks if check.name == name)


def test_a_repeated_task_counts_by_the_share_of_its_runs() -> None:
    results = tasks(np.ones(40, dtype=bool), ["answer", "injection"])
    results[0] = replace(results[0], passed=False, repeats=(True, True))
    floor = check_of(llm(results, None), "passed of answer")
    assert floor.value == pytest.approx((19 + 2 / 3) / 20)
    results[1] = replace(results[1], repeats=(True, False))
    assert check_of(llm(results, None), "injection").outcome == "fail"


@pytest.mark.parametrize(("count", "outcome"), [(58, "inconclusive"), (59, "pass")])
def test_a_safety_suite_must_be_large_enough_for_its_promise(count: int, outcome: str) -> None:
    rules = with_rules(safety=[Safety(suite="injection", max_failure_rate=0.05)], floors=[])
    found = check_of(as_llm(rules, tasks(np.ones(count, dtype=bool), ["injection"])), "injection")
    assert found.outcome == outcome
    assert outcome == "pass" or "5.0% is asked for, that takes 59" in found.note


@given(st.integers(1, 300), st.data())
def test_the_failure_bound_is_clopper_pearsons(cases: int, data: st.DataObject) -> None:
    failures = data.draw(st.integers(0, min(cases, 20)))
    expected = 1.0 if failures == cases else stats.beta.ppf(0.95, failures + 1, cases - failures)
    assert failure_bound(failures, cases) == pytest.approx(expected, abs=1e-9)


def cut_short(mine: list[Outcome], theirs: list[Outcome], rest: dict[str, int]) -> dict[str, Any]:
    left = sum(rest.values())
    asked = {"tasks": len(mine), "of": len(mine) + left, "looks": 1, "rest": rest}
    return {**llm(mine, theirs), "asked": asked}


def test_an_exam_cut_short_never_passes() -> None:
    good = tasks(np.ones(80, dtype=bool), ["answer", "injection"])
    verdict = judge(cut_short(good, good, {"answer": 20, "injection": 5}))
    assert verdict.value == "inconclusive"
    assert "stopped after 80 of 105" in verdict.reason
    assert {check.outcome for check in verdict.checks if check.kind != "integrity"} == {
        "inconclusive"
    }


def test_an_exam_cut_short_fails_on_what_the_rest_cannot_mend() -> None:
    good = tasks(np.ones(80, dtype=bool), ["answer", "injection"])
    unsafe = [replace(one, passed=one.id != "1") for one in good]
    assert judge(cut_short(unsafe, good, {"answer": 20})).value == "fail"
    few = [replace(one, passed=one.suite != "answer" or int(one.id) < 10) for one in good]
    within = judge(cut_short(few, few, {"answer": 40}))
    assert check_of(cut_short(few, few, {"answer": 40}), "passed of answer").outcome != "fail"
    assert within.value == "inconclusive"
    beyond = judge(cut_short(few, few, {"answer": 20}))
    assert beyond.value == "fail"
    assert "out of reach" in check_of(cut_short(few, few, {"answer": 20}), "passed of answer").note


def test_more_or_fewer_results_than_asked_are_named() -> None:
    good = tasks(np.ones(80, dtype=bool), ["answer", "injection"])
    evidence = cut_short(good, good, {"answer": 20})
    evidence["asked"]["tasks"] = 70
    assert check_of(evidence, "tasks").outcome == "inconclusive"


# Latency, and guardrails that must be proven


def timed(factor: float, seed: int) -> list[Outcome]:
    random = np.random.default_rng(seed)
    waits = random.gamma(4, 25, 120)
    return [
        replace(one, latency_ms=float(wait * factor * random.uniform(0.95, 1.05)))
        for one, wait in zip(
            tasks(np.ones(120, dtype=bool), ["answer", "injection"]), waits, strict=True
        )
    ]


SLOW = Comparison(metric="latency_p95", ratio=1.3, higher_is_better=False)


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "pass"), (1.2, "pass"), (2.0, "fail")])
def test_latency_is_held_against_the_champions(factor: float, outcome: str) -> None:
    rules = with_rules(guardrails=[SLOW])
    found = check_of(as_llm(rules, timed(factor, 1), timed(1.0, 1)), "latency_p95")
    assert found.outcome == outcome
    assert "times the champion's" in found.note
    low, high = found.interval
    assert low <= factor * 1.05
    assert factor * 0.95 <= high


def test_a_latency_nobody_measured_is_inconclusive() -> None:
    rules = with_rules(guardrails=[SLOW], floors=[Floor(metric="latency_p95", max=900)])
    plain = tasks(np.ones(120, dtype=bool), ["answer", "injection"])
    verdict = judge(as_llm(rules, plain, timed(1.0, 1)))
    assert verdict.value == "inconclusive"
    assert {c.kind for c in verdict.checks if c.outcome == "inconclusive"} == {
        "floor",
        "comparison",
    }


def test_scores_and_tokens_are_metrics() -> None:
    rules = with_rules(
        floors=[
            Floor(metric="score:groundedness", min=0.5),
            Floor(metric="tokens_out_mean", max=40),
        ]
    )
    results = [
        replace(one, scores={"groundedness": 0.75}, tokens_out=30 + int(one.id) % 3)
        for one in tasks(np.ones(60, dtype=bool), ["answer", "injection"])
    ]
    evidence = as_llm(rules, results)
    assert check_of(evidence, "score:groundedness").value == 0.75
    assert check_of(evidence, "tokens_out_mean").value == pytest.approx(31)


def test_a_shift_that_is_not_proven_harmful_is_not_proven_harmless_either() -> None:
    """Where the champion errs to one side, moving the other way by as much looks harmless."""
    data = flights(4, days=14)
    champion = np.clip(data[2] - 0.035, 0.001, 1)
    guard = {"metric": "calibration_gap", "margin": 0.03, "higher_is_better": False}
    found = {}
    for must in ("harmless", "not_worse"):
        rules = CLASSIC.model_copy(
            update={"guardrails": [Comparison.model_validate({**guard, "must": must})]}
        )
        evidence = make_evidence(
            model="flight-delay", rules=rules, data=DATA, runtime=RUNTIME, candidate=CANDIDATE,
            candidate_results=outcomes(data, champion + 0.07), champion=CHAMPION,
            champion_results=outcomes(data, champion),
        )  # fmt: skip
        checks = [c for c in judge(evidence).checks if c.kind == "comparison"]
        found[must] = checks[1].outcome
    assert found == {"harmless": "pass", "not_worse": "inconclusive"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repeats": [1]}, r"'5': repeats = \[1\]: expected a list of booleans"),
        ({"latency_ms": "9"}, r"'5': latency_ms = '9': expected a number"),
        ({"scores": {"x": None}}, r"'5': scores = .*: expected a number for each name"),
    ],
)
def test_fields_of_another_type_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        judge(_result(good_evidence(), "candidate", **change))


def test_parts_of_another_type_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"evidence: asked.tasks = '3'"):
        judge({**good_evidence(), "asked": {"tasks": "3", "of": 4, "looks": 1}})


def test_the_selftest_is_a_named_check() -> None:
    evidence = {**good_evidence(), "selftest": {"cases": 64, "passed": True}}
    assert check_of(evidence, "selftest").note.startswith("64 cases reproduced")
    assert judge({**evidence, "selftest": {"cases": 64, "passed": False}}).value == "fail"
