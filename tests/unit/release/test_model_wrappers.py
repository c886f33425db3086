"""Models of other libraries as estimators: ONNX for real, a pyfunc's answers in every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from proa.errors import InvalidInput, Refused
from proa.release import model_files
from proa.release.manifest import ClassicSpec
from proa.release.model_wrappers import PyfuncModel, as_probabilities
from proa.release.scoring import check_model, score
from tests.standins.onnx_file import onnx_bytes

ROWS = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.0]])
WEIGHTS, BIAS = [0.5, -0.25], 0.1


def spec(task: str, columns: int = 2) -> ClassicSpec:
    names = [{"name": f"c{number}", "type": "double"} for number in range(columns)]
    return ClassicSpec.model_validate(
        {"task": task, "model": "m.onnx", "model_format": "onnx", "columns": names}
    )


def file(folder: Path, *, sigmoid: bool = True) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(onnx_bytes(WEIGHTS, BIAS, sigmoid=sigmoid))
    return path


def test_an_onnx_file_answers_as_its_numbers_say(tmp_path: Path) -> None:
    model = model_files.load_file(file(tmp_path), "onnx", task="binary")
    columns = {"c0": ROWS[:, 0].tolist(), "c1": ROWS[:, 1].tolist()}
    check_model(model, spec("binary"))
    found = score(model, spec("binary"), columns)
    truth = 1 / (1 + np.exp(-(ROWS @ WEIGHTS + BIAS)))
    assert found["probability"] == pytest.approx(truth.tolist(), abs=1e-6)
    assert found["label"] == [value >= 0.5 for value in truth]


def test_an_onnx_regression_may_answer_any_number(tmp_path: Path) -> None:
    model = model_files.load_file(file(tmp_path, sigmoid=False), "onnx", task="regression")
    columns = {"c0": ROWS[:, 0].tolist(), "c1": ROWS[:, 1].tolist()}
    found = score(model, spec("regression"), columns)
    assert found["prediction"] == pytest.approx((ROWS @ WEIGHTS + BIAS).tolist(), abs=1e-6)


def test_logits_are_no_probabilities(tmp_path: Path) -> None:
    model = model_files.load_file(file(tmp_path, sigmoid=False), "onnx", task="binary")
    columns = {"c0": [9.0, 1.0], "c1": [0.0, 0.0]}
    with pytest.raises(InvalidInput, match="end it with a sigmoid or a softmax"):
        score(model, spec("binary"), columns)


def test_an_onnx_file_of_another_width_is_refused_before_the_first_question(
    tmp_path: Path,
) -> None:
    model = model_files.load_file(file(tmp_path), "onnx", task="binary")
    with pytest.raises(Refused, match="fitted on 2 columns, declared are 3"):
        check_model(model, spec("binary", columns=3))


def test_what_is_no_onnx_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x80\x04not onnx")
    with pytest.raises(InvalidInput, match=r"m\.onnx is not an ONNX model"):
        model_files.load_file(path, "onnx", task="binary")


class Loaded:
    """An MLflow pyfunc as `mlflow.pyfunc.load_model` gives it, without a signature."""

    metadata = None

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def predict(self, rows: Any) -> Any:
        return self._answer


FRAME = pd.DataFrame({"a": [1.0, 2.0]})


@pytest.mark.parametrize(
    "answer",
    [
        [0.25, 0.75],
        np.array([[0.25], [0.75]]),
        pd.Series([0.25, 0.75]),
        pd.DataFrame({"probability": [0.25, 0.75], "other": ["x", "y"]}),
        {"score": [0.25, 0.75]},
        np.array([[0.75, 0.25], [0.25, 0.75]]),
    ],
)
def test_a_pyfunc_may_answer_in_any_form(answer: Any) -> None:
    found = PyfuncModel(Loaded(answer)).predict_proba(FRAME)
    assert found.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_a_pyfunc_may_answer_intervals() -> None:
    table = pd.DataFrame({"prediction": [1.0, 2.0], "lower": [0.5, 1.0], "upper": [1.5, 3.0]})
    assert PyfuncModel(Loaded(table)).predict(FRAME).shape == (2, 3)


@pytest.mark.parametrize("answer", [["a", "b"], [0.1], {"x": [1.0, 2.0]}])
def test_an_answer_that_is_no_number_per_row_is_refused(answer: Any) -> None:
    with pytest.raises(InvalidInput, match="the pyfunc answers"):
        PyfuncModel(Loaded(answer)).predict(FRAME)


def test_a_detectors_score_is_turned_as_scikit_learn_has_it() -> None:
    found = PyfuncModel(Loaded([0.1, 5.0])).score_samples(FRAME)
    assert found.tolist() == [-0.1, -5.0]


def test_probabilities_of_one_class_become_two() -> None:
    assert as_probabilities([0.25, 1.0]).tolist() == [[0.75, 0.25], [0.0, 1.0]]
