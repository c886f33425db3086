"""The sample of somebody's model: roles of columns, labels, and what the exam gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from proa.errors import InvalidInput, NotFound
from proa.exam.exam import load as load_exam
from proa.project.model import OwnProject
from proa_pipelines import own_exam, own_sample

PICKED = [number in (4, 8, 9) for number in range(10)]


def settings(**more: Any) -> OwnProject:
    value = {"name": "m", "task": "binary", "label": "late", "unit": "customer", **more}
    return OwnProject.model_validate(value)


def frame(rows: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": random.integers(18, 80, rows),
            "usage": random.gamma(2.0, 3.0, rows),
            "plan": random.choice(["basic", "pro"], rows),
            "customer": np.arange(rows) // 4,
            "when": pd.date_range("2026-01-01", periods=rows, freq="1h", tz="UTC"),
            "late": random.random(rows) < 0.4,
            "spend": random.normal(20.0, 4.0, rows),
        }
    )


def write(table: pd.DataFrame, folder: Path, name: str = "s.parquet") -> Path:
    path = folder / name
    table.to_parquet(path) if name.endswith("parquet") else table.to_csv(path, index=False)
    return path


def test_units_are_never_cut_and_fall_on_the_same_side_next_time(tmp_path: Path) -> None:
    path = write(frame(), tmp_path)
    sample = own_sample.read(path, settings(time="when", holdout=0.3), None)
    by_time = own_sample.read(path, settings(holdout=0.3), None)
    for found in (sample, by_time):
        sides = pd.Series(found.held).groupby(found.unit).nunique()
        assert sides.max() == 1
        assert 0.2 < found.held.mean() < 0.4
    assert pd.Series(frame()["when"])[sample.held].min() > frame()["when"][~sample.held].max()
    half = own_sample.read(write(frame()[:200], tmp_path), settings(holdout=0.3), None)
    assert half.held.tolist() == by_time.held[:200].tolist()
    # a fixed pick, not one of this process: Python salts the hash of a text
    assert by_time.held[:40:4].tolist() == PICKED


def test_inputs_are_what_has_no_other_role(tmp_path: Path) -> None:
    path = write(frame(), tmp_path, "s.csv")
    sample = own_sample.read(path, settings(time="when"), None)
    assert [(c.name, c.type) for c in sample.columns] == [
        ("age", "long"), ("usage", "double"), ("plan", "string"), ("spend", "double"),
    ]  # fmt: skip
    chosen = own_sample.read(path, settings(columns=["usage", "age"]), None)
    assert [column.name for column in chosen.columns] == ["usage", "age"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"unit": "user"}, r"unit = 'user': s\.parquet has the columns"),
        ({"time": "day"}, "time = 'day'"),
        ({"columns": ["age", "income"]}, "columns: 'income' is not in"),
        ({"label": "plan"}, r"expected 0 and 1, or classes: \[NEGATIVE, POSITIVE\]"),
        ({"label": "plan", "classes": ["a", "b"]}, "classes ="),
        ({"label": "plan", "task": "regression"}, "task regression expects numbers"),
        ({"time": "plan"}, "column 'plan', row 0: .*: expected a time"),
    ],
)
def test_a_role_that_does_not_fit_is_named(
    more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        own_sample.read(write(frame(), tmp_path), settings(**more), None)


def test_two_named_classes_are_zero_and_one(tmp_path: Path) -> None:
    asked = settings(label="plan", classes=["basic", "pro"])
    sample = own_sample.read(write(frame(), tmp_path), asked, None)
    assert sample.label is not None
    assert sample.label.tolist() == (frame()["plan"] == "pro").astype(float).tolist()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (frame().drop(columns="late"), "has no labels"),
        (frame().assign(late=[None, *frame()["late"][1:]]), "1 of 400 labels"),
        (frame(30), "could be held out"),
    ],
)
def test_why_there_is_no_exam_is_said(table: pd.DataFrame, why: str, tmp_path: Path) -> None:
    sample = own_sample.read(write(table, tmp_path), settings(), None)
    assert not sample.held.any()
    assert why in (sample.why_no_exam or "")


@pytest.mark.parametrize("name", ["s.xlsx", "s.pkl"])
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"\.parquet, \.csv, \.jsonl"):
        own_sample.read(tmp_path / name, settings(), None)
    with pytest.raises(NotFound):
        own_sample.read(tmp_path / "no.csv", settings(), None)


@pytest.mark.parametrize(
    ("task", "label", "classes"),
    [
        ("binary", "late", []),
        ("anomaly", "late", []),
        ("multiclass", "plan", ["basic", "pro"]),
        ("regression", "spend", []),
        ("forecasting", "spend", []),
        ("ranking", "late", []),
    ],
)
def test_the_exam_of_every_task_is_one_that_can_be_loaded(
    task: str, label: str, classes: list[str], tmp_path: Path
) -> None:
    asked = settings(task=task, label=label, slices=[] if task == "ranking" else ["plan"])
    sample = own_sample.read(write(frame().assign(late=frame()["late"] * 1), tmp_path), asked, None)
    folder = tmp_path / "exam"
    own_exam.write(folder, sample, asked, classes)
    lines = ["name: m", f"task: {task}", "unit: customer", "exam: exam.yaml"]
    (folder / "proa.yaml").write_text("\n".join(lines))
    exam = load_exam(folder)
    assert 20 <= exam.size <= int(sample.held.sum())
    assert exam.rules.task == task
    assert exam.rules.floors
    held = set(sample.id[sample.held].tolist())
    assert {row.id for row in exam.rows} <= held
