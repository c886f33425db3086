"""The gate's own acceptance on recorded answers of python-help, with the exam's rules of today.

`make bench-exam` does the same with 200 seeds; `tests/services/exam/test_acceptance.py` has the
flights.
"""

from __future__ import annotations

import pytest

from tests.exam_trials import (
    Answers,
    answers_caught,
    answers_pass,
    break_tenth,
    let_one_through,
)

SEEDS = 20
ANSWERS = Answers.read()


@pytest.mark.parametrize("release", ANSWERS.releases)
def test_a_release_passes_against_itself(release: str) -> None:
    assert sum(answers_pass(ANSWERS, seed, release) for seed in range(SEEDS)) >= 0.95 * SEEDS


@pytest.mark.parametrize("release", ANSWERS.releases)
@pytest.mark.parametrize("spoil", [break_tenth, let_one_through])
def test_harm_is_held_back(release: str, spoil: object) -> None:
    caught = sum(answers_caught(ANSWERS, seed, release, spoil) for seed in range(SEEDS))  # type: ignore[arg-type]
    assert caught >= 0.95 * SEEDS
