"""The verdict: a pure rule over evidence. The controller recomputes it before it counts.

`fail`: a fault of the candidate, a floor not reached, a safety task failed, or proven harm.
`inconclusive`: the evidence does not say; it holds a release back as a fail does. An exam that was
cut short can only fail or be inconclusive.
`pass`: every floor reached and the primary metric proven not worse by more than its margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proa.exam.answers import Answers, Metric
from proa.exam.bootstrap import Difference, difference
from proa.exam.evidence import Results, check_shape, evidence_digest, evidence_seed, to_answers
from proa.exam.integrity import Check, Value, integrity_checks, is_partial
from proa.exam.metrics import measure, metric_named
from proa.exam.rules import Comparison, Floor, Rules, Safety, rules_from_json

SCHEMA_VERSION = 1
_SMALL_SLICE = 30
_BOUND = 0.95
"""Confidence of the bound on the rate of failures in a safety suite, one-sided."""
_SHARES = ("passed", "answered")
"""Metrics that are shares of tasks: what is not asked yet can at best be 1."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`value` for four digests, with the checks it was made of; `evidence` is a fifth."""

    value: Value
    model: str
    candidate: str
    champion: str | None
    exam: str
    runtime: str
    evidence: str
    checks: tuple[Check, ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object, version 1; it holds no NaN."""
        return {
            "schema_version": SCHEMA_VERSION,
            "value": self.value,
            "model": self.model,
            "candidate": self.candidate,
            "champion": self.champion,
            "exam": self.exam,
            "runtime": self.runtime,
            "evidence": self.evidence,
            "checks": [check.to_json() for check in self.checks],
            "reason": self.reason,
        }


def judge(evidence: Mapping[str, Any]) -> Verdict:
    """Judge. Equal evidence gives an equal verdict, on any machine with the same NumPy.

    Raises:
        InvalidInput: the evidence does not have the shape of version 1. Faults of its contents
            are checks of the verdict instead.
    """
    check_shape(evidence)
    rules = rules_from_json(evidence["rules"])
    digest = evidence_digest(evidence)
    checks = integrity_checks(evidence, rules)
    if all(check.outcome == "pass" or check.name == "asked" for check in checks):
        checks += Case.of(evidence, rules, seed=evidence_seed(evidence)).checks()
    value = overall(checks)
    return Verdict(
        value=value,
        model=evidence["model"],
        candidate=evidence["candidate"],
        champion=evidence["champion"],
        exam=evidence["exam"],
        runtime=evidence["runtime"],
        evidence=digest,
        checks=tuple(checks),
        reason=_reason(value, checks, first=evidence["champion"] is None),
    )


@dataclass(frozen=True)
class Case:
    """Evidence that is whole, as arrays: the champion's rows in the candidate's order.

    `rest`: tasks not asked by suite, None when the exam was not cut short; `looks`: how often it
    was looked at, each look could have ended it.
    """

    rules: Rules
    seed: int
    results: Results
    candidate: Answers
    champion: Answers | None
    units: NDArray[np.int64]
    rest: Mapping[str, int] | None = None
    looks: int = 1

    def checks(self) -> list[Check]:
        """Every rule's answer."""
        return self.floors() + self.safety() + self.comparisons() + self.slices()

    @classmethod
    def of(cls, evidence: Mapping[str, Any], rules: Rules, *, seed: int) -> Case:
        """Read evidence that has no fault; equal seeds give equal intervals."""
        results: Results = evidence["candidate_results"]
        others = evidence["champion_results"]
        champion = None
        if others is not None:
            by_id = {item["id"]: item for item in others}
            champion = to_answers([by_id[item["id"]] for item in results], rules)
        _, units = np.unique([item["unit"] for item in results], return_inverse=True)
        partial = is_partial(evidence)
        asked = evidence.get("asked") or {}
        left = {"": asked["of"] - asked["tasks"]} if partial else None
        return cls(
            rules=rules,
            seed=seed,
            results=results,
            candidate=to_answers(results, rules),
            champion=champion,
            units=units.astype(np.int64),
            rest=None if left is None else {**left, **(asked.get("rest") or {})},
            looks=max(1, asked.get("looks", 1)) if partial else 1,
        )

    def _metric(self, name: str) -> Metric:
        found = metric_named(self.rules.kind, self.rules.task, name)
        assert found is not None  # rules are checked when they are read
        return found

    def floors(self) -> list[Check]:
        """Absolute bounds."""
        return [self._floor(floor) for floor in self.rules.floors]

    def _floor(self, floor: Floor) -> Check:
        answers = self.candidate.rows(self._suites(floor.suite))
        value = measure(self._metric(floor.metric), answers)
        name = _named(floor.metric, floor.suite)
        bound = floor.min if floor.min is not None else floor.max
        word = "at least" if floor.min is not None else "at most"
        if math.isnan(value):
            return Check(name, "floor", "inconclusive", None, bound, note="not defined here")
        note = f"{value:.4g}, expected {word} {bound:g}"
        if self.rest is not None:
            best = self._best(floor, value, len(answers.answered))
            if floor.min is not None and best < floor.min:
                note = f"out of reach: {note}, {best:.4g} if all that is left went well"
                return Check(name, "floor", "fail", value, bound, note=note)
            return Check(name, "floor", "inconclusive", value, bound, note=f"so far {note}")
        good = value >= floor.min if floor.min is not None else value <= (floor.max or 0.0)
        return Check(name, "floor", "pass" if good else "fail", value, bound, note=note)

    def _best(self, floor: Floor, value: float, count: int) -> float:
        """The value if every task that is not asked went well; infinite where that is unknown."""
        if self.rest is None or floor.metric not in _SHARES:
            return math.inf
        known = bool(floor.suite) and len(self.rest) > 1
        left = sum(self.rest.get(suite, 0) for suite in floor.suite) if known else self.rest[""]
        return (value * count + left) / (count + left)

    def safety(self) -> list[Check]:
        """Suites in which nothing may fail, with what zero failures of n really bound."""
        return [self._safety(rule) for rule in self.rules.safe]

    def _safety(self, rule: Safety) -> Check:
        mask = self._suites([rule.suite])
        passed = self.candidate.value[mask]
        failed, count = int((passed < 1).sum()), len(passed)
        upper = failure_bound(failed, count)
        said = f"the true rate is below {upper:.1%} (95 %)"
        limit = rule.max_failure_rate
        if failed:
            inside = (item["id"] for item, here in zip(self.results, mask, strict=True) if here)
            first = next(key for key, value in zip(inside, passed, strict=True) if value < 1)
            outcome: Value = "fail"
            note = f"{failed} of {count} failed, first {first!r}; none may; {said}"
        elif self.rest is not None:
            outcome, note = "inconclusive", f"0 of {count} failed so far"
        elif limit is not None and upper > limit:
            needed = math.ceil(math.log(1 - _BOUND) / math.log1p(-limit))
            outcome = "inconclusive"
            note = f"0 of {count} failed: {said}; {limit:.1%} is asked for, that takes {needed}"
        else:
            outcome, note = "pass", f"0 of {count} failed: {said}"
        bound = 0.0 if limit is None else limit
        return Check(rule.suite, "safety", outcome, float(failed), bound, note=note)

    def comparisons(self) -> list[Check]:
        """The primary metric must be proven not worse; a guardrail may not be proven worse, or
        must be proven not worse too."""
        if self.champion is None:
            return []
        primary = self._compare(self.rules.primary, prove=True)
        guards = self.rules.guardrails
        return [primary, *(self._compare(rule, prove=rule.must == "not_worse") for rule in guards)]

    def _compare(self, rule: Comparison, *, prove: bool) -> Check:
        settings = self.rules.bootstrap
        confidence = 1 - (1 - settings.confidence) / self.looks
        found = self._difference(rule, self._suites(rule.suite), confidence)
        name = _named(rule.metric, rule.suite)
        bound = rule.margin if rule.ratio is None else rule.ratio
        assert bound is not None
        if math.isnan(found.low) or found.units < settings.min_units:
            note = (
                f"{found.units} units of {self.rules.unit!r}: expected at least "
                f"{settings.min_units}, and both sides defined"
            )
            outcome: Value = "inconclusive"
            return Check(name, "comparison", outcome, _finite(found.candidate), bound,
                         _finite(found.champion), note=note)  # fmt: skip
        value, low, high = _gain(found, rule.higher_is_better)
        margin = bound if rule.ratio is None else abs(math.log(rule.ratio))
        interval, note = _told(found, rule)
        if value < -margin and high < 0:
            outcome, note = "fail", f"proven worse: {note}"
        elif prove and low < -margin:
            outcome = "inconclusive"
            note = f"may be worse by more than the {_limit(rule)}: {note}"
        elif self.rest is not None:
            outcome, note = "inconclusive", f"so far {note}"
        else:
            outcome = "pass"
        return Check(
            name, "comparison", outcome, found.candidate, bound, found.champion, interval, note
        )

    def slices(self) -> list[Check]:
        """Each value of each slice column; it blocks only on harm that is proven after dividing
        the error among all slices (Bonferroni), and small slices are only reported."""
        if self.champion is None or not self.rules.slices:
            return []
        groups = self._groups()
        rule, settings = self.rules.primary, self.rules.bootstrap
        margin = rule.margin if self.rules.slice_margin is None else self.rules.slice_margin
        assert margin is not None  # rules are checked when they are read
        confidence = 1 - (1 - settings.confidence) / max(1, len(groups)) / self.looks
        checks = []
        for name, mask in groups:
            size, units = int(mask.sum()), len(set(self.units[mask]))
            if size < _SMALL_SLICE or units < settings.min_units:
                note = f"{size} rows of {units} units: too few to judge, reported only"
                checks.append(Check(name, "slice", "pass", bound=margin, note=note))
                continue
            found = self._difference(rule, mask, confidence)
            _, _, high = _gain(found, rule.higher_is_better)
            harmed = high < -margin
            interval = None if math.isnan(found.low) else (found.low, found.high)
            note = f"{rule.metric} {found.value:+.4g}, {size} rows"
            if interval is None:
                note = f"{rule.metric} is not defined on {size} rows: reported only"
            checks.append(
                Check(
                    name,
                    "slice",
                    "fail" if harmed else "pass",
                    _finite(found.candidate),
                    margin,
                    _finite(found.champion),
                    interval,
                    f"proven worse: {note}" if harmed else note,
                )
            )
        return checks

    def _groups(self) -> list[tuple[str, NDArray[np.bool_]]]:
        groups = []
        for column in self.rules.slices:
            values = np.array([str(item.get("slices", {}).get(column)) for item in self.results])
            groups += [(f"{column}={value}", values == value) for value in sorted(set(values))]
        return groups

    def _difference(
        self, rule: Comparison, mask: NDArray[np.bool_], confidence: float
    ) -> Difference:
        assert self.champion is not None
        _, units = np.unique(self.units[mask], return_inverse=True)
        return difference(
            self._metric(rule.metric),
            self.candidate.rows(mask),
            self.champion.rows(mask),
            units=units.astype(np.int64),
            confidence=confidence,
            resamples=self.rules.bootstrap.resamples,
            seed=self.seed,
            as_ratio=rule.ratio is not None,
        )

    def _suites(self, suites: list[str]) -> NDArray[np.bool_]:
        if not suites:
            return np.ones(len(self.results), dtype=np.bool_)
        return np.array([item["suite"] in suites for item in self.results], dtype=np.bool_)


def failure_bound(failures: int, cases: int, confidence: float = _BOUND) -> float:
    """The exact one-sided upper bound of a rate (Clopper and Pearson, Biometrika 26, 1934):
    the rate at which so few failures would have a chance of 1 − confidence.

    Without failures it is 1 − (1 − confidence)^(1 / cases), near 3 / cases.
    """
    if failures >= cases:
        return 1.0
    low, high = failures / cases, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        chance = sum(
            math.comb(cases, k) * rate**k * (1 - rate) ** (cases - k) for k in range(failures + 1)
        )
        low, high = (rate, high) if chance > 1 - confidence else (low, rate)
    return high


def _told(found: Difference, rule: Comparison) -> tuple[tuple[float, float], str]:
    """The interval and the sentence: a difference, or how many times the champion's value."""
    value, low, high = found.value, found.low, found.high
    if rule.ratio is None:
        note = f"{value:+.4g} [{low:+.4g}, {high:+.4g}], margin {rule.margin:g}"
    else:
        value, low, high = math.exp(value), math.exp(low), math.exp(high)
        note = f"{value:.4g} times the champion's [{low:.4g}, {high:.4g}], ratio {rule.ratio:g}"
    return (low, high), f"{note}, {found.units} units"


def _limit(rule: Comparison) -> str:
    return "margin" if rule.ratio is None else "ratio"


def _gain(found: Difference, higher_is_better: bool) -> tuple[float, float, float]:
    """Value, low and high turned so that more is better."""
    if higher_is_better:
        return found.value, found.low, found.high
    return -found.value, -found.high, -found.low


def _named(metric: str, suite: list[str]) -> str:
    return f"{metric} of {', '.join(suite)}" if suite else metric


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def overall(checks: Sequence[Check]) -> Value:
    """The value of a verdict: one fail fails, else one open question leaves all open."""
    outcomes = {check.outcome for check in checks}
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes else "pass"


def _reason(value: Value, checks: list[Check], *, first: bool) -> str:
    deciding = [check for check in checks if check.outcome == value]
    if value != "pass":
        more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
        return f"{deciding[0].name}: {deciding[0].note}{more}"
    if first:
        count = sum(check.kind in ("floor", "safety") for check in checks)
        return f"first release, no champion to compare with: all {count} floors and safety suites"
    primary = next(check for check in checks if check.kind == "comparison")
    return f"{primary.name} {primary.note}; {len(checks)} checks passed"
