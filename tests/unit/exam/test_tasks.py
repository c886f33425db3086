"""The other classic tasks through the whole rule: equal models pass, harm and faults are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from proa.exam.evidence import Outcome, make_evidence
from proa.exam.rules import Rules
from proa.exam.verdict import Verdict, judge

SEEDS = 10
Side = list[Outcome]
Make = Callable[[int, float], Side]
"""`(seed, harm)`: one side's results; the rows depend on the seed, harm 0 is a good model."""


def rules(task: str, primary: dict[str, Any], **more: Any) -> Rules:
    value = {
        "version": 1, "kind": "classic", "task": task, "unit": "day", "data": "rows:build",
        "primary": primary, "bootstrap": {"resamples": 300}, **more,
    }  # fmt: skip
    return Rules.model_validate(value)


def judged(asked: Rules, candidate: Side, champion: Side | None) -> Verdict:
    evidence = make_evidence(
        model="m", rules=asked, data="sha256:d", runtime="sha256:r", candidate="sha256:a",
        candidate_results=candidate, champion=None if champion is None else "sha256:b",
        champion_results=champion,
    )  # fmt: skip
    return judge(json.loads(json.dumps(evidence)))


def rows(values: Any, labels: Any, units: Any, **more: Any) -> Side:
    return [
        Outcome(
            id=str(place), unit=str(units[place]), suite="rows", label=label, value=value,
            **{key: found[place] for key, found in more.items()},
        )
        for place, (value, label) in enumerate(zip(values, labels, strict=True))
    ]  # fmt: skip


def multiclass(seed: int, harm: float) -> Side:
    random, names = np.random.default_rng(seed), ["bus", "car", "van"]
    truth = random.integers(0, 3, 900)
    score = random.normal(size=(900, 3)) + 1.5 * np.eye(3)[truth]
    own = np.random.default_rng((seed, 1)).normal(size=(900, 3))
    score = np.where(random.random((900, 1)) < harm, own, score) + 0.02 * own
    p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    decided = [names[k] for k in p.argmax(axis=1)]
    labels = [names[k] for k in truth]
    return rows(p.tolist(), labels, np.arange(900) % 30, decision=decided)


def regression(seed: int, harm: float) -> Side:
    random = np.random.default_rng(seed)
    units = np.arange(900) % 30
    y = random.normal(10, 3, 900) + random.normal(0, 1, 30)[units]
    p = y + random.normal(0, 1 + harm, 900)
    return rows(p.tolist(), y.tolist(), units, lower=(p - 2).tolist(), upper=(p + 2).tolist())


def forecasting(seed: int, harm: float) -> Side:
    random = np.random.default_rng(seed)
    series = np.repeat(np.arange(30), 28)
    size = random.gamma(4, 20, 30)[series]
    y = size * (1 + 0.3 * np.sin(np.arange(840) % 7)) + random.normal(0, 0.1, 840) * size
    p = y + (0.1 + harm) * size * random.normal(size=840)
    naive = y + 0.3 * size * random.normal(size=840)
    return rows(
        p.tolist(), y.tolist(), series, baseline=naive.tolist(), scale=(0.24 * size).tolist()
    )


def ranking(seed: int, harm: float) -> Side:
    random = np.random.default_rng(seed)
    query = np.repeat(np.arange(120), 12)
    y = random.integers(0, 4, 1440) * (random.random(1440) < 0.4).astype(int)
    y[::12] = 2
    p = y + random.normal(0, 1 + 3 * harm, 1440)
    return rows(p.tolist(), y.astype(float).tolist(), query, group=[f"q{k}" for k in query])


def anomaly(seed: int, harm: float) -> Side:
    random = np.random.default_rng(seed)
    y = (random.random(3000) < 0.05).astype(float)
    p = 40 * (random.normal(size=3000) + 3.0 * (1 - harm) * y)
    return rows(p.tolist(), y.tolist(), np.arange(3000) % 30)


CASES: dict[str, tuple[Rules, Make]] = {
    "multiclass": (
        rules(
            "multiclass",
            {"metric": "macro_f1", "margin": 0.03, "higher_is_better": True},
            classes=["bus", "car", "van"],
            floors=[{"metric": "balanced_accuracy", "min": 0.6}, {"metric": "ece", "max": 0.2}],
            guardrails=[{"metric": "roc_auc_ovr", "margin": 0.03, "higher_is_better": True}],
        ),
        multiclass,
    ),
    "regression": (
        rules(
            "regression",
            {"metric": "rmse", "margin": 0.1, "higher_is_better": False},
            floors=[
                {"metric": "r2", "min": 0.5},
                {"metric": "coverage", "min": 0.9},
                {"metric": "coverage", "max": 0.99},
            ],
            guardrails=[{"metric": "pinball@0.9", "margin": 0.1, "higher_is_better": False}],
        ),
        regression,
    ),
    "forecasting": (
        rules(
            "forecasting",
            {"metric": "mase", "margin": 0.08, "higher_is_better": False},
            floors=[{"metric": "relative_mae", "max": 0.9}, {"metric": "bias", "max": 0.1}],
        ),
        forecasting,
    ),
    "ranking": (
        rules(
            "ranking",
            {"metric": "ndcg@10", "margin": 0.05, "higher_is_better": True},
            floors=[{"metric": "mrr", "min": 0.4}, {"metric": "recall@5", "min": 0.3}],
        ),
        ranking,
    ),
    "anomaly": (
        rules(
            "anomaly",
            {"metric": "average_precision", "margin": 0.1, "higher_is_better": True},
            floors=[
                {"metric": "recall_at_fpr@0.05", "min": 0.5},
                {"metric": "precision@50", "min": 0.5},
            ],
        ),
        anomaly,
    ),
}
HARM = {"multiclass": 0.3, "regression": 0.4, "forecasting": 0.1, "ranking": 1.0, "anomaly": 0.3}


@pytest.mark.parametrize("task", CASES)
def test_equal_models_pass_and_harm_is_held_back(task: str) -> None:
    asked, make = CASES[task]
    for seed in range(SEEDS):
        good = make(seed, 0.0)
        nearly = [replace(one, value=_nudged(one.value, seed)) for one in good]
        assert judged(asked, nearly, good).value == "pass"
        assert judged(asked, make(seed, HARM[task]), good).value != "pass"


def _nudged(value: Any, seed: int) -> Any:
    """Another fit of the same model: a difference far below its error."""
    if isinstance(value, list):
        return value
    return value * (1 + 1e-3 * ((hash((seed, round(value, 6))) % 3) - 1))


@pytest.mark.parametrize("task", CASES)
def test_the_first_release_needs_its_floors(task: str) -> None:
    asked, make = CASES[task]
    assert judged(asked, make(1, 0.0), None).value == "pass"
    wrong = [replace(one, value=_reversed(one.value)) for one in make(1, 0.0)]
    if task == "multiclass":
        wrong = [replace(one, decision="bus") for one in wrong]
    assert judged(asked, wrong, None).value == "fail"


def _reversed(value: Any) -> Any:
    return value[::-1] if isinstance(value, list) else -value


def test_a_query_is_in_one_unit() -> None:
    asked, make = CASES["ranking"]
    results = make(1, 0.0)
    cut = [replace(results[0], unit="another"), *results[1:]]
    assert "the query 'q0' is in several units" in judged(asked, cut, None).reason
    lost = [replace(one, group=None) for one in results]
    assert judged(asked, lost, None).value == "inconclusive"


def test_a_metric_whose_facts_are_missing_is_not_defined() -> None:
    asked, make = CASES["forecasting"]
    bare = [replace(one, scale=None, baseline=None) for one in make(1, 0.0)]
    verdict = judged(asked, bare, bare)
    assert verdict.value == "inconclusive"
    assert next(c for c in verdict.checks if c.name == "relative_mae").note == "not defined here"


def test_a_multiclass_answer_of_another_width_is_a_fault() -> None:
    asked, make = CASES["multiclass"]
    narrow = [replace(one, value=[0.5, 0.5]) for one in make(1, 0.0)]
    assert judged(asked, narrow, None).reason.startswith("candidate: values")
