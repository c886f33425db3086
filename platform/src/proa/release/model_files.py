"""Model files: how a model gets into a release and out again, without running code from a file.

Formats: skops (scikit-learn and what is built on it), xgboost-json, xgboost-ubj, lightgbm-text and
onnx hold numbers and names only. `mlflow` is a whole MLflow model, whose pickles and code run when
it is loaded: only on a runtime of its own and with `trust: own-code`, which a person wrote.

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
from proa.release.model_wrappers import LightgbmModel, OnnxModel, load_mlflow

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
        if spec.trust != "own-code" or manifest.runtime.kind != "requirements":
            raise Refused(
                "model_format mlflow runs code when it is loaded: it needs trust: own-code and a "
                f"runtime of kind requirements; this release says trust: {spec.trust} and "
                f"{manifest.runtime.kind}",
                code="pickle_refused",
                hint="write trust: own-code if you know who made it, or store the model as skops, "
                "ONNX or its library's own text",
            )
        return load_mlflow(path, spec.task)
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
        "xgboost-ubj": lambda: _load_xgboost(path, task),
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
