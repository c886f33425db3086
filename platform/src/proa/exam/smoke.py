"""A smoke exam: a small, seeded, stratified sample of an exam, for a release judged elsewhere.

It shows that the release answers here as it did there (its features, its engine, its runtime), not
that it is good: that was judged on the whole exam.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from proa.exam.exam import Exam, GoldenTask, Row
from proa.release.canonical import digest_json

TASKS = 60
ROWS = 500
_T = TypeVar("_T", GoldenTask, Row)


def smoke_exam(exam: Exam, *, seed: int = 0) -> Exam:
    """At most 60 tasks, by suite, or 500 rows, by unit; an exam smaller than that is itself.

    Every suite keeps at least one task and every unit one row, and a task that says another in
    other words brings that one along. Equal exams and seeds give equal samples.
    """
    rows = _sample(exam.rows, ROWS, seed, by=lambda row: row.unit)
    tasks = _with_originals(
        exam.tasks, _sample(exam.tasks, TASKS, seed, by=lambda task: task.suite)
    )
    if len(rows) == len(exam.rows) and len(tasks) == len(exam.tasks):
        return exam
    ids = [row.id for row in rows] + [task.id for task in tasks]
    data = digest_json({"sample_of": exam.digest, "ids": ids})
    return replace(exam, data=data, rows=rows, tasks=tasks)


def _sample(
    items: Sequence[_T], most: int, seed: int, *, by: Callable[[_T], str]
) -> tuple[_T, ...]:
    """At most `most` items (or one of each stratum), in their own order."""
    if len(items) <= most:
        return tuple(items)
    strata: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        strata[by(item)].append(number)
    chooser, chosen, rest = random.Random(seed), set[int](), list[int]()
    for name in sorted(strata):
        members = chooser.sample(strata[name], len(strata[name]))
        share = max(1, most * len(members) // len(items))
        chosen.update(members[:share])
        rest += members[share:]
    missing = max(0, most - len(chosen))
    chosen.update(chooser.sample(rest, min(missing, len(rest))))
    return tuple(items[number] for number in sorted(chosen))


def _with_originals(
    tasks: Sequence[GoldenTask], sample: Sequence[GoldenTask]
) -> tuple[GoldenTask, ...]:
    wanted = {task.id for task in sample} | {task.paraphrase_of for task in sample}
    return tuple(task for task in tasks if task.id in wanted)
