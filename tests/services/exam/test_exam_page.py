"""What MLflow's page shows of an exam. Real: MLflow's server, as `up` starts it; nothing is faked
but the outcomes, which are written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proa.exam.evidence import Outcome, make_evidence
from proa.exam.exam import Exam, GoldenTask
from proa.exam.mlflow_log import MlflowLog
from proa.exam.rules import Rules
from proa.exam.verdict import Verdict, judge
from tests.mlflow_server import start_mlflow
from tests.processes import Processes

RULES = Rules.model_validate(
    {
        "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
        "primary": {"metric": "passed", "margin": 0.05, "higher_is_better": True},
        "floors": [{"metric": "passed", "suite": "answer", "min": 0.9}],
        "bootstrap": {"resamples": 200},
    }
)  # fmt: skip


def tasks() -> tuple[GoldenTask, ...]:
    return tuple(
        GoldenTask.model_validate(
            {
                "id": f"t{n}", "suite": "answer", "question": f"Question {n}?",
                "expect": {"contains": ["x"]},
            }
        )
        for n in range(12)
    )  # fmt: skip


@pytest.fixture
def mlflow_url(processes: Processes, tmp_path: Path) -> str:
    return start_mlflow(processes, tmp_path).url


def outcomes(failing: set[int]) -> list[Outcome]:
    return [
        Outcome(
            id=f"t{n}", unit=f"t{n}", suite="answer", passed=n not in failing,
            failures=("contains: 'x' is not in the answer",) if n in failing else (),
            shown={"question": f"Question {n}?", "answer": f"Answer {n}", "citations": ["a"]},
        )
        for n in range(12)
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exam_is_a_run_with_its_table(
    mlflow_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    evidence = make_evidence(
        model="python-help", rules=RULES, data="sha256:" + "c" * 64,
        runtime="sha256:" + "d" * 64, candidate="sha256:" + "b" * 64,
        candidate_results=outcomes({3, 4, 5}), champion="sha256:" + "a" * 64,
        champion_results=outcomes(set()),
    )  # fmt: skip
    verdict = judge(evidence)
    assert verdict.value == "fail"
    log = MlflowLog(mlflow_url, tags={"proa.release": "python-help/2"})
    exam = Exam(RULES, "sha256:" + "c" * 64, tasks=tasks())
    names = {"candidate": "python-help/2", "champion": "python-help/1"}
    run_id = log.record(evidence, verdict, exam=exam, names=names)
    assert capsys.readouterr().out == ""
    client = MlflowClient(tracking_uri=mlflow_url)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["proa.verdict"] == "fail"
    assert run.data.tags["proa.release"] == "python-help/2"
    assert run.data.tags["mlflow.note.content"].startswith("**fail**: passed of answer: 0.75")
    assert run.data.metrics["floor/passed of answer"] == 0.75
    names = {item.path for item in client.list_artifacts(run_id)}
    assert names == {"evidence.json", "results.json", "verdict.json"}
    table = json.loads(
        Path(client.download_artifacts(run_id, "results.json", tmp_path)).read_text()
    )
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["id"] for row in rows[:3]] == ["t3", "t4", "t5"], "failing tasks come first"
    assert rows[0]["champion_passed"] is True
    assert rows[0]["failures"] == "contains: 'x' is not in the answer"
    kept = json.loads(
        Path(client.download_artifacts(run_id, "evidence.json", tmp_path)).read_text()
    )
    assert judge(kept) == verdict
    check_evaluation_runs(client, run, verdict)
    assert log.record(evidence, verdict, exam=exam) == run_id, "written once"
    # The candidate is champion now and answers as it did: its run is not written again.
    later = {**evidence, "candidate": "sha256:" + "e" * 64, "champion": evidence["candidate"]}
    later["champion_results"] = evidence["candidate_results"]
    again = client.get_run(log.record(later, judge(later), exam=exam))
    sides = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{again.info.run_id}'"
    )
    assert [side.data.tags["proa.side"] for side in sides] == ["candidate"]
    kept = client.get_run(again.data.tags["proa.champion_run"])
    assert kept.data.tags["proa.side"] == "candidate"
    assert len(client.search_datasets(experiment_ids=[run.info.experiment_id])) == 1


def check_evaluation_runs(client: Any, run: Any, verdict: Verdict) -> None:
    """MLflow's own shapes: two evaluation runs, a trace with assessments per task, a dataset."""
    experiment = run.info.experiment_id
    (dataset,) = client.search_datasets(experiment_ids=[experiment])
    assert dataset.name == f"python-help exam {verdict.exam[7:15]}"
    assert dataset.tags["proa.exam"] == verdict.exam
    sides = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    by_side = {side.data.tags["proa.side"]: side for side in sides}
    assert {side.info.run_name for side in sides} == {
        "candidate python-help/2", "champion python-help/1",
    }  # fmt: skip
    candidate = by_side["candidate"]
    assert candidate.data.tags["mlflow.runType"] == "genai_evaluate"
    assert candidate.data.metrics["passed/answer"] == 0.75
    assert [item.dataset.name for item in candidate.inputs.dataset_inputs] == [dataset.name]
    traces = client.search_traces(locations=[experiment], run_id=candidate.info.run_id)
    assert len(traces) == 12
    failing = next(trace for trace in traces if trace.info.tags["task"] == "t3")
    by_name = {item.name: item for item in failing.info.assessments}
    assert by_name["passed"].feedback.value is False
    assert by_name["passed"].rationale == "contains: 'x' is not in the answer"
    assert by_name["expected"].expectation.value == {"contains": ["x"]}
    (span,) = failing.data.spans
    assert span.inputs["question"] == "Question 3?"
    assert span.outputs["answer"] == "Answer 3"
