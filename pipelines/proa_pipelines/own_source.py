"""Where a model made elsewhere comes from: MLflow, a folder or a file; what it is, what it needs.

Nothing of the model is loaded here. A format that holds numbers and names only (skops, XGBoost's
and LightGBM's own, ONNX) is taken as it is; everything else is a whole MLflow model, whose code
runs when it is loaded, and needs `trust: own-code`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from proa.errors import InvalidInput, NotFound, Refused, Unavailable
from proa.release.manifest import Column, ModelFormat
from proa.release.requirements import name_of

__all__ = ["Source", "fetch", "read"]

MODEL: Final = "model"
"""The model's folder in the bundle."""
_BY_ENDING: Final[Mapping[str, tuple[ModelFormat, str]]] = {
    ".skops": ("skops", "scikit-learn"),
    ".onnx": ("onnx", "onnxruntime"),
    ".json": ("xgboost-json", "xgboost-cpu"),
    ".ubj": ("xgboost-ubj", "xgboost-cpu"),
    ".lgb": ("lightgbm-text", "lightgbm"),
    ".txt": ("lightgbm-text", "lightgbm"),
}
_USED: Final[Mapping[str, tuple[str, ...]]] = {
    "skops": ("scikit-learn", "joblib", "skops", "pandas", "xgboost", "xgboost-cpu", "lightgbm"),
    "xgboost-json": ("xgboost", "xgboost-cpu", "scikit-learn"),
    "xgboost-ubj": ("xgboost", "xgboost-cpu", "scikit-learn"),
    "lightgbm-text": ("lightgbm", "scikit-learn"),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
}
"""What can have a say in a file of numbers and names, NumPy and SciPy aside: MLflow also lists
whatever was imported while the model was logged."""
_LEFT_OUT: Final = ("registered_model_meta", "input_example", "serving_input", "conda.yaml")
_TYPES: Final = {
    "boolean": "boolean",
    "integer": "long",
    "long": "long",
    "float": "double",
    "double": "double",
    "string": "string",
    "datetime": "datetime",
}


@dataclass(frozen=True)
class Source:
    """A model as it was found, its files below `folder/model`.

    Attributes:
        uri: as it was asked for, an alias resolved to its version.
        path: the model in the bundle.
        format: as the manifest says it.
        about: what it is, for people.
        requirements: lines of its own requirements.
        python: the Python it was made on, when known.
        columns: the inputs of its signature, when it names any.
        run_id: the MLflow run that made it.
    """

    uri: str
    path: str
    format: ModelFormat
    about: str
    requirements: tuple[str, ...]
    python: str | None = None
    columns: tuple[Column, ...] | None = None
    run_id: str | None = None


def fetch(uri: str, url: str, folder: Path, *, beside: Path) -> tuple[Path, str, str | None]:
    """Bring the model's files to this machine.

    Args:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/…`, or a path.
        url: MLflow's address.
        folder: where downloads go.
        beside: the folder that a relative path starts at.

    Returns:
        Its folder or file, the URI with an alias resolved, and the run that made it.

    Raises:
        NotFound: no such model or file.  Unavailable: MLflow does not answer.
    """
    if not uri.startswith(("models:/", "runs:/")):
        path = (beside / uri).resolve()
        if not path.exists():
            raise NotFound(
                f"from = {uri!r}: no such file or folder, and no models:/NAME/VERSION",
                param="from",
            )
        return path, path.name, None
    from proa.release.registry import prepare_mlflow

    prepare_mlflow()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient(url, url)
    mlflow.set_tracking_uri(url)
    try:
        uri, run_id = _resolved(client, uri)
        found = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=str(folder), tracking_uri=url
        )
    except MlflowException as error:
        text = str(error)[:300]
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise NotFound(f"from = {uri!r}: {text}", param="from") from error
        raise Unavailable(f"MLflow at {url}: {text}", hint="proa status") from error
    return Path(found), uri, run_id


def _resolved(client: Any, uri: str) -> tuple[str, str | None]:
    if uri.startswith("runs:/"):
        return uri, uri.removeprefix("runs:/").partition("/")[0]
    name, _, version = uri.removeprefix("models:/").partition("/")
    if "@" in name:
        name, _, alias = name.partition("@")
        version = str(client.get_model_version_by_alias(name, alias).version)
    if version == "latest":
        version = str(max(int(v.version) for v in client.search_model_versions(f"name='{name}'")))
    if not version.isdigit():
        raise InvalidInput(
            f"from = {uri!r}: expected models:/NAME/VERSION, as models:/churn/3", param="from"
        )
    found = client.get_model_version(name, version)
    if "proa.digest" in found.tags:
        raise InvalidInput(
            f"from = {uri!r}: this version is a release of proa already", param="from"
        )
    return f"models:/{name}/{version}", found.run_id


def read(found: Path, folder: Path, *, uri: str, run_id: str | None, trusted: bool) -> Source:
    """Look at a model's files and lay them below `folder/model`.

    Args:
        trusted: whether somebody wrote `trust: own-code`.

    Raises:
        Refused: `pickle_refused`: it runs code and nobody said that it may.
        InvalidInput: no format that is known here.
    """
    target = folder / MODEL
    target.mkdir(parents=True)
    if found.is_file():
        return _of_file(found, target, uri)
    described = found / "MLmodel"
    if not described.is_file():
        raise InvalidInput(
            f"from = {uri!r}: no MLmodel in it: expected an MLflow model, or a file ending in "
            f"{', '.join(_BY_ENDING)}",
            param="from",
        )
    about = yaml.safe_load(described.read_bytes())
    requirements = _requirements(found)
    flavors: Mapping[str, Any] = about.get("flavors") or {}
    whole = Source(
        uri=uri,
        path=MODEL,
        format="mlflow",
        about=f"{_flavor(flavors)} with its own code",
        requirements=tuple(requirements),
        python=(flavors.get("python_function") or {}).get("python_version"),
        columns=_columns(about.get("signature")),
        run_id=run_id or about.get("run_id"),
    )
    native = _native(found, flavors)
    if native is None:
        return _with_code(found, target, whole, trusted=trusted)
    file, kind = native
    for part in sorted(file.parent.glob(f"{file.name}*")):  # ONNX keeps large weights beside
        shutil.copyfile(part, target / part.name)
    used = (*_USED[kind], "numpy", "scipy")
    named = {name_of(line) for line in requirements}
    # MLflow lists every distribution of a module: one is enough, and the smaller one is
    twice = {"xgboost"} if "xgboost-cpu" in named else set()
    lines = [line for line in requirements if name_of(line) in {*used} - twice]
    return replace(
        whole,
        path=f"{MODEL}/{file.name}",
        format=kind,
        about=f"{_flavor(flavors)} as {file.name}",
        requirements=tuple(lines),
    )


def _of_file(file: Path, target: Path, uri: str) -> Source:
    known = _BY_ENDING.get(file.suffix)
    if known is None:
        raise InvalidInput(
            f"from = {uri!r}: expected a file ending in {', '.join(_BY_ENDING)}; a pickle is not "
            "taken: save it as skops, ONNX or the library's own text",
            param="from",
        )
    kind, library = known
    shutil.copyfile(file, target / file.name)
    return Source(
        uri=uri,
        path=f"{MODEL}/{file.name}",
        format=kind,
        about=f"{kind} file",
        requirements=_needed_by(file, kind, library),
    )


def _needed_by(file: Path, kind: str, library: str) -> tuple[str, ...]:
    """The library's version where the file tells it, else any."""
    if kind == "skops":
        try:
            with zipfile.ZipFile(file) as archive:
                schema = archive.read("schema.json").decode()
        except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{file.name} is not a skops file: {error}") from error
        match = re.search(r'"_sklearn_version":\s*\{[^{}]*?"content":\s*"\\"([\d.]+)', schema)
        return (f"scikit-learn=={match[1]}",) if match else (library,)
    if kind == "xgboost-json":
        try:
            version = ".".join(map(str, json.loads(file.read_bytes())["version"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{file.name} is not an xgboost model: {error!r}") from error
        return (f"{library}>={version}",)
    return (library,)


def _native(found: Path, flavors: Mapping[str, Any]) -> tuple[Path, ModelFormat] | None:
    """The file that can be loaded without running code, if the model has one."""
    for name, key in (("sklearn", "pickled_model"), ("xgboost", "data"), ("lightgbm", "data"),
                      ("onnx", "data")):  # fmt: skip
        flavor = flavors.get(name)
        if flavor is None:
            continue
        named = flavor.get(key) or flavor.get("data") or ""
        file = found / str(named)
        if not named or not file.is_file():
            continue
        known = _BY_ENDING.get(file.suffix)
        if known is not None and (name != "sklearn" or file.suffix == ".skops"):
            return file, known[0]
    return None


def _flavor(flavors: Mapping[str, Any]) -> str:
    names = [name for name in flavors if name != "python_function"]
    if not names:
        return "python_function"
    kind = flavors[names[0]].get("model_class") or flavors[names[0]].get("sklearn_version")
    return f"{names[0]} ({kind})" if kind else names[0]


def _with_code(found: Path, target: Path, whole: Source, *, trusted: bool) -> Source:
    if not trusted:
        raise Refused(
            f"from = {whole.uri!r} is {whole.about}, which runs when it is loaded",
            code="pickle_refused",
            hint="if you know who made it, write trust: own-code; else log it as skops "
            "(mlflow.sklearn), as the library's own booster, or as ONNX",
        )
    for file in sorted(found.rglob("*")):
        inner = file.relative_to(found)
        left_out = inner.name.startswith(_LEFT_OUT) and len(inner.parts) == 1
        if file.is_file() and not left_out and "__pycache__" not in inner.parts:
            (target / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / inner)
    lines = [re.sub(r"^mlflow(?=[=<>!~ ]|$)", "mlflow-skinny", line) for line in whole.requirements]
    if not any(name_of(line) == "mlflow-skinny" for line in lines):
        lines.append("mlflow-skinny>=2")
    return replace(whole, requirements=tuple(lines))


def _requirements(found: Path) -> list[str]:
    """The lines of the model's `requirements.txt`, else of its `conda.yaml`."""
    file, conda = found / "requirements.txt", found / "conda.yaml"
    if file.is_file():
        lines = file.read_text().splitlines()
    elif conda.is_file():
        listed = (yaml.safe_load(conda.read_bytes()) or {}).get("dependencies") or []
        nested = [item["pip"] for item in listed if isinstance(item, dict) and "pip" in item]
        lines = [str(line) for part in nested for line in part]
    else:
        lines = []
    plain = (line.partition("#")[0].strip() for line in lines)
    return [line for line in plain if line]


def _columns(signature: Mapping[str, Any] | None) -> tuple[Column, ...] | None:
    """The named inputs of an MLflow signature; None when it has none or one nameless tensor."""
    if not signature or not signature.get("inputs"):
        return None
    found = []
    for item in json.loads(signature["inputs"]):
        if item.get("type") == "tensor" or "name" not in item:
            return None
        kind = _TYPES.get(str(item.get("type")))
        if kind is None:
            raise InvalidInput(
                f"the signature's input {item['name']!r} is {item.get('type')!r}: expected one of "
                f"{', '.join(_TYPES)}",
                param=item["name"],
            )
        found.append(
            Column.model_validate(
                {"name": item["name"], "type": kind, "nullable": kind in ("double", "string")}
            )
        )
    return tuple(found)
