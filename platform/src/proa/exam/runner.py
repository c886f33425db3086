"""Sit an exam: both sides answer every task, every answer or its absence is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, Protocol

from proa.exam.asking import Ask, Prediction, Unanswered, datatypes_of
from proa.exam.evidence import ROWS, Outcome, make_evidence
from proa.exam.exam import Exam, GoldenTask, Row
from proa.exam.scorers import Spoken, score
from proa.exam.verdict import Verdict

Progress = Callable[[str, int, int], None]
"""`(side, done, total)`, called from one thread."""
BATCH = 256
CHATS = 16
BATCHES = 2


@dataclass(frozen=True, slots=True)
class Side:
    """Who sits: the release's manifest digest, and how it is asked."""

    digest: str
    ask: Ask


def hold(
    exam: Exam,
    *,
    model: str,
    runtime: str,
    candidate: Side,
    champion: Side | None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Let both sides sit the exam; return the evidence, ready for `judge`.

    Args:
        runtime: the candidate's runtime fingerprint.
        champion: None for the first release.
    """
    mine = sit(exam, candidate.ask, side="candidate", progress=progress)
    theirs = None
    if champion is not None:
        theirs = sit(exam, champion.ask, side="champion", progress=progress)
    return make_evidence(
        model=model,
        rules=exam.rules,
        data=exam.data,
        runtime=runtime,
        candidate=candidate.digest,
        candidate_results=mine,
        champion=None if champion is None else champion.digest,
        champion_results=theirs,
    )


def sit(
    exam: Exam, ask: Ask, *, side: str = "candidate", progress: Progress | None = None
) -> list[Outcome]:
    """One outcome per row or task, in the exam's order; a failed one says why."""
    if exam.rules.kind == "classic":
        jobs = [exam.rows[start : start + BATCH] for start in range(0, len(exam.rows), BATCH)]
        types = datatypes_of(exam.rows)
        parts = _each(jobs, lambda rows: _sit_rows(rows, ask, types), BATCHES, side, progress)
        return [outcome for part in parts for outcome in part]
    chats = [(task,) for task in exam.tasks]
    parts = _each(chats, lambda tasks: [_sit_task(tasks[0], ask)], CHATS, side, progress)
    return [outcome for part in parts for outcome in part]


def _each(
    jobs: Sequence[Sequence[Any]],
    work: Callable[[Any], list[Outcome]],
    workers: int,
    side: str,
    progress: Progress | None,
) -> list[list[Outcome]]:
    """Work through `jobs`, some at once; results in the order of the jobs."""
    total, done = sum(len(job) for job in jobs), 0
    with ThreadPoolExecutor(workers, thread_name_prefix="exam") as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                done += len(future.result())
                if progress is not None:
                    progress(side, done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _sit_rows(rows: Sequence[Row], ask: Ask, types: Mapping[str, str]) -> list[Outcome]:
    """Ask for a batch; when the model refuses it, halves of it, until the rows at fault remain."""
    try:
        predictions = ask.rows(rows, types)
    except Unanswered as error:
        if error.divisible and len(rows) > 1:
            middle = len(rows) // 2
            return [
                *_sit_rows(rows[:middle], ask, types),
                *_sit_rows(rows[middle:], ask, types),
            ]
        return [_row_outcome(row, error=error) for row in rows]
    return [
        _row_outcome(row, prediction) for row, prediction in zip(rows, predictions, strict=True)
    ]


def _row_outcome(
    row: Row, prediction: Prediction | None = None, error: Unanswered | None = None
) -> Outcome:
    return Outcome(
        id=row.id,
        unit=row.unit,
        suite=ROWS,
        label=row.label,
        value=None if prediction is None else prediction.value,
        decision=None if prediction is None else prediction.decision,
        error=None if error is None else str(error),
        blame=None if error is None else error.blame,
        slices=row.slices,
    )


def _sit_task(task: GoldenTask, ask: Ask) -> Outcome:
    question = task.conversation[-1]["content"]
    try:
        said = ask.chat(task.conversation)
    except Unanswered as error:
        return Outcome(
            id=task.id,
            unit=task.unit or task.id,
            suite=task.suite,
            passed=False,
            failures=(f"no answer: {error}",),
            error=str(error),
            blame=error.blame,
            shown={"question": question, "answer": None, "citations": []},
        )
    failures = score(task.expect, Spoken(said.text, said.citations, said.refused))
    return Outcome(
        id=task.id,
        unit=task.unit or task.id,
        suite=task.suite,
        passed=not failures,
        failures=tuple(failures),
        shown={
            "question": question,
            "answer": said.text,
            "citations": [str(item.get("id")) for item in said.citations],
            "tokens_in": said.tokens_in,
            "tokens_out": said.tokens_out,
        },
    )


class EvidenceLog(Protocol):
    """Where people look at an exam afterwards."""

    def record(self, evidence: Mapping[str, Any], verdict: Verdict) -> str:
        """Keep both; return where to look."""


class MlflowLog:
    """An exam as a run of the experiment named after the model.

    The run's page shows the checks as metrics, the digests and the verdict as tags, and the
    per-task table `results.json` of both sides.
    """

    def __init__(self, tracking_uri: str, *, tags: Mapping[str, str] | None = None) -> None:
        self._uri, self._tags = tracking_uri, dict(tags or {})

    def record(self, evidence: Mapping[str, Any], verdict: Verdict) -> str:
        """Write the run; return its id."""
        from proa.release.registry import keep_feast_out

        keep_feast_out()
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(verdict.model)
        experiment = found.experiment_id if found else client.create_experiment(verdict.model)
        run = client.create_run(
            experiment,
            tags={**_tags(verdict), **self._tags},
            run_name=f"exam {verdict.candidate[7:15]}: {verdict.value}",
        )
        run_id: str = run.info.run_id
        now = run.info.start_time
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in _metrics(verdict)],
        )
        client.log_dict(run_id, dict(evidence), "evidence.json")
        client.log_dict(run_id, verdict.to_json(), "verdict.json")
        client.log_table(run_id, data=_table(evidence), artifact_file="results.json")
        # MLflow prints the run's address here; a caller's output is the caller's.
        with redirect_stdout(StringIO()):
            client.set_terminated(run_id)
        return run_id


def _tags(verdict: Verdict) -> dict[str, str]:
    return {
        "proa.exam": verdict.exam,
        "proa.verdict": verdict.value,
        "proa.candidate": verdict.candidate,
        "proa.champion": verdict.champion or "none",
        "proa.evidence": verdict.evidence,
        "mlflow.note.content": f"**{verdict.value}**: {verdict.reason}",
    }


def _metrics(verdict: Verdict) -> Iterator[tuple[str, float]]:
    for check in verdict.checks:
        if check.value is not None:
            name = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in check.name)
            yield f"{check.kind}/{name}", check.value


_COLUMNS = ("id", "unit", "suite", "label", "value", "decision", "passed", "question", "answer")


def _table(evidence: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Both sides, one line per task, failing ones first; at most 2,000 lines."""
    others = {item["id"]: item for item in evidence["champion_results"] or ()}
    results = sorted(evidence["candidate_results"], key=lambda item: item.get("passed") is True)
    results = results[:2000]
    present = [key for key in _COLUMNS if any(key in item for item in results)]
    table: dict[str, list[Any]] = {
        key: [_shown(item.get(key)) for item in results] for key in present
    }
    table["failures"] = ["; ".join(item.get("failures", ())) for item in results]
    table["error"] = [item["error"] or "" for item in results]
    if others:
        for key in ("value", "passed", "answer"):
            if key in present:
                table[f"champion_{key}"] = [
                    _shown(others.get(item["id"], {}).get(key)) for item in results
                ]
    return table


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value
