"""What must hold before results mean anything; each fault is named and none is a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from proa.exam.evidence import ROWS, exam_digest, to_answers
from proa.exam.rules import Rules

Value = Literal["pass", "fail", "inconclusive"]
Kind = Literal["floor", "comparison", "safety", "slice", "integrity"]
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Check:
    """One question with its answer. `interval` is that of candidate − champion."""

    name: str
    kind: Kind
    outcome: Value
    value: float | None = None
    bound: float | None = None
    champion: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        interval = None if self.interval is None else list(self.interval)
        return {**asdict(self), "interval": interval}


def integrity_checks(evidence: Mapping[str, Any], rules: Rules) -> list[Check]:
    """Every fault of the evidence, or one passing check that says what was looked at."""
    found: list[Check] = []

    def report(name: str, outcome: Value, note: str) -> None:
        found.append(Check(name, "integrity", outcome, note=note))

    if exam_digest(evidence["rules"], evidence["data"]) != evidence["exam"]:
        report("exam digest", "fail", "the rules and data do not have the digest of the exam")
    if evidence["candidate"] == evidence["champion"]:
        report("identical", "inconclusive", "the candidate is the champion: nothing to decide")
    if (evidence["champion"] is None) != (evidence["champion_results"] is None):
        report("champion", "inconclusive", "a champion without results, or results without one")
    candidate: Results = evidence["candidate_results"]
    if not candidate:
        report("no data", "inconclusive", "the candidate answered nothing: the exam is empty")
        return found
    _check_side("candidate", candidate, rules, report)
    _check_suites(candidate, rules, report)
    champion: Results | None = evidence["champion_results"]
    if champion is not None:
        _check_side("champion", champion, rules, report)
        _check_paired(candidate, champion, report)
    if not found:
        sides = 1 if champion is None else 2
        report("integrity", "pass", f"{len(candidate)} results of {sides} side(s), all there")
    return found


Report = Callable[[str, Value, str], None]


def _check_side(side: str, results: Results, rules: Rules, report: Report) -> None:
    twice = [key for key, count in Counter(item["id"] for item in results).items() if count > 1]
    if twice:
        report(f"{side}: doubled", "inconclusive", f"{len(twice)} ids twice, first {twice[0]!r}")
    lost = [item for item in results if item.get("error") and item.get("blame") != "model"]
    if lost:
        report(
            f"{side}: missing answers",
            "inconclusive",
            f"{len(lost)} of {len(results)} without an answer, first {lost[0]['id']!r}: "
            f"{lost[0]['error']}",
        )
    broken = [item for item in results if item.get("error") and item.get("blame") == "model"]
    if broken and rules.kind == "classic":
        report(
            f"{side}: errors",
            "fail" if side == "candidate" else "inconclusive",
            f"{len(broken)} of {len(results)} rows refused, first {broken[0]['id']!r}: "
            f"{broken[0]['error']}",
        )
    answered = [item for item in results if not item.get("error")]
    if rules.kind == "classic" and answered:
        _check_numbers(side, answered, rules, report)


def _check_numbers(side: str, results: Results, rules: Rules, report: Report) -> None:
    answers = to_answers(results, rules)
    for name, bad, outcome in (
        ("labels", ~np.isfinite(answers.label), "inconclusive"),
        (
            "values",
            ~np.isfinite(answers.value.reshape(len(results), -1)).all(axis=1),
            "fail" if side == "candidate" else "inconclusive",
        ),
    ):
        if bad.any():
            first = results[int(np.flatnonzero(bad)[0])]["id"]
            verdict: Value = "fail" if outcome == "fail" else "inconclusive"
            report(
                f"{side}: {name}",
                verdict,
                f"{int(bad.sum())} of {len(results)} {name} are no finite number, first {first!r}",
            )


def _check_suites(results: Results, rules: Rules, report: Report) -> None:
    present = {item["suite"] for item in results}
    named = {suite for rule in rules.measured for suite in rule.suite}
    for suite in sorted((named | set(rules.safety)) - present):
        report("empty suite", "inconclusive", f"the suite {suite!r} has no results")
    if rules.kind == "classic" and present - {ROWS}:
        report("suites", "inconclusive", f"expected the suite {ROWS!r}, got {sorted(present)}")


def _check_paired(candidate: Results, champion: Results, report: Report) -> None:
    mine = {item["id"]: (item["unit"], item["suite"], item.get("label")) for item in candidate}
    theirs = {item["id"]: (item["unit"], item["suite"], item.get("label")) for item in champion}
    if mine != theirs:
        apart = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        report(
            "paired",
            "inconclusive",
            f"the two sides did not sit the same exam: {len(apart)} ids differ, first {apart[0]!r}",
        )
