"""One side of an exam under way: it is asked, its answers are kept, its outcomes are made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from proa.exam.answers_file import AnswersFile
from proa.exam.asking import Ask, Said, Unanswered
from proa.exam.evidence import ROWS, Outcome
from proa.exam.exam import GoldenTask, Row
from proa.exam.scorers import Aids, Scored, Spoken, consistency, score


@dataclass(frozen=True, slots=True)
class Side:
    """Who sits: the release's manifest digest, how it is asked, what scoring it needs."""

    digest: str
    ask: Ask
    aids: Aids = field(default_factory=Aids)


@dataclass(frozen=True, slots=True)
class _Heard:
    """An answer with the milliseconds it took, or why there is none."""

    said: Said | None
    latency_ms: float | None = None
    error: str | None = None
    blame: str | None = None


class Sitting:
    """One side, asked from several threads at once.

    Args:
        name: `candidate` or `champion`.
        answers: where answers are kept for a gate that goes on after a crash; an answer kept
            there is not asked for again. Answers lost on the way are never kept.
    """

    def __init__(self, name: str, side: Side, answers: AnswersFile | None = None) -> None:
        self.name = name
        self.spoken: dict[str, Spoken] = {}
        self._ask, self._aids, self._answers = side.ask, side.aids, answers

    # Rows

    def rows(self, rows: Sequence[Row], types: Mapping[str, str]) -> list[Outcome]:
        """Ask for a batch; when the model refuses it, halves of it, until the faulty remain."""
        found = {row.id: self._kept(f"row:{row.id}") for row in rows}
        missing = [row for row in rows if found[row.id] is None]
        if missing:
            found |= self._asked(missing, types)
        return [_row_outcome(row, found[row.id] or {}) for row in rows]

    def _asked(self, rows: Sequence[Row], types: Mapping[str, str]) -> dict[str, Any]:
        try:
            predictions = self._ask.rows(rows, types)
        except Unanswered as error:
            if error.divisible and len(rows) > 1:
                middle = len(rows) // 2
                return self._asked(rows[:middle], types) | self._asked(rows[middle:], types)
            lost = {"error": str(error), "blame": error.blame}
            if error.blame == "model":
                self._keep({f"row:{row.id}": lost for row in rows})
            return {row.id: lost for row in rows}
        found = {row.id: asdict(item) for row, item in zip(rows, predictions, strict=True)}
        self._keep({f"row:{key}": value for key, value in found.items()})
        return found

    def latency(self, row: Row, types: Mapping[str, str]) -> float:
        """Milliseconds of one call with one row.

        Raises:
            Unanswered: there was no answer.
        """
        known = self._kept(f"ms:{row.id}")
        if known is not None:
            return float(known)
        began = time.perf_counter()
        self._ask.rows([row], types)
        taken = (time.perf_counter() - began) * 1000
        self._keep({f"ms:{row.id}": taken})
        return taken

    # Tasks

    def task(self, task: GoldenTask) -> Outcome:
        """Ask a task for the first time."""
        heard = self._heard(task, 0)
        question = task.conversation[-1]["content"]
        outcome = Outcome(id=task.id, unit=task.independent, suite=task.suite, passed=True)
        if heard.said is None:
            return replace(
                outcome,
                passed=False,
                failures=(f"no answer: {heard.error}",),
                error=heard.error,
                blame=heard.blame,
                shown={"question": question, "answer": None, "citations": []},
            )
        said, spoken = heard.said, _spoken(heard.said, question)
        self.spoken[task.id] = spoken
        outcome = replace(
            outcome,
            latency_ms=heard.latency_ms,
            ttft_ms=said.ttft_ms,
            tokens_in=said.tokens_in,
            tokens_out=said.tokens_out,
            shown={
                "question": question,
                "answer": said.text,
                "citations": [str(item.get("id")) for item in said.citations],
            },
        )
        return with_score(outcome, score(task.expect, spoken, self._aids))

    def consistent(self, tasks: Sequence[GoldenTask], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes once paraphrases are held against the tasks they say in other words."""
        pairs = {
            task.id: task.paraphrase_of
            for task in tasks
            if task.paraphrase_of is not None and task.expect.consistent
        }
        found = consistency(pairs, self.spoken, self._aids)
        return [
            with_score(outcome, found[outcome.id]) if outcome.id in found else outcome
            for outcome in outcomes
        ]

    def again(self, task: GoldenTask, run: int) -> bool | None:
        """Ask a task once more; whether it passed, None without a result."""
        said = self._heard(task, run).said
        if said is None:
            return None
        spoken = _spoken(said, task.conversation[-1]["content"])
        found = score(task.expect, spoken, self._aids)
        if task.paraphrase_of is not None and task.expect.consistent:
            answers = {**self.spoken, task.id: spoken}
            pair = {task.id: task.paraphrase_of}
            found = found.merged(consistency(pair, answers, self._aids)[task.id])
        return None if found.unscored is not None and not found.failures else found.passed

    def _heard(self, task: GoldenTask, run: int) -> _Heard:
        key = f"task:{task.id}:{run}"
        known = self._kept(key)
        if known is not None:
            said = known.pop("said", None)
            return _Heard(Said(**said) if said else None, **known)
        began = time.perf_counter()
        try:
            said = self._ask.chat(task.conversation)
        except Unanswered as error:
            lost = {"error": str(error), "blame": error.blame}
            if error.blame == "model":
                self._keep({key: lost})
            return _Heard(None, error=str(error), blame=error.blame)
        taken = (time.perf_counter() - began) * 1000
        self._keep({key: {"said": asdict(said), "latency_ms": taken}})
        return _Heard(said, taken)

    # What was kept

    def _kept(self, key: str) -> Any:
        found = None if self._answers is None else self._answers.get(f"{self.name}:{key}")
        return dict(found) if isinstance(found, Mapping) else found

    def _keep(self, answers: Mapping[str, Any]) -> None:
        if self._answers is not None:
            self._answers.keep({f"{self.name}:{key}": value for key, value in answers.items()})


def _row_outcome(row: Row, found: Mapping[str, Any]) -> Outcome:
    return Outcome(
        id=row.id,
        unit=row.unit,
        suite=ROWS,
        label=row.label,
        value=found.get("value"),
        decision=found.get("decision"),
        error=found.get("error"),
        blame=found.get("blame"),
        slices=row.slices,
        group=row.group,
        baseline=row.baseline,
        scale=row.scale,
        lower=found.get("lower"),
        upper=found.get("upper"),
    )


def _spoken(said: Said, question: str) -> Spoken:
    return Spoken(
        said.text,
        said.citations,
        said.refused,
        question=question,
        tokens_out=said.tokens_out,
        ttft_ms=said.ttft_ms,
    )


def with_score(outcome: Outcome, scored: Scored) -> Outcome:
    """The outcome with what a scorer found besides; without a result it has no answer."""
    failures = (*outcome.failures, *scored.failures)
    gap = None if failures else (outcome.error or scored.unscored)
    return replace(
        outcome,
        passed=not failures and gap is None,
        failures=failures,
        error=gap,
        blame=None if gap is None else outcome.blame or "transport",
        scores={**outcome.scores, **scored.scores},
    )
