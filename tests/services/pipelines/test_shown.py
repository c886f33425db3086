"""What a run shows on Kubeflow's page: the artifacts of a real local run, as KFP wrote them.

Checked by KFP's own protobuf of a step's output and against what the run said of itself.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from sklearn.metrics import roc_auc_score

from proa.project.scaffold import write_project
from proa_pipelines import results, runner


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run up to `calibrate`'s successors; its folder is kept, which the runner removes."""
    folder = tmp_path_factory.mktemp("run")
    write_project("churn", kind="classic", folder=folder / "churn")
    kept: list[Path] = []

    def keep(path: Any, **options: Any) -> None:
        if Path(path).name.startswith("run-"):
            kept.append(Path(path))
        else:
            shutil.rmtree(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "shutil", _With(keep))
        settings = {"train.parameters.max_iter": "5", "serve.explain": "none"}
        done = runner.run(
            folder / "churn", folder / "home", until="stage", overrides=settings, say=lambda _: None
        )
    (root,) = [path for path in kept[0].iterdir() if path.is_dir()]
    return {**done, "root": root}


class _With:
    """`shutil`, with another `rmtree`."""

    def __init__(self, rmtree: Any) -> None:
        self.rmtree = rmtree

    def __getattr__(self, name: str) -> Any:
        return getattr(shutil, name)


def output(ran: dict[str, Any], step: str) -> dict[str, Any]:
    """A step's artifacts by name, as KFP wrote them: metadata, and the file's path."""
    text = (ran["root"] / step / "executor_output.json").read_text()
    parsed = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
    found = json_format.MessageToDict(parsed)["artifacts"]
    return {name: item["artifacts"][0] for name, item in found.items()}


def facts(ran: dict[str, Any], step: str) -> dict[str, Any]:
    return next(item for item in ran["steps"] if item["step"] == step)


def test_every_step_wrote_what_kfp_can_read(ran: dict[str, Any]) -> None:
    steps = sorted(path.parent.name for path in ran["root"].glob("*/executor_output.json"))
    assert steps == sorted(item["step"] for item in ran["steps"])
    for step in steps:
        output(ran, step) if step != "promote" else None


def test_the_metrics_are_those_of_the_run(ran: dict[str, Any]) -> None:
    shown = output(ran, "calibrate")["figures"]["metadata"]
    said = facts(ran, "calibrate")
    assert shown["threshold"] == said["threshold"]
    for name, value in said["metrics"].items():
        assert shown[name] == value
        assert shown[f"{name} before calibration"] == said["before_calibration"][name]


def test_curve_and_matrix_are_those_of_the_scores(ran: dict[str, Any]) -> None:
    shown = output(ran, "calibrate")["curves"]["metadata"]
    scores, threshold = results.load(ran["root"] / "calibrate" / "calibrated")
    points = shown["confidenceMetrics"]
    for point in points:
        assert set(point) == {"confidenceThreshold", "recall", "falsePositiveRate"}
        assert 0 <= point["recall"] <= 1
    area = sum(
        (two["falsePositiveRate"] - one["falsePositiveRate"]) * (one["recall"] + two["recall"]) / 2
        for one, two in itertools.pairwise(points)
    )
    assert area == pytest.approx(roc_auc_score(scores.label, scores.value), abs=2e-3)
    matrix = shown["confusionMatrix"]
    assert [item["displayName"] for item in matrix["annotationSpecs"]] == ["false", "true"]
    rows = [row["row"] for row in matrix["rows"]]
    said = scores.value >= threshold
    assert rows[1][1] == int((said & (scores.label == 1)).sum())
    assert sum(map(sum, rows)) == len(scores.label) == facts(ran, "ingest")["rows"]


def test_the_data_report_counts_the_rows_that_were_read(ran: dict[str, Any]) -> None:
    path = Path(output(ran, "validate")["report"]["uri"])
    text = path.read_text()
    read = pd.read_parquet(ran["root"] / "ingest" / "tables" / "examples.parquet")
    assert text.startswith("# Data of churn\n")
    assert f"| examples | {len(read):,} | {len(read.columns)} |" in text
    january = read[read.ordered_at.dt.strftime("%Y-%m") == "2026-01"]
    assert f"| 2026-01 | {len(january):,} | {january.late.mean():.4g} |" in text


def test_the_release_knows_the_run_whichever_named_it(ran: dict[str, Any]) -> None:
    manifest = json.loads((Path(ran["staged"]) / "manifest.json").read_bytes())
    assert manifest["source"]["pipeline_run"] == ran["run"]
