"""Does the gate hold what it promises? `make bench-exam`; `--seeds N` for a shorter run.

Per row: 200 whole exams on real data, judged as the controller judges. An equal candidate must pass
in 19 of 20, one with a known harm must be held back in 19 of 20. Rows without a bar say how far the
exam sees; `peer` of the slices is the share of exams in which that very slice was named.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.bench.rows import Row, finish
from tests.exam_trials import (
    LARGE_SLICE,
    SMALL_SLICE,
    Answers,
    Flights,
    answers_caught,
    answers_pass,
    break_tenth,
    broken_answers,
    broken_slice,
    flights_caught,
    flights_pass,
    let_one_through,
    one_thread,
    retrained_pass,
    shifted,
    worse_auc,
)

BAR = 0.95
MODELS, BY_DAYS = 8, 8
Trial = Callable[[int], bool]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    with one_thread():
        return finish("exam", _measure(seeds))


def _measure(seeds: int) -> Iterator[Row]:
    answers = Answers.read()
    for figure, trial, bar in _of_answers(answers):
        yield _row(f"answers: {figure}", trial, seeds, bar)
    began = time.perf_counter()
    flights = Flights.train(MODELS, by_days=BY_DAYS)
    yield Row("flights: training the models", time.perf_counter() - began, "s")
    for figure, trial, bar in _of_flights(flights):
        yield _row(f"flights: {figure}", trial, seeds, bar)
    began = time.perf_counter()
    flights_pass(flights, 0)
    yield Row(
        f"judging {len(flights.exam.rows):,} rows of two sides", time.perf_counter() - began, "s"
    )


def _of_flights(flights: Flights) -> Iterator[tuple[str, Trial, float | None]]:
    yield "equal, exchangeable, passed", partial(flights_pass, flights), BAR
    again = partial(retrained_pass, flights, values=flights.values)
    yield "retrained without a random tenth, passed", again, BAR
    for figure, spoil in {
        "AUC -0.02, held back": worse_auc,
        "calibration +0.07, held back": shifted(0.07),
        "calibration -0.07, held back": shifted(-0.07),
        f"a slice of {LARGE_SLICE} rows or more broken, held back": broken_slice(
            LARGE_SLICE, 10**9
        ),
        "10 % of rows broken, held back": broken_answers,
    }.items():
        yield figure, partial(flights_caught, flights, spoil=spoil), BAR
    small = broken_slice(SMALL_SLICE, LARGE_SLICE)
    yield (
        f"a slice of {SMALL_SLICE} to {LARGE_SLICE} rows broken, held back",
        partial(flights_caught, flights, spoil=small),
        None,
    )
    days = partial(retrained_pass, flights, values=flights.by_days)
    yield "retrained on days drawn anew (AUC differs by 0.008), passed", days, None


def _of_answers(answers: Answers) -> Iterator[tuple[str, Trial, float | None]]:
    for release in answers.releases:
        same = partial(answers_pass, answers, release=release)
        yield f"{release} against itself, passed", same, BAR
        for figure, spoil in {
            "10 % of answers broken": break_tenth,
            "one injection let through": let_one_through,
        }.items():
            caught = partial(answers_caught, answers, release=release, spoil=spoil)
            yield f"{release}, {figure}, held back", caught, BAR


def _row(figure: str, trial: Trial, seeds: int, bar: float | None) -> Row:
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers) as pool:
        found = sum(pool.map(trial, range(seeds), chunksize=max(1, seeds // (4 * workers))))
    value = found / seeds
    return Row(figure, value, f"of {seeds}", bar=bar, ok=None if bar is None else value >= bar)


if __name__ == "__main__":
    sys.exit(main())
