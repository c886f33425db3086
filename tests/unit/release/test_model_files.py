"""Model files: what a file says about itself is no reason to trust it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from proa.errors import InvalidInput, Refused
from proa.release import model_files
from proa.release.manifest import check_manifest


@pytest.fixture(scope="module")
def trees() -> Any:
    values = np.random.default_rng(0).normal(size=(60, 2))
    return HistGradientBoostingRegressor(max_iter=3).fit(values, values[:, 0])


def double(values: Any) -> Any:
    return values * 2


def test_a_model_comes_back_and_its_types_are_recorded(trees: Any, tmp_path: Path) -> None:
    types = model_files.save(trees, tmp_path)
    assert json.loads((tmp_path / model_files.TRUSTED).read_text()) == types
    path = tmp_path / model_files.MODEL
    again = model_files.load_file(path, "skops", task="regression", trusted=types)
    values = np.array([[0.1, 0.2]])
    assert again.predict(values) == trees.predict(values)


def test_a_type_the_release_does_not_list_is_refused(trees: Any, tmp_path: Path) -> None:
    types = model_files.save(trees, tmp_path)
    assert types
    with pytest.raises(Refused, match=f"{types[0]}.*not in the release's trusted.json"):
        model_files.load_file(tmp_path / model_files.MODEL, "skops", task="regression")


def test_a_function_of_the_project_is_not_stored(trees: Any, tmp_path: Path) -> None:
    model = Pipeline([("double", FunctionTransformer(double)), ("trees", trees)])
    with pytest.raises(InvalidInput, match="double") as caught:
        model_files.save(model, tmp_path)
    assert "runtime.requirements" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "os.system",
        "numpy.load",
        "pandas.read_pickle",
        "joblib.load",
        "sklearn.utils.fixes.np",  # a module, seen through scikit-learn
        "sklearn.datasets.load_svmlight_file",  # a function
        "sklearn.base.defaultdict",  # another library's class
        "sklearn.no_such_module.Thing",
        "sklearnevil.Model",
        "",
    ],
)
def test_a_listed_type_is_still_held_against_our_own_rule(name: str) -> None:
    with pytest.raises(Refused) as caught:
        model_files.check_trusted([name])
    assert caught.value.code == "untrusted_type"


def test_a_tampered_file_that_names_another_type_is_refused(trees: Any, tmp_path: Path) -> None:
    types = model_files.save(trees, tmp_path)
    path, bent = tmp_path / model_files.MODEL, tmp_path / "bent.skops"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bent, "w") as target:
        for item in source.namelist():
            content = source.read(item)
            if item == "schema.json":
                schema = content.decode().replace("TreePredictor", "np.load")
                content = schema.encode()
            target.writestr(item, content)
    with pytest.raises((Refused, InvalidInput)):
        model_files.load_file(bent, "skops", task="regression", trusted=[*types, "numpy.load"])


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_bytes_of_another_kind_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"model\.skops is not a skops file"):
        model_files.load_file(tmp_path / "model.skops", "skops", task="binary")


@pytest.mark.parametrize(
    ("model_format", "library"), [("xgboost-json", "xgboost"), ("lightgbm-text", "lightgbm")]
)
def test_a_library_this_runtime_lacks_is_named(
    model_format: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(Refused, match=f"needs {library}") as caught:
        model_files.load_file(tmp_path / "m", model_format, task="binary")
    assert caught.value.code == "library_missing"


@pytest.mark.parametrize(
    ("runtime", "trust"),
    [("platform", "own-code"), ("requirements", "formats"), ("platform", "formats")],
)
def test_code_runs_only_where_somebody_said_so_and_on_its_own_runtime(
    runtime: str, trust: str, tmp_path: Path
) -> None:
    manifest = check_manifest(
        {
            "name": "m",
            "kind": "classic",
            "runtime": {"kind": runtime, "python": "3.11"},
            "classic": {
                "task": "binary", "model": "model", "model_format": "mlflow", "columns": [],
                "trust": trust,
            },
        }
    )  # fmt: skip
    with pytest.raises(Refused, match="runs code when it is loaded") as caught:
        model_files.load(manifest, tmp_path)
    assert caught.value.code == "pickle_refused"
