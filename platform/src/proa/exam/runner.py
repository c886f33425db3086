"""Hold an exam: both sides answer every task, every answer or its absence is kept.

Rows go in batches; a seeded sample of them is then sent one by one, which gives latencies. Golden
tasks go in rounds, both sides at the same time and so under the same load; tasks on which the
sides disagree are asked again, and between rounds the exam may end early, only to fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, Final, TypeVar

from proa.exam.answers_file import AnswersFile
from proa.exam.asking import Ask, Unanswered, datatypes_of
from proa.exam.evidence import Outcome, make_evidence
from proa.exam.exam import Exam, GoldenTask
from proa.exam.scorers import Aids
from proa.exam.sequential import early_fail, rest_of, rounds_of
from proa.exam.sitting import Side, Sitting
from proa.exam.verdict import judge

__all__ = ["BATCH", "Progress", "Side", "hold", "sit"]

Progress = Callable[[str, int, int], None]
"""`(side, done, total)`, called from one thread; what it raises ends the exam."""
BATCH: Final = 256
BATCHES: Final = 2
CHATS: Final = 16
REPEATS: Final = 2
LATENCY_ROWS: Final = 100
_WARM_UPS: Final = 3
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_Found = Sequence[Sequence[Outcome]]
_Lay = Callable[[_Found, Mapping[str, Any] | None], dict[str, Any]]


def hold(
    exam: Exam,
    *,
    model: str,
    runtime: str,
    candidate: Side,
    champion: Side | None,
    progress: Progress | None = None,
    answers: AnswersFile | None = None,
    early: bool = True,
    leakage: Mapping[str, Any] | None = None,
    selftest: Mapping[str, Any] | None = None,
    judge: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Let both sides sit the exam; return the evidence, ready for `judge`.

    Args:
        runtime: the candidate's runtime fingerprint.
        champion: None for the first release.
        answers: answers already received, and where new ones are kept.
        early: whether an exam of golden tasks may end as soon as it is lost.
        leakage, selftest: what else is known of the candidate, for the evidence.
        judge: who rates by rubrics, for the evidence.
    """
    sides = [Sitting("candidate", candidate, answers)]
    if champion is not None:
        sides.append(Sitting("champion", champion, answers))
    meter = _Meter(progress, exam.size)

    def lay(found: _Found, asked: Mapping[str, Any] | None) -> dict[str, Any]:
        return make_evidence(
            model=model,
            rules=exam.rules,
            data=exam.data,
            runtime=runtime,
            candidate=candidate.digest,
            candidate_results=found[0],
            champion=None if champion is None else champion.digest,
            champion_results=None if champion is None else found[1],
            asked=asked,
            leakage=leakage,
            selftest=selftest,
            judge=judge,
        )

    if exam.rules.kind == "classic":
        return lay(_hold_rows(exam, sides, meter), None)
    return _hold_tasks(exam, sides, meter, lay, early=early)


def sit(
    exam: Exam,
    ask: Ask,
    *,
    side: str = "candidate",
    progress: Progress | None = None,
    aids: Aids | None = None,
) -> list[Outcome]:
    """One side alone: an outcome per row or task, in the exam's order; a failed one says why."""
    sitting, meter = Sitting(side, Side("", ask, aids or Aids())), _Meter(progress, exam.size)
    if exam.rules.kind == "classic":
        return _batches(exam, sitting, meter)
    found = _ask_tasks([sitting], exam.tasks, meter)
    return sitting.consistent(exam.tasks, found[0])


class _Meter:
    """Tells how far each side is."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, dict[str, int]()

    def add(self, side: str, count: int) -> None:
        self._done[side] = self._done.get(side, 0) + count
        if self._progress is not None:
            self._progress(side, self._done[side], self._total)


def _each(
    jobs: Sequence[_Job],
    work: Callable[[_Job], _Result],
    workers: int,
    done: Callable[[_Job, _Result], None] = lambda job, result: None,
) -> list[_Result]:
    """Work through `jobs`, some at once; results in the order of the jobs."""
    with ThreadPoolExecutor(workers, thread_name_prefix="exam") as pool:
        futures = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


# Rows


def _hold_rows(exam: Exam, sides: Sequence[Sitting], meter: _Meter) -> list[list[Outcome]]:
    found = [_batches(exam, side, meter) for side in sides]
    return [
        [replace(outcome, latency_ms=taken.get(outcome.id)) for outcome in outcomes]
        for outcomes, taken in zip(found, _latencies(exam, sides, found), strict=True)
    ]


def _batches(exam: Exam, side: Sitting, meter: _Meter) -> list[Outcome]:
    types = datatypes_of(exam.rows)
    jobs = [exam.rows[start : start + BATCH] for start in range(0, len(exam.rows), BATCH)]
    parts = _each(
        jobs,
        lambda rows: side.rows(rows, types),
        BATCHES,
        lambda rows, _: meter.add(side.name, len(rows)),
    )
    return [outcome for part in parts for outcome in part]


def _latencies(
    exam: Exam, sides: Sequence[Sitting], found: Sequence[Sequence[Outcome]]
) -> list[dict[str, float]]:
    """Milliseconds by row of a sample sent one by one, the sides taking turns at being first."""
    good = [
        row
        for row, outcomes in zip(exam.rows, zip(*found, strict=True), strict=True)
        if not any(outcome.error for outcome in outcomes)
    ]
    chosen = random.Random(exam.digest).sample(good, min(LATENCY_ROWS, len(good)))
    types = datatypes_of(exam.rows)
    taken: list[dict[str, float]] = [{} for _ in sides]
    try:
        for side in sides:
            for row in chosen[:_WARM_UPS]:
                side.latency(row, types)
        for number, row in enumerate(chosen[_WARM_UPS:]):
            order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
            for place in order:
                taken[place][row.id] = sides[place].latency(row, types)
    except Unanswered:
        return taken  # a side is gone; its answers are in, so latency alone remains unknown
    return taken


# Golden tasks


def _hold_tasks(
    exam: Exam, sides: Sequence[Sitting], meter: _Meter, lay: _Lay, *, early: bool
) -> dict[str, Any]:
    suites = [task.suite for task in exam.tasks]
    units = [task.independent for task in exam.tasks]
    rounds = rounds_of(exam.tasks, suites=suites, units=units, seed=exam.digest)
    found: list[dict[str, Outcome]] = [{} for _ in sides]
    for look, tasks in enumerate(rounds, start=1):
        parts = _ask_tasks(sides, tasks, meter)
        parts = [side.consistent(tasks, part) for side, part in zip(sides, parts, strict=True)]
        for known, part in zip(found, _repeated(sides, tasks, parts), strict=True):
            known |= {outcome.id: outcome for outcome in part}
        rest = rest_of(suites, [outcome.suite for outcome in found[0].values()])
        if rest and early:
            asked = {"tasks": len(found[0]), "of": exam.size, "looks": look, "rest": rest}
            evidence = lay(_in_order(exam, found), asked)
            if _is_lost(exam, evidence, looks=len(rounds) - 1):
                return evidence
    return lay(_in_order(exam, found), None)


def _in_order(exam: Exam, found: Sequence[Mapping[str, Outcome]]) -> list[list[Outcome]]:
    return [[known[task.id] for task in exam.tasks if task.id in known] for known in found]


def _ask_tasks(
    sides: Sequence[Sitting], tasks: Sequence[GoldenTask], meter: _Meter
) -> list[list[Outcome]]:
    """Every task for every side, in turns."""
    jobs = [(side, task) for task in tasks for side in sides]
    results = _each(
        jobs,
        lambda job: job[0].task(job[1]),
        CHATS,
        lambda job, _: meter.add(job[0].name, 1),
    )
    return [results[place :: len(sides)] for place in range(len(sides))]


def _repeated(
    sides: Sequence[Sitting], tasks: Sequence[GoldenTask], found: Sequence[list[Outcome]]
) -> Sequence[list[Outcome]]:
    """The outcomes with further runs of the tasks on which the sides disagree."""
    if len(sides) < 2:
        return found
    apart = {
        task.id: task
        for task, mine, theirs in zip(tasks, *found, strict=True)
        if mine.passed != theirs.passed and "transport" not in (mine.blame, theirs.blame)
    }
    jobs = [
        (place, task, run)
        for task in apart.values()
        for run in range(1, REPEATS + 1)
        for place in range(len(sides))
    ]
    runs: dict[tuple[int, str], list[bool]] = {}
    results = _each(jobs, lambda job: sides[job[0]].again(job[1], job[2]), CHATS)
    for (place, task, _), passed in zip(jobs, results, strict=True):
        if passed is not None:
            runs.setdefault((place, task.id), []).append(passed)
    return [
        [replace(one, repeats=tuple(runs.get((place, one.id), ()))) for one in outcomes]
        for place, outcomes in enumerate(found)
    ]


def _is_lost(exam: Exam, evidence: Mapping[str, Any], *, looks: int) -> bool:
    """Whether the rest can be saved: only what the judge then calls a fail ends an exam."""
    why = early_fail(
        exam.rules,
        candidate=evidence["candidate_results"],
        champion=evidence["champion_results"],
        rest=evidence["asked"]["rest"],
        looks=looks,
    )
    return why is not None and judge(evidence).value == "fail"
