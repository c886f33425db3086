"""An exam in MLflow: its dataset, the run of its verdict, and an evaluation run per side.

The journal holds the verdict; this is for people to look at. It is written afterwards, and what
could not be written is written later from the same evidence.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Final

from proa.errors import Unavailable
from proa.exam.evidence import ROWS, Results
from proa.exam.exam import Exam
from proa.exam.mlflow_traces import EvaluationRun
from proa.exam.verdict import Verdict
from proa.release.canonical import digest_json

ROWS_SHOWN: Final = 2000
"""At most so many rows of a classic exam go into MLflow's dataset and table; its server takes
about a thousand a second."""
_PAGE: Final = 500
_SAME: Final = ("proa.digest", "proa.exam", "proa.answers")


class MlflowLog:
    """Exams of models on one tracking server.

    In the experiment named after the model a gate leaves a run with the checks as metrics, the
    digests and the verdict as tags, `results.json`, `slices.json`, `evidence.json` and
    `verdict.json`; for an llm also an evaluation run for each side, with a trace and assessments
    per task. The exam itself is an evaluation dataset, made once per digest.

    Args:
        tags: further tags of each run.
    """

    def __init__(self, tracking_uri: str, *, tags: Mapping[str, str] | None = None) -> None:
        self._uri, self._tags = tracking_uri, dict(tags or {})

    def record(
        self,
        evidence: Mapping[str, Any],
        verdict: Verdict,
        *,
        exam: Exam | None = None,
        names: Mapping[str, str] | None = None,
    ) -> str:
        """Write the runs; return the id of the verdict's.

        Args:
            exam: for the dataset and what was expected; without it a dataset already there is
                used.
            names: `candidate` and `champion` as people call them, `python-help/2`.

        Raises:
            Unavailable: the server did not take it, or not all of it.
        """
        from proa.release.registry import prepare_mlflow

        prepare_mlflow()
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            return self._record(evidence, verdict, exam, names or {})
        except (MlflowException, RequestException) as error:
            raise Unavailable(
                f"MLflow at {self._uri} did not take the exam: {str(error)[:200]}",
                hint="proa status",
            ) from error

    def _record(
        self,
        evidence: Mapping[str, Any],
        verdict: Verdict,
        exam: Exam | None,
        names: Mapping[str, str],
    ) -> str:
        from mlflow import MlflowClient
        from mlflow.entities import DatasetInput

        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(verdict.model)
        experiment = found.experiment_id if found else client.create_experiment(verdict.model)
        known = self._known(client, experiment, verdict)
        if known is not None:
            return known
        dataset = self._dataset(client, experiment, verdict, exam)
        run_id = self._verdict(client, experiment, evidence, verdict, names)
        if dataset is not None:
            client.log_inputs(run_id, datasets=[DatasetInput(dataset=dataset)])
        if evidence["rules"]["kind"] == "llm":
            for run in _sides(evidence, exam, names, parent=run_id, digest=verdict.evidence):
                same = _same_answers(client, experiment, run.tags)
                if same is None:
                    self._quietly(lambda run=run: run.write(self._uri, experiment, dataset=dataset))
                else:
                    client.set_tag(run_id, f"proa.{run.tags['proa.side']}_run", same)
        self._quietly(lambda: client.set_terminated(run_id))
        return run_id

    def _known(self, client: Any, experiment: str, verdict: Verdict) -> str | None:
        """The run of this evidence when it is whole; what was broken off is deleted."""
        mine = f"tags.`proa.evidence` = '{verdict.evidence}'"
        for run in client.search_runs([experiment], mine):
            if run.info.status != "FINISHED":
                client.delete_run(run.info.run_id)
            elif "proa.verdict" in run.data.tags:
                return str(run.info.run_id)
        return None

    def _verdict(
        self,
        client: Any,
        experiment: str,
        evidence: Mapping[str, Any],
        verdict: Verdict,
        names: Mapping[str, str],
    ) -> str:
        from mlflow.entities import Metric

        who = names.get("candidate", verdict.candidate[7:15])
        run = client.create_run(
            experiment,
            tags={**_tags(verdict), **self._tags},
            run_name=f"exam {who}: {verdict.value}",
        )
        run_id: str = run.info.run_id
        now = run.info.start_time
        metrics = [Metric(name, value, now, 0) for name, value in _metrics(verdict)]
        for start in range(0, len(metrics), _PAGE):
            client.log_batch(run_id, metrics=metrics[start : start + _PAGE])
        client.log_dict(run_id, dict(evidence), "evidence.json")
        client.log_dict(run_id, verdict.to_json(), "verdict.json")
        client.log_table(run_id, data=_table(evidence), artifact_file="results.json")
        slices = _slices(verdict)
        if slices["slice"]:
            client.log_table(run_id, data=slices, artifact_file="slices.json")
        return run_id

    def _dataset(
        self, client: Any, experiment: str, verdict: Verdict, exam: Exam | None
    ) -> Any | None:
        """The exam as an evaluation dataset, named after model and digest."""
        from mlflow.entities import Dataset
        from mlflow.tracing.client import TracingClient

        name = f"{verdict.model} exam {verdict.exam[7:15]}"
        known = client.search_datasets(
            experiment_ids=[experiment], filter_string=f"name = '{name}'", max_results=1
        )
        if not known and exam is None:
            return None
        if known:
            made = known[0]
        else:
            assert exam is not None
            made = client.create_dataset(
                name=name,
                experiment_id=experiment,
                tags={"proa.exam": verdict.exam, "proa.data": exam.data, "proa.size": exam.size},
            )
        if exam is not None and (made.tags or {}).get("proa.filled") != "yes":
            records = list(_records(exam))
            store = TracingClient(self._uri).store
            for start in range(0, len(records), _PAGE):
                store.upsert_dataset_records(made.dataset_id, records[start : start + _PAGE])
            client.set_dataset_tags(made.dataset_id, {"proa.filled": "yes"})
        return Dataset(
            name=name,
            digest=verdict.exam[7:15],
            source_type="mlflow_evaluation_dataset",
            source=made.source.to_json() if hasattr(made.source, "to_json") else str(made.source),
        )

    def _quietly(self, act: Any) -> None:
        """MLflow prints a run's address when it ends; a caller's output is the caller's."""
        with redirect_stdout(StringIO()):
            act()


def _records(exam: Exam) -> Iterator[dict[str, Any]]:
    """The exam as records; of many rows a seeded sample."""
    for task in exam.tasks:
        inputs: dict[str, Any] = {"task": task.id, "suite": task.suite}
        if task.question is not None:
            inputs["question"] = task.question
        else:
            inputs["messages"] = task.conversation
        yield {
            "inputs": inputs,
            "expectations": task.expect.model_dump(mode="json", exclude_none=True),
            "source": {"source_type": "HUMAN", "source_data": {}},
        }
    rows = exam.rows
    if len(rows) > ROWS_SHOWN:
        rows = tuple(random.Random(exam.digest).sample(rows, ROWS_SHOWN))
    for row in rows:
        yield {
            "inputs": {"row": row.id, exam.rules.unit: row.unit, **row.inputs},
            "expectations": {"label": row.label},
            "source": {"source_type": "HUMAN", "source_data": {}},
        }


def _sides(
    evidence: Mapping[str, Any],
    exam: Exam | None,
    names: Mapping[str, str],
    *,
    parent: str,
    digest: str,
) -> Iterator[EvaluationRun]:
    tasks = exam.tasks if exam is not None else ()
    expected = {t.id: t.expect.model_dump(mode="json", exclude_none=True) for t in tasks}
    asked = {t.id: t.conversation for t in tasks if t.question is None}
    for side in ("champion", "candidate"):
        results = evidence[f"{side}_results"]
        if results:
            release = evidence[side]
            yield EvaluationRun(
                name=f"{side} {names.get(side, release[7:15])}",
                results=results,
                expected=expected,
                asked=asked,
                tags={
                    "mlflow.parentRunId": parent,
                    "proa.side": side,
                    "proa.digest": release,
                    "proa.evidence": digest,
                    "proa.exam": evidence["exam"],
                    "proa.answers": _answers_digest(results),
                },
            )


def _same_answers(client: Any, experiment: str, tags: Mapping[str, str]) -> str | None:
    """A complete evaluation run of the same release with the same answers, by its id: a champion
    that answers as it did when it was the candidate is not written again."""
    wanted = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in _SAME)
    found = client.search_runs(
        [experiment], f"{wanted} and attributes.status = 'FINISHED'", max_results=1
    )
    return found[0].info.run_id if found else None


def _answers_digest(results: Results) -> str:
    keys = ("id", "passed", "repeats", "failures", "answer", "error")
    return digest_json([[item.get(key) for key in keys] for item in results])


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
        name = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in check.name)
        if check.value is not None:
            yield f"{check.kind}/{name}", check.value
        if check.interval is not None:
            yield f"{check.kind}/{name}/low", check.interval[0]
            yield f"{check.kind}/{name}/high", check.interval[1]


def _slices(verdict: Verdict) -> dict[str, list[Any]]:
    """The slices, worst first."""
    checks = [check for check in verdict.checks if check.kind == "slice"]
    checks.sort(key=lambda check: (check.outcome == "pass", check.note))
    return {
        "slice": [check.name for check in checks],
        "outcome": [check.outcome for check in checks],
        "candidate": [check.value for check in checks],
        "champion": [check.champion for check in checks],
        "low": [check.interval[0] if check.interval else None for check in checks],
        "high": [check.interval[1] if check.interval else None for check in checks],
        "note": [check.note for check in checks],
    }


_COLUMNS = ("id", "unit", "suite", "label", "value", "decision", "passed", "question", "answer",
            "latency_ms", "ttft_ms", "tokens_in", "tokens_out")  # fmt: skip


def _table(evidence: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Both sides, one line per task, failing ones first; at most `ROWS_SHOWN` lines."""
    others = {item["id"]: item for item in evidence["champion_results"] or ()}
    results = sorted(evidence["candidate_results"], key=_first)[:ROWS_SHOWN]
    present = [key for key in _COLUMNS if any(item.get(key) is not None for item in results)]
    table = {key: [_shown(item.get(key)) for item in results] for key in present}
    table["failures"] = ["; ".join(item.get("failures", ())) for item in results]
    table["error"] = [item["error"] or "" for item in results]
    if others:
        for key in ("value", "passed", "answer"):
            if key in present:
                table[f"champion_{key}"] = [
                    _shown(others.get(item["id"], {}).get(key)) for item in results
                ]
    return table


def _first(item: Mapping[str, Any]) -> bool:
    return item["error"] is None and (item["suite"] == ROWS or item.get("passed") is True)


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
