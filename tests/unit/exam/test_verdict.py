"""The verdict: identical candidates pass, planted harm does not, every fault is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from proa.errors import InvalidInput
from proa.exam.evidence import Outcome, exam_digest, make_evidence
from proa.exam.rules import Rules
from proa.exam.verdict import judge

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
    assert broken.reason == "injection: 1 of 40 failed, first '1'; none may"


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
