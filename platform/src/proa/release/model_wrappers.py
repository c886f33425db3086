"""Models of other libraries as estimators: LightGBM's booster, an ONNX session, an MLflow pyfunc.

Each has what `proa.release.scoring` asks for: `predict`, and where it can `predict_proba` or
`score_samples`, over an array [n, columns] or, with `wants_frame`, a DataFrame.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from proa.errors import InvalidInput, Refused

__all__ = ["LightgbmModel", "OnnxModel", "PyfuncModel", "load_mlflow"]


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
        return as_probabilities(self.predict(data))


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
        width = self._inputs[0].shape[-1] if self._inputs[0].shape else None
        if not self.wants_frame and isinstance(width, int):
            self.n_features_in_ = width

    def predict(self, data: Any) -> Any:
        """The first output, [n] or [n, 1]."""
        return self._run(data)[0]

    def predict_proba(self, data: Any) -> Any:
        """The last output with two dimensions, [n, k]; one column is the positive class's.

        Raises:
            InvalidInput: there is none (skl2onnx: convert with `zipmap=False`), or its values are
                no probabilities.
        """
        for found in reversed(self._run(data)):
            if getattr(found, "ndim", 0) == 2 and found.dtype.kind == "f":
                return as_probabilities(found)
        raise InvalidInput("the ONNX model has no [n, k] output: convert it with zipmap=False")

    def _run(self, data: Any) -> Any:
        if self.wants_frame:
            feeds = {
                item.name: _as_tensor(data[[item.name]].to_numpy(), item.type)
                for item in self._inputs
            }
        else:
            feeds = {self._inputs[0].name: _as_tensor(data, self._inputs[0].type)}
        try:
            return self._session.run(None, feeds)
        except Exception as error:  # onnxruntime's classes differ by fault
            raise InvalidInput(f"the ONNX model refuses these rows: {str(error)[:200]}") from error


def _as_tensor(values: Any, kind: str) -> Any:
    import numpy as np

    kinds = {"tensor(double)": "float64", "tensor(float)": "float32", "tensor(int64)": "int64"}
    kinds |= {"tensor(bool)": "bool", "tensor(string)": "object"}
    return np.asarray(values).astype(kinds.get(kind, "float32"))


class PyfuncModel:
    """An MLflow pyfunc as an estimator; it decides itself what it answers.

    binary: [n] or [n, 1] probabilities of the positive class, or [n, 2]; multiclass: [n, k];
    anomaly: higher is stranger; else [n]. A table's column `probability`, `prediction` or `score`
    is taken when it has one, and `prediction`, `lower` and `upper` together.
    """

    wants_frame = True

    def __init__(self, model: Any) -> None:
        self._model = model
        schema = model.metadata.get_input_schema() if model.metadata is not None else None
        self._tensor = schema is not None and schema.is_tensor_spec()
        self._types = (
            {}
            if schema is None or self._tensor
            else {item.name: item.type.name for item in schema.inputs}
        )

    def predict(self, data: Any) -> Any:
        """What it answers for the rows, as an array."""
        return _values(self._model.predict(self._prepared(data)), len(data))

    def predict_proba(self, data: Any) -> Any:
        """Probabilities [n, k]."""
        return as_probabilities(self.predict(data))

    def score_samples(self, data: Any) -> Any:
        """As scikit-learn's detectors: lower is stranger."""
        return -self.predict(data).reshape(len(data))

    def _prepared(self, data: Any) -> Any:
        """The rows in the types of the model's signature, which MLflow insists on."""
        import numpy as np

        if self._tensor:
            kind = self._model.metadata.get_input_schema().inputs[0].type
            return data.to_numpy().astype(kind)
        prepared = data.copy()
        for name, kind in self._types.items():
            if name in prepared and kind in _DTYPES:
                wanted = _DTYPES[kind]
                if wanted[:3] == "int" and prepared[name].isna().any():
                    raise InvalidInput(
                        f"column {name!r}: null, but the model's signature says {kind}", param=name
                    )
                prepared[name] = prepared[name].astype(wanted)
            elif kind == "datetime":
                prepared[name] = prepared[name].dt.tz_localize(None).astype("datetime64[ns]")
            elif kind == "string":
                prepared[name] = prepared[name].replace({np.nan: None})
        return prepared


_DTYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
}
_INTERVAL = ("prediction", "lower", "upper")
_NAMED = ("probability", "prediction", "score", "predictions")


def _values(found: Any, rows: int) -> Any:
    import numpy as np

    if hasattr(found, "columns") and all(name in found for name in _INTERVAL):
        found = found[list(_INTERVAL)]
    elif hasattr(found, "columns") or isinstance(found, dict):
        name = next((name for name in _NAMED if name in found), None)
        found = found[name] if name else found
        if isinstance(found, dict):
            raise InvalidInput(f"the pyfunc answers {sorted(found)}: expected one of {_NAMED}")
    values = np.asarray(found)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if len(values) != rows or values.dtype.kind not in "biuf":
        raise InvalidInput(
            f"the pyfunc answers {values.dtype} of shape {values.shape}: expected {rows} numbers"
        )
    return values.astype(float)


def as_probabilities(found: Any) -> Any:
    """[n, k] probabilities of [n], [n, 1] (the positive class) or [n, k].

    Raises:
        InvalidInput: values outside 0 to 1: a model that ends without sigmoid or softmax.
    """
    import numpy as np

    values = np.asarray(found, dtype=float)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.size and (np.nanmin(values) < -1e-6 or np.nanmax(values) > 1 + 1e-6):
        raise InvalidInput(
            f"the model answers {np.nanmin(values):.3g} to {np.nanmax(values):.3g}: expected "
            "probabilities; end it with a sigmoid or a softmax",
            code="no_probabilities",
        )
    values = np.clip(values, 0.0, 1.0)
    return values if values.ndim == 2 else np.column_stack([1.0 - values, values])


def load_mlflow(path: Path, task: str) -> Any:
    """Load a whole MLflow model: this runs its code.

    Raises:
        InvalidInput: no MLflow model.  Refused: `library_missing`.
    """
    import yaml

    try:
        flavors = yaml.safe_load((path / "MLmodel").read_bytes())["flavors"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path.name} is not an MLflow model: {error!r}") from error
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it when imported
    try:
        # a library's own flavour has predict_proba, python_function only predict
        for name in ("sklearn", "xgboost", "lightgbm"):
            if name in flavors:
                model = importlib.import_module(f"mlflow.{name}").load_model(str(path))
                if hasattr(model, "predict_proba") or task not in ("binary", "multiclass"):
                    return model
        return PyfuncModel(importlib.import_module("mlflow.pyfunc").load_model(str(path)))
    except ImportError as error:
        raise Refused(
            f"model_format mlflow needs {error.name}, which this runtime lacks",
            code="library_missing",
            hint=f"add {error.name} to runtime.requirements",
        ) from error
