"""What must hold before results mean anything; each fault is named and none is a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from proa.exam.evidence import ROWS, Results, exam_digest, to_answers
from proa.exam.rules import Rules
from proa.exam.sequential import early_fail

Value = Literal["pass", "fail", "inconclusive"]
Kind = Literal["floor", "comparison", "safety", "slice", "integrity"]


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
    _check_suites(candidate, rules, report, partial=is_partial(evidence))
    if rules.task == "ranking":
        _check_queries(candidate, report)
    champion: Results | None = evidence["champion_results"]
    if champion is not None:
        _check_side("champion", champion, rules, report)
        _check_paired(candidate, champion, report)
    _check_selftest(evidence, report)
    _check_leakage(evidence, report)
    _check_judge(evidence, rules, report)
    sound = all(check.outcome == "pass" for check in found)
    _check_asked(evidence, rules, report, sound=sound)
    if all(check.outcome == "pass" for check in found):
        sides = 1 if champion is None else 2
        note = f"{len(candidate)} results of {sides} side(s), all there"
        found.insert(0, Check("integrity", "integrity", "pass", note=note))
    return found


def _check_selftest(evidence: Mapping[str, Any], report: Report) -> None:
    """The process that sat the exam proved itself before it was Ready; say so."""
    found = evidence.get("selftest")
    if found is None:
        return
    if found["passed"]:
        report("selftest", "pass", f"{found['cases']} cases reproduced by the candidate's process")
    else:
        report("selftest", "fail", "the candidate's process does not reproduce its own answers")


def _check_leakage(evidence: Mapping[str, Any], report: Report) -> None:
    """What the candidate was made from may not hold what it is examined on."""
    found = evidence.get("leakage")
    if found is None:
        report("leakage", "pass", "not checked: the evidence does not say what was trained on")
        return
    shown = ", ".join(map(repr, found["ids"][:3]))
    count = max(found.get("leaked", 0), len(found["ids"]))
    if count:
        report(
            "leakage: ids",
            "fail",
            f"{count} of {found['rows']} were in the candidate's making, first {shown}",
        )
    if found["times"]:
        until = found.get("until")
        report(
            "leakage: times",
            "fail",
            f"{found['times']} of {found['rows']} are not after the end of the candidate's "
            f"training, {until}",
        )
    if not count and not found["times"]:
        why = found.get("why_not")
        note = "" if why is None else f"; {why}" if found["checked"] else f"not checked: {why}"
        if found["checked"]:
            note = f"none of {found['rows']} was in the candidate's making{note}"
        report("leakage", "pass", note)


def _check_judge(evidence: Mapping[str, Any], rules: Rules, report: Report) -> None:
    """Who rated answers by rubrics, and whether that decided anything."""
    found = evidence.get("judge")
    if found is None:
        return
    bound = None if rules.judge is None else rules.judge.min_agreement
    if found["decides"] and (bound is None or found["low"] < bound):
        report("judge", "fail", f"kappa from {found['low']:.2f} may not decide: expected {bound}")
        return
    word = "its scores decide" if found["decides"] else "its scores are reported and decide nothing"
    own = ", judging its own answers" if found["self_judged"] else ""
    report(
        "judge",
        "pass",
        f"{found['engine']}{own}: Cohen's kappa {found['kappa']:.2f} [{found['low']:.2f}, "
        f"{found['high']:.2f}] with {found['scored']} of {found['labelled']} labels, expected "
        f"{bound}: {word}",
    )


def _check_asked(evidence: Mapping[str, Any], rules: Rules, report: Report, *, sound: bool) -> None:
    """An exam that was cut short: does what is there prove a fail, whatever the rest would say?"""
    asked, results = evidence.get("asked"), evidence["candidate_results"]
    if asked is None:
        return
    if asked["tasks"] != len(results):
        report("tasks", "inconclusive", f"{len(results)} results, but {asked['tasks']} asked")
    elif is_partial(evidence):
        note = f"stopped after {asked['tasks']} of {asked['of']}, look {asked['looks']}"
        proof = None
        if sound and asked.get("rest"):
            others = {item["id"]: item for item in evidence["champion_results"] or ()}
            proof = early_fail(
                rules,
                candidate=results,
                champion=[others[item["id"]] for item in results] if others else None,
                rest=asked["rest"],
                looks=max(1, asked["looks"]),
            )
        if proof is None:
            report("asked", "inconclusive", f"{note}: what is not asked cannot pass")
        else:
            report("asked", "fail", f"{note}: {proof}")


def is_partial(evidence: Mapping[str, Any]) -> bool:
    """Whether the exam was cut short."""
    asked = evidence.get("asked")
    return asked is not None and bool(asked["tasks"] < asked["of"])


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


def _check_queries(results: Results, report: Report) -> None:
    units: dict[Any, str] = {}
    for item in results:
        if units.setdefault(item.get("group"), item["unit"]) != item["unit"]:
            note = f"the query {item.get('group')!r} is in several units: no unit may cut one"
            report("queries", "inconclusive", note)
            return
    if None in units:
        report("queries", "inconclusive", "results without a group: a ranking has queries")


def _check_suites(results: Results, rules: Rules, report: Report, *, partial: bool) -> None:
    present = {item["suite"] for item in results}
    named = {suite for rule in rules.measured for suite in rule.suite}
    for suite in sorted((named | {rule.suite for rule in rules.safe}) - present):
        if partial:
            break
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
