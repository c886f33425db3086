"""The gate's own acceptance in small: real flights, real models, the project's own exam.

`make bench-exam` does the same with 200 seeds and more harms. Nothing is faked but the answers'
way over HTTP: models are asked in this process (`tests/exam_trials.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.exam_trials import (
    LARGE_SLICE,
    Flights,
    Spoil,
    broken_answers,
    broken_slice,
    flights_caught,
    flights_pass,
    one_thread,
    shifted,
    worse_auc,
)

SEEDS = 8


@pytest.fixture(scope="module")
def flights() -> Iterator[Flights]:
    """Three models of the project's own training function, answers to all of March."""
    with one_thread():
        yield Flights.train(3)


def test_equal_models_pass(flights: Flights) -> None:
    assert all(flights_pass(flights, seed) for seed in range(SEEDS))


@pytest.mark.parametrize(
    "spoil",
    [worse_auc, shifted(0.07), broken_slice(LARGE_SLICE, 10**9), broken_answers],
    ids=["auc", "calibration", "slice", "answers"],
)
def test_planted_harm_is_held_back(flights: Flights, spoil: Spoil) -> None:
    assert all(flights_caught(flights, seed, spoil) for seed in range(SEEDS))


def test_the_short_way_judges_as_the_whole_one(flights: Flights) -> None:
    """Trials go straight to the checks; evidence read from its results says the same."""
    random = np.random.default_rng(1)
    candidate, champion = flights.draw(random)
    for answers in (candidate, worse_auc(flights, candidate, random)):
        whole = flights.as_evidence(answers, champion)
        assert whole.value == flights.judged(random, answers, champion, anew=False)
    assert whole.value != "pass"
