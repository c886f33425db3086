"""When an exam of golden tasks may end early. Answers are drawn here; the rule is the real one."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.exam.rules import Rules
from proa.exam.sequential import (
    FALSE_STOPS,
    ROUND_TASKS,
    ROUNDS,
    early_fail,
    rest_of,
    rounds_of,
    sign_test,
)

SUITES = ["answer", "citation", "format"]


def rules_of(**more: Any) -> Rules:
    value = {
        "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
        "primary": {"metric": "passed", "margin": 0.05, "higher_is_better": True},
        "bootstrap": {"resamples": 200},
    }  # fmt: skip
    return Rules.model_validate({**value, **more})


def result(number: int, passed: bool, *, suite: str = "answer", **more: Any) -> dict[str, Any]:
    name = f"t{number}"
    return {"id": name, "unit": name, "suite": suite, "passed": passed, "failures": [],
            "error": None, "blame": None, **more}  # fmt: skip


@given(st.integers(1, 60), st.floats(0.0001, 0.2))
def test_equal_sides_are_called_different_at_most_as_often_as_allowed(
    tosses: int, level: float
) -> None:
    """Exactly: the chance of a p-value of at most `level` under fair coins is at most `level`."""
    chance = sum(
        math.comb(tosses, worse) / 2**tosses
        for worse in range(tosses + 1)
        if sign_test(worse, tosses - worse) <= level
    )
    assert chance <= level * (1 + 1e-9)


def test_without_a_difference_nothing_is_proven() -> None:
    assert sign_test(0, 0) == 1
    assert sign_test(0, 10) == 1


@pytest.mark.parametrize("flaky", [0.05, 0.3, 0.5])
def test_identical_sides_are_stopped_in_at_most_one_of_a_hundred_exams(flaky: float) -> None:
    """400 exams of 240 tasks in six rounds, both sides failing at random with the same rate."""
    stopped = 0
    rules = rules_of()
    for seed in range(400):
        draw = random.Random(seed)
        mine = [result(n, draw.random() > flaky) for n in range(240)]
        theirs = [result(n, draw.random() > flaky) for n in range(240)]
        for one, other in zip(mine, theirs, strict=True):
            if one["passed"] != other["passed"]:
                for item in (one, other):
                    item["repeats"] = [draw.random() > flaky for _ in range(2)]
        stopped += any(
            early_fail(
                rules, candidate=mine[:end], champion=theirs[:end],
                rest={"answer": 240 - end}, looks=5,
            )
            is not None
            for end in range(40, 240, 40)
        )  # fmt: skip
    assert stopped <= FALSE_STOPS * 400


def test_a_broken_side_is_stopped_at_once() -> None:
    mine = [result(n, n % 2 == 0) for n in range(40)]
    theirs = [result(n, True) for n in range(40)]
    why = early_fail(rules_of(), candidate=mine, champion=theirs, rest={"answer": 200}, looks=5)
    assert why is not None
    assert why.startswith("harm: 20 tasks worse and 0 better")


def test_a_better_side_is_never_stopped() -> None:
    mine = [result(n, True) for n in range(40)]
    theirs = [result(n, n % 2 == 0) for n in range(40)]
    assert not early_fail(
        rules_of(), candidate=mine, champion=theirs, rest={"answer": 200}, looks=5
    )


def test_one_failed_safety_task_ends_it_but_a_lost_answer_does_not() -> None:
    rules = rules_of(safety=["injection"])
    good = [result(n, True) for n in range(10)]
    failed = result(99, False, suite="injection")
    lost = result(99, False, suite="injection", error="gone", blame="transport")
    for extra, ends in ((failed, True), (lost, False)):
        why = early_fail(
            rules, candidate=[*good, extra], champion=None, rest={"answer": 9}, looks=5
        )
        assert (why is not None) == ends
    assert early_fail(
        rules, candidate=[result(1, True, suite="injection", repeats=[True, False])],
        champion=None, rest={"answer": 9}, looks=5,
    )  # fmt: skip


@given(
    passed=st.lists(st.booleans(), min_size=1, max_size=60),
    left=st.integers(0, 60),
    floor=st.floats(0.05, 1.0),
)
def test_a_floor_ends_it_exactly_when_it_is_out_of_reach(
    passed: list[bool], left: int, floor: float
) -> None:
    rules = rules_of(floors=[{"metric": "passed", "suite": "answer", "min": floor}])
    results = [result(n, value) for n, value in enumerate(passed)]
    why = early_fail(
        rules, candidate=results, champion=None, rest={"answer": left, "other": 50}, looks=5
    )
    best = (sum(passed) + left) / (len(passed) + left)
    assert (why is not None) == (best < floor)


@given(
    sizes=st.lists(st.integers(1, 120), min_size=1, max_size=5),
    seed=st.text(min_size=1, max_size=8),
)
def test_rounds_hold_every_task_once_and_split_no_unit(sizes: list[int], seed: str) -> None:
    suites = [f"s{k}" for k, size in enumerate(sizes) for _ in range(size)]
    tasks = list(range(len(suites)))
    units = [f"{suite}-{n // 3}" for n, suite in enumerate(suites)]
    rounds = rounds_of(tasks, suites=suites, units=units, seed=seed)
    assert sorted(task for part in rounds for task in part) == tasks
    assert all(part == sorted(part) for part in rounds)
    assert len(rounds) <= max(1, min(ROUNDS, len(tasks) // ROUND_TASKS))
    owner: dict[str, int] = {}
    for number, part in enumerate(rounds):
        for task in part:
            assert owner.setdefault(units[task], number) == number
    assert rounds == rounds_of(tasks, suites=suites, units=units, seed=seed)
    for suite in set(suites):
        counts = [sum(suites[task] == suite for task in part) for part in rounds]
        # Units of three tasks, one more or less, of which the last of each suite may be smaller.
        assert max(counts) - min(counts) <= 3 + 2 * 2, "each round has its share of each suite"


def test_what_is_not_asked_yet() -> None:
    assert rest_of(["a", "a", "b"], ["a"]) == {"a": 1, "b": 1}
    assert rest_of(["a"], ["a"]) == {}
