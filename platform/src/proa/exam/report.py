"""What people want to know of a judged exam: failing tasks, suites, rows that cost most. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proa.exam.evidence import Results

Result = Mapping[str, Any]
_EPS: Final = 1e-15


@dataclass(frozen=True, slots=True)
class FailedTask:
    """A golden task the candidate failed at least once, beside the champion's result."""

    mine: Result
    theirs: Result | None

    @property
    def regressed(self) -> bool:
        """Whether the champion passes it every time."""
        return self.theirs is not None and share_passed(self.theirs) == 1

    @property
    def verdict(self) -> str:
        """In a few words: what the champion does with this task."""
        if self.theirs is None:
            return "no champion"
        share = share_passed(self.theirs)
        return {0.0: "champion fails too", 1.0: "champion passes"}.get(share, "champion wavers")


@dataclass(frozen=True, slots=True)
class SuiteShare:
    """How many tasks of a suite each side passed; repeated tasks count by their mean."""

    name: str
    tasks: int
    candidate: float
    champion: float | None
    safety: bool


@dataclass(frozen=True, slots=True)
class CostlyRow:
    """A row that makes the candidate worse; `loss` is candidate minus champion, of `of`."""

    result: Result
    champion: Any
    loss: float


def share_passed(result: Result) -> float:
    """The share of a task's runs that passed; none without an answer."""
    runs = [result.get("passed") is True, *result.get("repeats", ())]
    return float(sum(runs) / len(runs))


def failed_tasks(evidence: Mapping[str, Any]) -> list[FailedTask]:
    """What the champion passes first, safety suites before others, then as in the exam."""
    others = _by_id(evidence["champion_results"])
    safe = safety_suites(evidence)
    found = [
        FailedTask(item, others.get(item["id"]))
        for item in evidence["candidate_results"]
        if evidence["rules"]["kind"] == "llm" and share_passed(item) < 1
    ]
    return sorted(found, key=lambda task: (task.mine["suite"] not in safe, not task.regressed))


def suite_shares(evidence: Mapping[str, Any]) -> list[SuiteShare]:
    """Every suite of an exam of golden tasks, in the exam's order; empty for rows."""
    if evidence["rules"]["kind"] != "llm":
        return []
    safe, others = safety_suites(evidence), _by_id(evidence["champion_results"])
    suites: dict[str, list[Result]] = {}
    for item in evidence["candidate_results"]:
        suites.setdefault(item["suite"], []).append(item)
    return [
        SuiteShare(
            name,
            len(items),
            _mean([share_passed(item) for item in items]),
            _mean([share_passed(others[item["id"]]) for item in items if item["id"] in others])
            if others
            else None,
            name in safe,
        )
        for name, items in suites.items()
    ]


def safety_suites(evidence: Mapping[str, Any]) -> set[str]:
    """Suites in which nothing may fail."""
    rules: Sequence[Any] = evidence["rules"].get("safety") or ()
    return {rule if isinstance(rule, str) else str(rule["suite"]) for rule in rules}


def costly_rows(evidence: Mapping[str, Any], *, limit: int = 20) -> list[CostlyRow]:
    """The rows that contribute most to a classic candidate's loss beyond the champion's.

    Loss is the log loss for binary, anomaly and multiclass, the absolute error for the others;
    without a champion it is the candidate's own.
    """
    rules = evidence["rules"]
    if rules["kind"] != "classic" or rules["task"] == "ranking":
        return []
    loss, others = loss_of(rules), _by_id(evidence["champion_results"])
    found = []
    for item in evidence["candidate_results"]:
        other = others.get(item["id"])
        mine = loss(item)
        theirs = 0.0 if other is None else loss(other)
        if mine is not None and theirs is not None and mine > theirs:
            champion = None if other is None else other.get("value")
            found.append(CostlyRow(item, champion, mine - theirs))
    return sorted(found, key=lambda row: -row.loss)[:limit]


def loss_of(rules: Mapping[str, Any]) -> Callable[[Result], float | None]:
    """One row's loss; None where the row has no answer."""
    task, classes = rules["task"], list(rules.get("classes") or ())

    def chance(item: Result) -> float | None:
        value, label = item.get("value"), item.get("label")
        if isinstance(value, list):
            place = classes.index(label) if label in classes else None
            return None if place is None or place >= len(value) else value[place]
        if value is None or label is None:
            return None
        return float(value) if float(label) > 0.5 else 1 - float(value)

    def log_loss(item: Result) -> float | None:
        said = chance(item)
        return None if said is None else -math.log(min(max(float(said), _EPS), 1.0))

    def error(item: Result) -> float | None:
        value, label = item.get("value"), item.get("label")
        return None if value is None or label is None else abs(float(value) - float(label))

    return log_loss if task in ("binary", "anomaly", "multiclass") else error


def loss_name(rules: Mapping[str, Any]) -> str:
    """What `costly_rows` measures."""
    return "log loss" if rules["task"] in ("binary", "anomaly", "multiclass") else "absolute error"


def totals(results: Results) -> dict[str, float]:
    """Tokens in and out, mean and p95 milliseconds, of the results that know them."""
    found: dict[str, float] = {"results": len(results)}
    for name in ("tokens_in", "tokens_out"):
        known = [item[name] for item in results if item.get(name) is not None]
        if known:
            found[name] = sum(known)
    for name in ("latency_ms", "ttft_ms"):
        known = sorted(item[name] for item in results if item.get(name) is not None)
        if known:
            found[f"{name}_mean"] = _mean(known)
            found[f"{name}_p95"] = known[min(len(known) - 1, math.ceil(0.95 * len(known)) - 1)]
    return found


def _by_id(results: Results | None) -> dict[str, Result]:
    return {item["id"]: item for item in results or ()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
