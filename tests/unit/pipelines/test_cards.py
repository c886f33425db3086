"""What Kubeflow's page shows: right numbers, in the shape of the artifact's type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import dsl
from sklearn.metrics import confusion_matrix, roc_auc_score

from proa.errors import Internal
from proa_pipelines import cards
from proa_pipelines.fit import Scores


def scores(value: Any, label: Any) -> Scores:
    return Scores(np.asarray(value, float), np.asarray(label, float), np.zeros(len(label)))


def lifted(path: Path, cls: Any) -> dict[str, Any]:
    artifact = cls(name="x", uri=str(path), metadata={})
    cards.lift(artifact)
    json.dumps(artifact.metadata, allow_nan=False)
    return dict(artifact.metadata)


@pytest.fixture
def binary() -> Scores:
    random = np.random.default_rng(0)
    label = random.random(2000) < 0.3
    return scores(np.round(np.clip(0.3 * label + random.random(2000) * 0.7, 0, 1), 2), label)


def test_a_roc_curve_is_that_of_the_scores(binary: Scores, tmp_path: Path) -> None:
    cards.curves(str(tmp_path / "x"), "binary", binary, 0.4, [])
    points = lifted(tmp_path / "x", dsl.ClassificationMetrics)["confidenceMetrics"]
    assert len(points) <= 101
    alarms = [point["falsePositiveRate"] for point in points]
    hits = [point["recall"] for point in points]
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)
    area = float(np.trapezoid(hits, alarms))
    assert area == pytest.approx(roc_auc_score(binary.label, binary.value), abs=1e-3)
    for point in points[1:]:  # each point is the truth at its threshold, ties included
        said = binary.value >= point["confidenceThreshold"]
        assert point["recall"] == pytest.approx(said[binary.label == 1].mean())
        assert point["falsePositiveRate"] == pytest.approx(said[binary.label == 0].mean())


def test_a_confusion_matrix_has_the_truth_in_its_rows(binary: Scores, tmp_path: Path) -> None:
    cards.curves(str(tmp_path / "x"), "binary", binary, 0.4, [])
    found = lifted(tmp_path / "x", dsl.ClassificationMetrics)["confusionMatrix"]
    assert [item["displayName"] for item in found["annotationSpecs"]] == ["false", "true"]
    expected = confusion_matrix(binary.label, binary.value >= 0.4)
    assert [row["row"] for row in found["rows"]] == expected.tolist()


def test_of_many_classes_the_likeliest_counts(tmp_path: Path) -> None:
    value = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]]
    cards.curves(str(tmp_path / "x"), "multiclass", scores(value, [0, 2, 2, 1]), None, list("abc"))
    found = lifted(tmp_path / "x", dsl.ClassificationMetrics)
    assert "confidenceMetrics" not in found
    rows = [row["row"] for row in found["confusionMatrix"]["rows"]]
    assert rows == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_a_regression_has_neither(tmp_path: Path) -> None:
    cards.curves(str(tmp_path / "x"), "regression", scores([1.0], [2.0]), None, [])
    assert lifted(tmp_path / "x", dsl.ClassificationMetrics) == {}


def test_numbers_that_json_has_not_are_left_out(tmp_path: Path) -> None:
    values = {"good": 1, "none": None, "nan": float("nan"), "inf": float("inf")}
    cards.numbers(str(tmp_path / "x"), values)
    assert lifted(tmp_path / "x", dsl.Metrics) == {"good": 1.0}
    assert lifted(tmp_path / "never written", dsl.Metrics) == {}


def test_other_artifacts_hold_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"system\.Model holds no numbers"):
        lifted(tmp_path / "x", dsl.Model)


VERDICT = {
    "value": "fail",
    "reason": "roc_auc is lower | <b>",
    "candidate": "sha256:c",
    "champion": None,
    "exam": "sha256:e",
    "runtime": "sha256:r",
    "evidence": "sha256:v",
    "checks": [
        {"name": "roc_auc", "kind": "primary", "outcome": "fail", "value": 0.61234, "bound": None,
         "champion": 0.7, "interval": [-0.2, -0.1], "note": "a | b"},
        *({"name": f"carrier {n}", "kind": "slice", "outcome": "pass", "value": None, "bound": None,
           "champion": None, "interval": None, "note": ""} for n in range(9)),
    ],
}  # fmt: skip


def test_a_verdicts_page_shows_what_failed_and_counts_the_rest() -> None:
    page = cards.verdict_page("m/2", VERDICT)
    assert page.startswith("# Exam of m/2: fail\n\nroc_auc is lower \\| &lt;b>\n")
    assert "| fail | primary | roc_auc | 0.6123 | 0.7 | a \\| b |" in page
    assert "And 9 slices that passed." in page
    assert "carrier" not in page


def test_a_verdicts_numbers() -> None:
    assert cards.verdict_numbers(VERDICT) == {
        "passed": 0.0,
        "primary roc_auc": 0.61234,
        "primary roc_auc (champion)": 0.7,
    }
