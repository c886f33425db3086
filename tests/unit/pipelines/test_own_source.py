"""What a model made elsewhere is, read from its files; nothing of it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from proa.errors import InvalidInput, NotFound, Refused
from proa_pipelines import own_source
from tests.standins.onnx_file import onnx_bytes

INPUTS = json.dumps(
    [
        {"type": "long", "name": "age", "required": True},
        {"type": "double", "name": "usage", "required": True},
        {"type": "string", "name": "plan", "required": True},
    ]
)


def mlflow_model(folder: Path, flavors: dict[str, Any], *lines: str, **files: bytes) -> Path:
    """A folder as MLflow writes it."""
    folder.mkdir()
    about = {"flavors": flavors, "run_id": "r1", "signature": {"inputs": INPUTS}}
    (folder / "MLmodel").write_text(yaml.safe_dump(about))
    (folder / "requirements.txt").write_text("\n".join(lines))
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def read(found: Path, tmp_path: Path, *, trusted: bool = False) -> own_source.Source:
    folder = tmp_path / "release"
    folder.mkdir()
    return own_source.read(found, folder, uri="models:/m/3", run_id=None, trusted=trusted)


def test_a_native_file_is_taken_alone_with_the_libraries_that_matter(tmp_path: Path) -> None:
    flavors = {
        "python_function": {"python_version": "3.10.4"},
        "xgboost": {"data": "model.ubj", "model_class": "xgboost.sklearn.XGBClassifier"},
    }
    lines = ("mlflow==3.17.2", "xgboost-cpu==3.1.0", "xgboost==3.1.0", "dask==2026.8", "numpy==2.2")
    found = mlflow_model(tmp_path / "m", flavors, *lines, model__ubj=b"ubj", extra__pkl=b"x")
    source = read(found, tmp_path)
    assert (source.format, source.path) == ("xgboost-ubj", "model/model.ubj")
    assert source.requirements == ("xgboost-cpu==3.1.0", "numpy==2.2")
    assert (source.python, source.run_id) == ("3.10.4", "r1")
    assert source.columns is not None
    assert [(c.name, c.type, c.nullable) for c in source.columns] == [
        ("age", "long", False),
        ("usage", "double", True),
        ("plan", "string", True),
    ]
    assert [path.name for path in (tmp_path / "release" / "model").iterdir()] == ["model.ubj"]


def test_large_onnx_weights_come_along(tmp_path: Path) -> None:
    flavors = {"onnx": {"data": "model.onnx"}, "python_function": {}}
    files = {"model__onnx": onnx_bytes([1.0], 0.0), "model__onnx__data": b"weights"}
    source = read(mlflow_model(tmp_path / "m", flavors, "onnxruntime==1.20", **files), tmp_path)
    assert source.format == "onnx"
    names = {path.name for path in (tmp_path / "release" / "model").iterdir()}
    assert names == {"model.onnx", "model.onnx.data"}


@pytest.mark.parametrize(
    ("flavors", "file"),
    [
        ({"sklearn": {"pickled_model": "model.pkl"}, "python_function": {}}, "model__pkl"),
        ({"lightgbm": {"data": "model.pkl"}, "python_function": {}}, "model__pkl"),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, "python_model__pkl"),
        ({"pytorch": {"model_data": "data"}, "python_function": {}}, "data__pth"),
    ],
)
def test_what_runs_code_needs_a_persons_word(
    flavors: dict[str, Any], file: str, tmp_path: Path
) -> None:
    files = {file: b"\x80\x04", "code__py": b"x = 1", "input_example__json": b"{}"}
    found = mlflow_model(tmp_path / "m", flavors, "mlflow==3.17.2", "scikit-learn==1.5.2", **files)
    with pytest.raises(Refused, match="runs when it is loaded") as caught:
        read(found, tmp_path)
    assert caught.value.code == "pickle_refused"

    again = tmp_path / "again"
    again.mkdir()
    source = read(found, again, trusted=True)
    assert (source.format, source.path) == ("mlflow", "model")
    assert source.requirements == ("mlflow-skinny==3.17.2", "scikit-learn==1.5.2")
    names = {path.name for path in (again / "release" / "model").iterdir()}
    assert names == {"MLmodel", "requirements.txt", file.replace("__", "."), "code.py"}


def test_a_file_says_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"version": [3, 1, 0], "learner": {}}))
    source = read(path, tmp_path)
    assert (source.format, source.requirements) == ("xgboost-json", ("xgboost-cpu>=3.1.0",))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("model.pkl", b"\x80\x04", "a pickle is not taken"),
        ("model.skops", b"no zip", r"model\.skops is not a skops file"),
        ("model.json", b"{}", r"model\.json is not an xgboost model"),
    ],
)
def test_what_is_no_model_file_is_named(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=words):
        read(path, tmp_path)


def test_a_tensor_signature_names_no_columns_and_odd_types_are_refused(tmp_path: Path) -> None:
    flavors = {"onnx": {"data": "model.onnx"}}
    found = mlflow_model(tmp_path / "m", flavors, model__onnx=b"x")
    tensor = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}])
    (found / "MLmodel").write_text(
        yaml.safe_dump({"flavors": flavors, "signature": {"inputs": tensor}})
    )
    assert read(found, tmp_path).columns is None
    odd = json.dumps([{"type": "binary", "name": "picture"}])
    (found / "MLmodel").write_text(
        yaml.safe_dump({"flavors": flavors, "signature": {"inputs": odd}})
    )
    (tmp_path / "x").mkdir()
    with pytest.raises(InvalidInput, match="'picture' is 'binary'"):
        read(found, tmp_path / "x")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file or folder"):
        own_source.fetch("nowhere.onnx", "http://mlflow", tmp_path, beside=tmp_path)
