"""What an exam costs, said before it is spent. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from proa.errors import Refused
from proa.exam.cost import Cost, Tokens, estimate_rows, estimate_tasks, tokens_of
from proa.exam.exam import Exam, Row
from proa.exam.rules import Rules
from tests.unit.exam.test_holding import exam_of

BEFORE = {
    "champion_results": [{}],
    "candidate_results": [
        {"tokens_in": 300, "tokens_out": 50, "latency_ms": 1000.0, "repeats": [True, True]},
        {"tokens_in": 100, "tokens_out": 30, "latency_ms": 3000.0},
        {"tokens_in": None, "tokens_out": None},
        {},
    ],
}


def estimate(**more: Any) -> Cost:
    settings: dict[str, Any] = {
        "tokens": Tokens(200, 40, "as in the last exam"), "prices": [(1e-6, 2e-6), (3e-6, 4e-6)],
        "sides": 2, "kept": 0, "currency": "USD", "before": BEFORE, **more,
    }  # fmt: skip
    return estimate_tasks(exam_of(100), **settings)


def test_tokens_are_those_of_the_last_exam_else_the_releases_limits() -> None:
    assert tokens_of(BEFORE, most=(9, 9)) == Tokens(200, 40, "as in the last exam")
    longer = {**BEFORE, "champion_results": [{"tokens_in": 800, "tokens_out": 60}]}
    assert tokens_of(longer, most=(9, 9)) == Tokens(800, 60, "as in the last exam")
    assert tokens_of(None, most=(900, 80)) == Tokens(900, 80, "at most, by the release's limits")


def test_both_sides_and_repeats_are_counted() -> None:
    cost = estimate()
    # A quarter of the tasks was asked twice more: 100 · 1.5 · 2 sides.
    assert cost.questions == 300
    assert (cost.tokens_in, cost.tokens_out) == (60_000, 12_000)
    assert cost.money == pytest.approx(300 * (200 * 2e-6 + 40 * 3e-6))
    assert cost.seconds == pytest.approx(300 * 2.0 / 16)
    assert str(cost) == (
        "300 questions, about 60,000 tokens in and 12,000 out, about 0.1560 USD, about 38 s "
        "(as in the last exam)"
    )


def test_answers_that_are_there_cost_nothing_again() -> None:
    assert estimate(kept=150).money == pytest.approx((estimate().money or 0) / 2)
    assert estimate(kept=1000).money == 0


def test_a_budget_refuses_with_the_figure() -> None:
    estimate().check(0.16)
    with pytest.raises(
        Refused, match=r"would cost about 0\.1560 USD, the budget is 0\.15"
    ) as error:
        estimate().check(0.15)
    assert error.value.code == "BudgetExceeded"
    with pytest.raises(Refused, match="no price is known: 300 questions, about 60,000 tokens"):
        estimate(prices=None).check(100)


def test_rows_cost_by_call() -> None:
    rules = Rules.model_validate(
        {
            "version": 1, "kind": "classic", "task": "binary", "unit": "day", "data": "rows:build",
            "primary": {"metric": "roc_auc", "margin": 0.01, "higher_is_better": True},
        }
    )  # fmt: skip
    rows = tuple(Row(f"r{n}", "d", 1.0, {"x": n}) for n in range(600))
    cost = estimate_rows(
        Exam(rules, "d", rows=rows), sides=2, kept=0, micro_per_call=20, currency="USD"
    )
    assert cost.questions == 2 * (3 + 100)
    assert cost.money == pytest.approx(206 * 20e-6)
