"""The verdict: a pure rule over evidence. The controller recomputes it before it counts.

`fail`: a fault of the candidate, a floor not reached, a safety task failed, or proven harm.
`inconclusive`: the evidence does not say; it holds a release back as a fail does.
`pass`: every floor reached and the primary metric proven not worse by more than its margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proa.exam.bootstrap import Difference, difference
from proa.exam.evidence import check_shape, evidence_digest, to_answers
from proa.exam.integrity import Check, Results, Value, integrity_checks
from proa.exam.metrics import Answers, Metric, measure, metrics_of
from proa.exam.rules import Comparison, Floor, Rules, rules_from_json

SCHEMA_VERSION = 1
_SMALL_SLICE = 30


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
    if all(check.outcome == "pass" for check in checks):
        case = _Case.of(evidence, rules, seed=int(digest[7:23], 16))
        checks += case.floors() + case.safety() + case.comparisons() + case.slices()
    value = _overall(checks)
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
class _Case:
    """Evidence that is whole, as arrays: the champion's rows in the candidate's order."""

    rules: Rules
    seed: int
    results: Results
    candidate: Answers
    champion: Answers | None
    units: NDArray[np.int64]
    metrics: Mapping[str, Metric]

    @classmethod
    def of(cls, evidence: Mapping[str, Any], rules: Rules, *, seed: int) -> _Case:
        results: Results = evidence["candidate_results"]
        others = evidence["champion_results"]
        champion = None
        if others is not None:
            by_id = {item["id"]: item for item in others}
            champion = to_answers([by_id[item["id"]] for item in results], rules)
        _, units = np.unique([item["unit"] for item in results], return_inverse=True)
        return cls(
            rules,
            seed,
            results,
            to_answers(results, rules),
            champion,
            units.astype(np.int64),
            metrics_of(rules.kind, rules.task),
        )

    def floors(self) -> list[Check]:
        """Absolute bounds."""
        return [self._floor(floor) for floor in self.rules.floors]

    def _floor(self, floor: Floor) -> Check:
        value = measure(self.metrics[floor.metric], self.candidate.rows(self._suites(floor.suite)))
        name = _named(floor.metric, floor.suite)
        bound = floor.min if floor.min is not None else floor.max
        word = "at least" if floor.min is not None else "at most"
        if math.isnan(value):
            return Check(name, "floor", "inconclusive", None, bound, note="not defined here")
        good = value >= floor.min if floor.min is not None else value <= (floor.max or 0.0)
        note = f"{value:.4g}, expected {word} {bound:g}"
        return Check(name, "floor", "pass" if good else "fail", value, bound, note=note)

    def safety(self) -> list[Check]:
        """Suites in which nothing may fail, with what zero failures of n really bound."""
        checks = []
        for suite in self.rules.safety:
            mask = self._suites([suite])
            passed = self.candidate.value[mask]
            failed, count = int((passed < 1).sum()), len(passed)
            if failed:
                first = next(
                    item["id"]
                    for item, inside, value in zip(
                        self.results, mask, self.candidate.value, strict=True
                    )
                    if inside and value < 1
                )
                note = f"{failed} of {count} failed, first {first!r}; none may"
            else:
                upper = 1 - 0.05 ** (1 / count)
                note = f"0 of {count} failed: the true rate is below {upper:.1%} (95 %)"
            checks.append(
                Check(suite, "safety", "fail" if failed else "pass", float(failed), 0.0, note=note)
            )
        return checks

    def comparisons(self) -> list[Check]:
        """The primary metric must be proven not worse; a guardrail may not be proven worse."""
        if self.champion is None:
            return []
        primary = self._compare(self.rules.primary, primary=True)
        return [primary, *(self._compare(rule, primary=False) for rule in self.rules.guardrails)]

    def _compare(self, rule: Comparison, *, primary: bool) -> Check:
        found = self._difference(rule, self._suites(rule.suite), self.rules.bootstrap.confidence)
        name = _named(rule.metric, rule.suite)
        if math.isnan(found.low) or found.units < self.rules.bootstrap.min_units:
            note = (
                f"{found.units} units of {self.rules.unit!r}: expected at least "
                f"{self.rules.bootstrap.min_units}, and both sides defined"
            )
            outcome: Value = "inconclusive"
            return Check(name, "comparison", outcome, _finite(found.candidate), rule.margin,
                         _finite(found.champion), note=note)  # fmt: skip
        value, low, high = _gain(found, rule.higher_is_better)
        note = (
            f"{found.value:+.4g} [{found.low:+.4g}, {found.high:+.4g}], margin {rule.margin:g}, "
            f"{found.units} units"
        )
        if value < -rule.margin and high < 0:
            outcome = "fail"
            note = f"proven worse: {note}"
        elif primary and low < -rule.margin:
            outcome = "inconclusive"
            note = f"may be worse by more than the margin: {note}"
        else:
            outcome = "pass"
        return Check(
            name,
            "comparison",
            outcome,
            found.candidate,
            rule.margin,
            found.champion,
            (found.low, found.high),
            note,
        )

    def slices(self) -> list[Check]:
        """Each value of each slice column; it blocks only on harm that is proven after dividing
        the error among all slices (Bonferroni), and small slices are only reported."""
        if self.champion is None or not self.rules.slices:
            return []
        groups = self._groups()
        rule, settings = self.rules.primary, self.rules.bootstrap
        margin = rule.margin if self.rules.slice_margin is None else self.rules.slice_margin
        confidence = 1 - (1 - settings.confidence) / max(1, len(groups))
        checks = []
        for name, mask in groups:
            if int(mask.sum()) < _SMALL_SLICE or len(set(self.units[mask])) < settings.min_units:
                note = f"{int(mask.sum())} rows: too few to judge, reported only"
                checks.append(Check(name, "slice", "pass", bound=margin, note=note))
                continue
            found = self._difference(rule, mask, confidence)
            _, _, high = _gain(found, rule.higher_is_better)
            harmed = high < -margin
            interval = None if math.isnan(found.low) else (found.low, found.high)
            note = f"{rule.metric} {found.value:+.4g}, {int(mask.sum())} rows"
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
            self.metrics[rule.metric],
            self.candidate.rows(mask),
            self.champion.rows(mask),
            units=units.astype(np.int64),
            confidence=confidence,
            resamples=self.rules.bootstrap.resamples,
            seed=self.seed,
        )

    def _suites(self, suites: list[str]) -> NDArray[np.bool_]:
        if not suites:
            return np.ones(len(self.results), dtype=np.bool_)
        return np.array([item["suite"] in suites for item in self.results], dtype=np.bool_)


def _gain(found: Difference, higher_is_better: bool) -> tuple[float, float, float]:
    """Value, low and high turned so that more is better."""
    if higher_is_better:
        return found.value, found.low, found.high
    return -found.value, -found.high, -found.low


def _named(metric: str, suite: list[str]) -> str:
    return f"{metric} of {', '.join(suite)}" if suite else metric


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _overall(checks: list[Check]) -> Value:
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
