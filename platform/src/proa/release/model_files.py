"""Model files: how a model gets into a release and out again, without running code from a file.

Formats: skops (scikit-learn and what is built on it), xgboost-json, lightgbm-text, onnx; `mlflow`
only on a runtime that the user built, because its folders hold pickles.

A skops file names the types it is made of. skops trusts scikit-learn's public ones; each other one
must be in the release's `trusted.json`, and must be a class of a library in `TRUSTED_LIBRARIES`:
a list written by whoever wrote the file is no proof by itself.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from proa.errors import InvalidInput, Refused
from proa.release.manifest import Manifest

__all__ = ["MODEL", "TRUSTED", "TRUSTED_LIBRARIES", "check_trusted", "load", "load_file", "save"]

MODEL: Final = "model.skops"
TRUSTED: Final = "trusted.json"
TRUSTED_LIBRARIES: Final = ("sklearn", "lightgbm", "xgboost")
"""Libraries whose classes a model may be made of."""


def save(model: Any, folder: Path) -> list[str]:
    """Write `model.skops` and `trusted.json` into `folder`; returns the types beyond skops' own.

    Raises:
        InvalidInput: the model holds something that must not be loaded, such as a function of the
            project; the message names it.
    """
    import skops.io

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL
    try:
        skops.io.dump(model, path)
        types = sorted(skops.io.get_untrusted_types(file=path))
    except Exception as error:  # skops raises whatever the object's own reducers do
        raise InvalidInput(f"skops cannot store {type(model).__name__}: {error}") from error
    try:
        check_trusted(types)
    except Refused as error:
        raise InvalidInput(
            f"the model cannot be stored: {error.message}",
            hint="build it from scikit-learn, xgboost and lightgbm classes, or set "
            "runtime.requirements and store it with mlflow",
        ) from error
    (folder / TRUSTED).write_text(json.dumps(types, indent=1))
    return types


def load(manifest: Manifest, folder: Path) -> Any:
    """Load the model of a materialized classic release; its files' digests are verified already.

    Raises:
        Refused: a format or a type that this runtime must not load.
        InvalidInput: the file is not of its format.
    """
    spec = manifest.classic
    if spec is None:
        raise Refused(f"{manifest.name} is a release of kind {manifest.kind}, not classic")
    path = folder / spec.model
    if spec.model_format == "mlflow":
        if manifest.runtime.kind != "requirements":
            raise Refused(
                "model_format mlflow holds pickles: it is loaded only on a runtime of kind "
                f"requirements, this one is {manifest.runtime.kind}",
                code="pickle_refused",
                hint="set runtime.requirements in proa.yaml, or store the model as skops",
            )
        return _load_mlflow(path)
    trusted = path.with_name(TRUSTED)
    types = json.loads(trusted.read_bytes()) if trusted.is_file() else []
    return load_file(path, spec.model_format, task=spec.task, trusted=types)


def load_file(path: Path, model_format: str, *, task: str, trusted: Sequence[str] = ()) -> Any:
    """Load one model file.

    Args:
        model_format: as the manifest says it; not `mlflow`.
        task: as the manifest says it: which wrapper an xgboost or lightgbm file gets.
        trusted: types beyond skops' own that the file may hold.
    """
    readers: dict[str, Callable[[], Any]] = {
        "skops": lambda: _load_skops(path, trusted),
        "xgboost-json": lambda: _load_xgboost(path, task),
        "lightgbm-text": lambda: LightgbmModel(path),
        "onnx": lambda: OnnxModel(path),
    }
    if model_format not in readers:
        raise InvalidInput(f"model_format {model_format!r}: expected one of {sorted(readers)}")
    try:
        return readers[model_format]()
    except ImportError as error:
        raise Refused(
            f"model_format {model_format} needs {error.name}, which this runtime lacks",
            code="library_missing",
            hint=f"add {error.name} to runtime.requirements",
        ) from error


def check_trusted(types: Sequence[str]) -> None:
    """Let only classes of `TRUSTED_LIBRARIES` through, looked up under their own name.

    Raises:
        Refused: names the type and the reason.
    """
    for name in types:
        module_name, _, attribute = name.rpartition(".")
        if module_name.partition(".")[0] not in TRUSTED_LIBRARIES:
            raise _distrust(name, f"is not of {', '.join(TRUSTED_LIBRARIES)}")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise _distrust(name, "is not in this runtime") from error
        # a function can do anything, and `sklearn.x.os` is not scikit-learn
        if not inspect.isclass(found) or found.__module__ != module_name:
            raise _distrust(name, "is not a class defined there")


def _distrust(name: str, reason: str) -> Refused:
    return Refused(f"the type {name!r} {reason}", code="untrusted_type", param=name)


def _load_skops(path: Path, trusted: Sequence[str]) -> Any:
    import skops.io

    try:
        types = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # a broken zip or schema raises a different class each time
        raise InvalidInput(f"{path.name} is not a skops file: {error}") from error
    unlisted = sorted(set(types) - set(trusted))
    if unlisted:
        raise _distrust(unlisted[0], f"is not in the release's {TRUSTED}")
    check_trusted(types)
    try:
        return skops.io.load(path, trusted=list(types))
    except Exception as error:
        raise InvalidInput(f"{path.name} cannot be loaded: {error}") from error


def _load_xgboost(path: Path, task: str) -> Any:
    import xgboost

    wrappers = {"binary": "XGBClassifier", "multiclass": "XGBClassifier", "ranking": "XGBRanker"}
    model = getattr(xgboost, wrappers.get(task, "XGBRegressor"))()
    try:
        model.load_model(path)
    except (xgboost.core.XGBoostError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path.name} is not an xgboost model: {str(error)[:200]}") from error
    model.set_params(n_jobs=1)
    return model


class LightgbmModel:
    """A LightGBM text file as an estimator; columns by position."""

    def __init__(self, path: Path) -> None:
        import lightgbm

        try:
            self.booster = lightgbm.Booster(model_file=str(path), params={"num_threads": 1})
        except lightgbm.basic.LightGBMError as error:
            raise InvalidInput(f"{path.name} is not a lightgbm model: {error}") from error
        self.n_features_in_ = self.booster.num_feature()

    def predict(self, data: Any) -> Any:
        """Raw predictions, [n] or [n, k]."""
        return self.booster.predict(data, num_threads=1)

    def predict_proba(self, data: Any) -> Any:
        """Probabilities [n, k]; a binary model's one column becomes two."""
        import numpy as np

        found = np.asarray(self.predict(data))
        return found if found.ndim == 2 else np.column_stack([1.0 - found, found])


class OnnxModel:
    """An ONNX file as an estimator: one input [n, columns], or one input [n, 1] per column."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes differ by fault
            raise InvalidInput(f"{path.name} is not an ONNX model: {str(error)[:200]}") from error
        self._inputs = self._session.get_inputs()
        self.wants_frame = len(self._inputs) > 1

    def predict(self, data: Any) -> Any:
        """The first output, [n] or [n, 1]."""
        return self._run(data)[0]

    def predict_proba(self, data: Any) -> Any:
        """The last output with two dimensions, [n, k].

        Raises:
            InvalidInput: there is none (skl2onnx: convert with `zipmap=False`).
        """
        for found in reversed(self._run(data)):
            if getattr(found, "ndim", 0) == 2:
                return found
        raise InvalidInput("the ONNX model has no [n, k] output: convert it with zipmap=False")

    def _run(self, data: Any) -> Any:
        if self.wants_frame:
            feeds = {
                item.name: _as_tensor(data[[item.name]].to_numpy(), item.type)
                for item in self._inputs
            }
        else:
            feeds = {self._inputs[0].name: _as_tensor(data, self._inputs[0].type)}
        return self._session.run(None, feeds)


def _as_tensor(values: Any, kind: str) -> Any:
    import numpy as np

    kinds = {"tensor(double)": "float64", "tensor(float)": "float32", "tensor(int64)": "int64"}
    kinds |= {"tensor(bool)": "bool", "tensor(string)": "object"}
    return np.asarray(values).astype(kinds.get(kind, "float32"))


def _load_mlflow(path: Path) -> Any:
    import yaml

    try:
        flavors = yaml.safe_load((path / "MLmodel").read_bytes())["flavors"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path.name} is not an MLflow model: {error!r}") from error
    # a library's own flavour has predict_proba, python_function only predict
    names = [name for name in ("sklearn", "xgboost", "lightgbm") if name in flavors]
    module = f"mlflow.{names[0]}" if names else "mlflow.pyfunc"
    try:
        return importlib.import_module(module).load_model(str(path))
    except ImportError as error:
        raise Refused(
            f"model_format mlflow needs {error.name}, which this runtime lacks",
            code="library_missing",
            hint=f"add {error.name} to runtime.requirements",
        ) from error
