"""How a classic release turns columns into answers: shared by the predictor and the pipelines.

Columns come as JSON does (lists of numbers, texts, booleans, nulls) or as arrays; every value is
checked against the type that the manifest declares, then the model is asked once for all rows.

Null: None in checked text columns, NaN in numeric ones. In the model's DataFrame it is NaN
everywhere (NaT in times): of None, scikit-learn's OrdinalEncoder makes one more category and
ignores its `encoded_missing_value`. Booleans are `bool`, or 1.0, 0.0 and NaN as soon as one of the
column is null.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from proa.errors import Internal, InvalidInput, Refused
from proa.release.manifest import ClassicSpec, Column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = [
    "Columns",
    "Outputs",
    "answer_case",
    "check_model",
    "checked",
    "columns_of_rows",
    "frame",
    "model_input",
    "outputs",
    "row_of",
    "score",
    "thresholded",
]

Columns = Mapping[str, Sequence[Any]]
"""Column name to n values."""
Outputs = dict[str, list[Any]]
"""Output name to n values: binary `probability` and `label`; multiclass `probabilities` and
`label`; anomaly `prediction` (higher is stranger) and `label`; all other tasks `prediction`, with
`lower` and `upper` where the release gives intervals."""

_DEFAULT_THRESHOLD: Final = 0.5
_EXACT: Final = 2**53
_EXPECTED: Final = {
    "boolean": "true or false",
    "long": "a whole number",
    "double": "a finite number",
    "string": "a text",
    "datetime": "an RFC 3339 time with a zone, as 2026-11-21T11:30:00Z",
}
_NONE: Final = type(None)
# Types that need no second look; anything else is checked value by value.
_PLAIN: Final[dict[str, frozenset[type]]] = {
    "boolean": frozenset({bool}),
    "long": frozenset({int}),
    "double": frozenset({float, int}),
    "string": frozenset({str}),
    "datetime": frozenset(),
}
_PLAIN_OR_NULL: Final = {kind: types | {_NONE} for kind, types in _PLAIN.items()}


def score(model: Any, spec: ClassicSpec, columns: Columns) -> Outputs:
    """Answer n rows.

    Args:
        model: what `model_files.load` returned, or the estimator that a pipeline just trained.
        spec: the manifest's classic section.
        columns: every column of `spec.columns`, all of the same length n ≥ 1.

    Raises:
        InvalidInput: a column or value that the release does not take; the message names column,
            row, value and what was expected.
        Internal: the model answered NaN or another number of rows.
    """
    return outputs(spec, predict(model, spec, model_input(model, spec, columns)))


def checked(spec: ClassicSpec, columns: Columns) -> dict[str, list[Any]]:
    """The columns in the manifest's order, every value of its declared type, or an error.

    Numbers become float, nulls NaN (numeric) or None; times become aware datetimes.

    Raises:
        InvalidInput: `unknown_column`, `missing_column`, `row_count`, `wrong_type`, `null_value`.
    """
    found = {}
    rows = -1
    for column in spec.columns:
        name = column.name
        if name not in columns:
            raise _missing(spec, columns)
        values = columns[name]
        if type(values) is not list:
            values = _as_list(name, values)
        if rows < 0:
            rows = len(values)
        elif len(values) != rows:
            raise _uneven(spec, columns)
        found[name] = _checked_column(column, values, spec.missing == "refuse")
    if len(columns) != len(found):
        raise _unknown(spec, columns)
    if rows == 0:
        raise InvalidInput("0 rows: expected at least 1", code="row_count")
    return found


def _as_list(name: str, values: Any) -> list[Any]:
    if hasattr(values, "tolist"):  # numpy or pandas: numpy's scalars become Python's
        values = values.tolist()
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence):
        raise InvalidInput(
            f"column {name!r} is {type(values).__name__}: expected a list of values",
            code="wrong_type",
            param=name,
        )
    return list(values)


def _checked_column(column: Column, values: list[Any], refuse_nulls: bool) -> list[Any]:
    kind = column.type
    kinds = set(map(type, values))
    allowed = column.nullable and not refuse_nulls
    if kinds <= _PLAIN[kind]:
        if kind == "string" or kind == "boolean" or not values or _plain_numbers(kind, values):
            return list(map(float, values)) if int in kinds else values
    elif allowed and kinds <= _PLAIN_OR_NULL[kind]:
        if kind == "string":
            return values
        known = [value for value in values if value is not None]
        if kind != "boolean" and (not known or _plain_numbers(kind, known)):
            return [math.nan if value is None else float(value) for value in values]
    read = _READ[kind]
    found: list[Any] = [
        _null(column, row, allowed) if _is_null(value) else read(column, row, value)
        for row, value in enumerate(values)
    ]
    if kind == "boolean" and None in found:
        return [math.nan if value is None else float(value) for value in found]
    return found


def _plain_numbers(kind: str, values: list[Any]) -> bool:
    """Whether all are in range; what fails here is looked at one by one."""
    if max(map(abs, values)) > (sys.float_info.max if kind == "double" else _EXACT):
        return False
    return math.isfinite(sum(map(float, values)))  # NaN or infinity makes the sum so


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _null(column: Column, row: int, allowed: bool) -> float | None:
    if not allowed:
        rule = "is not nullable" if not column.nullable else "refuses missing values"
        subject = "this column" if not column.nullable else "this release"
        raise InvalidInput(
            f"column {column.name!r}, row {row}: null, but {subject} {rule}: "
            f"expected {_EXPECTED[column.type]}",
            code="null_value",
            param=column.name,
        )
    return math.nan if column.type in ("long", "double") else None


def _read_boolean(column: Column, row: int, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(column, row, value)


def _read_double(column: Column, row: int, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) if abs(value) <= sys.float_info.max else math.inf
        if math.isfinite(number):
            return number
    raise _wrong(column, row, value)


def _read_long(column: Column, row: int, value: Any) -> float:
    number = _read_double(column, row, value)
    if number != math.floor(number) or abs(number) > _EXACT:
        raise _wrong(column, row, value)
    return number


def _read_string(column: Column, row: int, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(column, row, value)


def _read_datetime(column: Column, row: int, value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise _wrong(column, row, value) from error
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong(column, row, value)
    return value.astimezone(UTC)


_READ: Final = {
    "boolean": _read_boolean,
    "long": _read_long,
    "double": _read_double,
    "string": _read_string,
    "datetime": _read_datetime,
}


def _wrong(column: Column, row: int, value: Any) -> InvalidInput:
    return InvalidInput(
        f"column {column.name!r}, row {row}: {value!r:.80} ({type(value).__name__}): "
        f"expected {_EXPECTED[column.type]} ({column.type})",
        code="wrong_type",
        param=column.name,
    )


def _missing(spec: ClassicSpec, columns: Mapping[str, Any]) -> InvalidInput:
    lacking = [column.name for column in spec.columns if column.name not in columns]
    return InvalidInput(
        f"missing column{'s' * (len(lacking) > 1)} {_quoted(lacking)}: expected {_listed(spec)}",
        code="missing_column",
        param=lacking[0],
    )


def _unknown(spec: ClassicSpec, columns: Mapping[str, Any]) -> InvalidInput:
    known = {column.name for column in spec.columns}
    extra = [name for name in columns if name not in known]
    return InvalidInput(
        f"unknown column{'s' * (len(extra) > 1)} {_quoted(extra)}: expected {_listed(spec)}",
        code="unknown_column",
        param=extra[0],
    )


def _uneven(spec: ClassicSpec, columns: Mapping[str, Any]) -> InvalidInput:
    lengths = {
        column.name: len(columns[column.name]) for column in spec.columns if column.name in columns
    }
    return InvalidInput(f"columns differ in length: {lengths}: expected one", code="row_count")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:20])


def _listed(spec: ClassicSpec) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in spec.columns)


def columns_of_rows(spec: ClassicSpec, rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Turn `[{column: value}, …]` into columns; a row's missing or unknown key is named.

    Raises:
        InvalidInput: no row, a row that is no object, a missing or an unknown column.
    """
    names = [column.name for column in spec.columns]
    if not rows:
        raise InvalidInput("0 rows: expected at least 1", code="row_count", param="rows")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidInput(
                f"rows[{number}] is {type(row).__name__}: expected an object of columns",
                code="wrong_type",
                param="rows",
            )
        if len(row) != len(names) or any(name not in row for name in names):
            lacks = any(name not in row for name in names)
            fault = _missing(spec, row) if lacks else _unknown(spec, row)
            raise InvalidInput(
                f"rows[{number}]: {fault.message}", code=fault.code, param=fault.param
            )
    return {name: [row[name] for row in rows] for name in names}


def frame(spec: ClassicSpec, values: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Checked columns (see `checked`) as the DataFrame that models are fitted on.

    Numeric columns are float64, texts object, booleans bool (float64 with a null), times
    datetime64[us, UTC]. Train on the same frame: `frame(spec, checked(spec, columns))`.
    """
    import pandas as pd

    series = {column.name: _series(column, values[column.name]) for column in spec.columns}
    return pd.DataFrame(series, copy=False)


def _series(column: Column, values: Sequence[Any]) -> pd.Series[Any]:
    import pandas as pd

    if column.type == "string":
        return pd.Series([math.nan if value is None else value for value in values], dtype=object)
    if column.type == "datetime":
        return pd.Series(pd.to_datetime(list(values), utc=True).astype("datetime64[us, UTC]"))
    if column.type == "boolean" and all(isinstance(value, bool) for value in values):
        return pd.Series(values, dtype=bool)
    return pd.Series(values, dtype=float)


def model_input(model: Any, spec: ClassicSpec, columns: Columns) -> Any:
    """What this model was fitted on: a DataFrame, or an array when it knows no names.

    Raises:
        InvalidInput: as `checked`.
    """
    values = checked(spec, columns)
    texts = any(column.type in ("string", "datetime") for column in spec.columns)
    if texts or hasattr(model, "feature_names_in_") or getattr(model, "wants_frame", False):
        return frame(spec, values)
    import numpy as np

    return np.array(list(values.values()), dtype=float).T.copy()


def predict(model: Any, spec: ClassicSpec, data: Any) -> np.ndarray[Any, Any]:
    """Ask the model: binary [n], multiclass [n, k], intervals [n, 3], anything else [n]; float64.

    Raises:
        InvalidInput: the model refuses a value (an unknown category, a null).
    """
    import numpy as np

    try:
        if spec.task == "binary":
            return np.asarray(model.predict_proba(data))[:, 1]
        if spec.task == "multiclass":
            return np.asarray(model.predict_proba(data))
        if spec.task == "anomaly":
            return -np.asarray(model.score_samples(data))
        found = np.asarray(model.predict(data), dtype=float)
        return found.reshape(len(data), 3) if spec.intervals else found.reshape(len(data))
    except ValueError as error:
        raise InvalidInput(
            f"the model refuses these values: {error}", code="refused_value"
        ) from error


def thresholded(spec: ClassicSpec, values: list[float]) -> list[bool]:
    """`label` of a binary or anomaly release: value ≥ threshold (0.5 when it has none)."""
    threshold = _DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
    return [value >= threshold for value in values]


def outputs(spec: ClassicSpec, raw: np.ndarray[Any, Any]) -> Outputs:
    """What the model said, as JSON lists with the threshold or the class names applied.

    Raises:
        Internal: NaN or infinity among the model's answers.
    """
    values = raw.tolist()
    total = sum(map(sum, values)) if raw.ndim == 2 else sum(values)
    if not math.isfinite(total):
        raise Internal(f"the model answered {total} for these rows", code="model_output")
    if spec.task == "multiclass":
        best = raw.argmax(axis=1).tolist()
        return {"probabilities": values, "label": [spec.classes[index] for index in best]}
    if spec.task == "binary":
        return {"probability": values, "label": thresholded(spec, values)}
    if spec.task == "anomaly" and spec.threshold is not None:
        return {"prediction": values, "label": thresholded(spec, values)}
    if spec.intervals:
        names = ("prediction", "lower", "upper")
        return {name: raw[:, place].tolist() for place, name in enumerate(names)}
    return {"prediction": values}


def row_of(found: Outputs, row: int) -> dict[str, Any]:
    """One row's outputs."""
    return {name: values[row] for name, values in found.items()}


def answer_case(model: Any, spec: ClassicSpec, case: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one selftest input `{"rows": [{column: value}]}`: the outputs of its one row."""
    return row_of(score(model, spec, columns_of_rows(spec, case["rows"])), 0)


def check_model(model: Any, spec: ClassicSpec) -> None:
    """Refuse a model that cannot answer what the manifest says, before the first request.

    Raises:
        Refused: another method, other columns, or another number of classes; both are named.
    """
    method = {"binary": "predict_proba", "multiclass": "predict_proba", "anomaly": "score_samples"}
    needed = method.get(spec.task, "predict")
    if not hasattr(model, needed):
        raise _refused(f"task {spec.task} needs {needed}(), {type(model).__name__} has none")
    names = getattr(model, "feature_names_in_", None)
    declared = [column.name for column in spec.columns]
    if names is not None and list(names) != declared:
        raise _refused(f"the model was fitted on {list(names)}, the manifest declares {declared}")
    width = getattr(model, "n_features_in_", None)
    if width is not None and width != len(declared):
        raise _refused(f"the model was fitted on {width} columns, declared are {len(declared)}")
    classes = getattr(model, "classes_", None)
    wanted = 2 if spec.task == "binary" else len(spec.classes)
    if spec.task in ("binary", "multiclass") and classes is not None and len(classes) != wanted:
        raise _refused(
            f"task {spec.task}: the model knows {len(classes)} classes, the manifest {wanted}"
        )


def _refused(message: str) -> Refused:
    return Refused(
        f"model does not fit its manifest: {message}",
        code="model_mismatch",
        hint="create the release again with the columns and classes the model was trained on",
    )
