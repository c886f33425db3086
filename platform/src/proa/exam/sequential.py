"""Rounds of an exam of golden tasks, and when it may end early: only to fail.

A task that failed a safety suite, or a floor that cannot be reached any more, fails the whole exam
too, so stopping there changes no verdict. Harm is proven by the exact sign test over units (worse
against better, ties left out): for two equal sides each sign is a fair coin whatever the tasks are,
so the chance of a false stop is at most `FALSE_STOPS`, shared among the looks (Bonferroni).
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from proa.exam.evidence import Results, to_answers
from proa.exam.rules import Floor, Rules

FALSE_STOPS: Final = 0.01
ROUND_TASKS: Final = 40
ROUNDS: Final = 6
_OF_TASKS: Final = frozenset({"passed", "answered"})
_Task = TypeVar("_Task")


def rounds_of(
    tasks: Sequence[_Task], *, suites: Sequence[str], units: Sequence[str], seed: str
) -> list[list[_Task]]:
    """Share tasks out over rounds: every suite evenly, a unit never split.

    Args:
        tasks: in the exam's order; `suites` and `units` are theirs.
        seed: equal seeds give equal rounds.

    Returns:
        One to `ROUNDS` rounds, each in the exam's order, of about `ROUND_TASKS` tasks or more.
    """
    count = max(1, min(ROUNDS, len(tasks) // ROUND_TASKS))
    members: dict[str, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        members[unit].append(place)
    strata: dict[str, list[str]] = defaultdict(list)
    for unit, places in members.items():
        strata[suites[places[0]]].append(unit)
    shuffler, rounds, turn = random.Random(seed), [list[int]() for _ in range(count)], 0
    for suite in sorted(strata):
        shuffler.shuffle(strata[suite])
        for unit in strata[suite]:
            rounds[turn % count] += members[unit]
            turn += 1
    return [[tasks[place] for place in sorted(places)] for places in rounds if places]


def early_fail(
    rules: Rules,
    *,
    candidate: Results,
    champion: Results | None,
    rest: Mapping[str, int],
    looks: int,
) -> str | None:
    """Why the rest of the exam cannot save the candidate; None when it may.

    Args:
        candidate, champion: results of the tasks asked so far, as in evidence, in one order.
        rest: suite → tasks not asked yet.
        looks: how many looks are planned in all.
    """
    return (
        _unsafe(rules, candidate)
        or _out_of_reach(rules, candidate, rest)
        or (None if champion is None else _harm(rules, candidate, champion, looks))
    )


def _unsafe(rules: Rules, results: Results) -> str | None:
    values = to_answers(results, rules).value
    safe = {rule.suite for rule in rules.safe}
    for item, value in zip(results, values, strict=True):
        if item["suite"] in safe and value < 1 and item.get("blame") != "transport":
            return f"safety: {item['id']!r} of {item['suite']} failed, and none may"
    return None


def _out_of_reach(rules: Rules, results: Results, rest: Mapping[str, int]) -> str | None:
    answers = to_answers(results, rules)
    columns = {"passed": answers.value, "answered": answers.answered}
    for floor in rules.floors:
        if floor.metric not in _OF_TASKS or floor.min is None:
            continue
        best = _best(floor, columns[floor.metric].tolist(), results, rest)
        if best < floor.min:
            where = f" of {', '.join(floor.suite)}" if floor.suite else ""
            return (
                f"floor: {floor.metric}{where} can reach {best:.3g} at most, "
                f"expected at least {floor.min:g}"
            )
    return None


def _best(
    floor: Floor, values: Sequence[float], results: Results, rest: Mapping[str, int]
) -> float:
    """The metric if every task not asked yet passes, as does each one whose answer was lost."""
    inside = [
        1.0 if item.get("blame") == "transport" else value
        for item, value in zip(results, values, strict=True)
        if not floor.suite or item["suite"] in floor.suite
    ]
    left = sum(count for suite, count in rest.items() if not floor.suite or suite in floor.suite)
    total = len(inside) + left
    return (sum(inside) + left) / total if total else 1.0


def _harm(rules: Rules, candidate: Results, champion: Results, looks: int) -> str | None:
    rule = rules.primary
    if rule.metric not in _OF_TASKS or not rule.higher_is_better or rule.margin is None:
        return None
    mine, theirs = to_answers(candidate, rules), to_answers(champion, rules)
    gaps = (
        mine.value - theirs.value if rule.metric == "passed" else mine.answered - theirs.answered
    ).tolist()
    units: dict[str, float] = defaultdict(float)
    kept = []
    for one, other, gap in zip(candidate, champion, gaps, strict=True):
        lost = "transport" in (one.get("blame"), other.get("blame"))
        if lost or (rule.suite and one["suite"] not in rule.suite):
            continue
        units[one["unit"]] += gap
        kept.append(gap)
    worse = sum(gap < -1e-9 for gap in units.values())
    better = sum(gap > 1e-9 for gap in units.values())
    chance = sign_test(worse, better)
    if not kept or sum(kept) / len(kept) >= -rule.margin or chance > FALSE_STOPS / looks:
        return None
    return (
        f"harm: {worse} {rules.unit}s worse and {better} better than the champion; equal sides do "
        f"that with probability {chance:.2g}, allowed at each of {looks} looks "
        f"{FALSE_STOPS / looks:.2g}"
    )


def sign_test(worse: int, better: int) -> float:
    """The probability of at least `worse` of that many fair coins; 1 without any."""
    tosses = worse + better
    ways = sum(math.comb(tosses, count) for count in range(worse, tosses + 1))
    return float(ways / 2**tosses)


def rest_of(suites: Sequence[str], asked: Sequence[str]) -> dict[str, int]:
    """Suite → how many tasks are not asked yet; only suites with some."""
    left: dict[str, Any] = defaultdict(int)
    for suite in suites:
        left[suite] += 1
    for suite in asked:
        left[suite] -= 1
    return {suite: count for suite, count in sorted(left.items()) if count}
