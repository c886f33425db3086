"""The sample of a model made elsewhere: inputs, labels, what the exam gets and what is left.

Units stay whole: with a `time` the last units are held out, else a fixed pick by the unit's name,
so that the same unit of the next sample falls on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from proa.errors import InvalidInput, NotFound
from proa.project.model import OwnProject
from proa.release.manifest import Column
from proa_pipelines.classic_steps import columns_of

__all__ = ["MOST_ROWS", "Sample", "read"]

MOST_ROWS: Final = 50_000
"""Rows that are used; of a larger sample, rows evenly over it."""
_READERS: Final = {
    ".parquet": pd.read_parquet,
    ".csv": pd.read_csv,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}


@dataclass(frozen=True)
class Sample:
    """Rows with what is known of them.

    Attributes:
        frame: n rows, every column of the file.
        columns: what may be inputs, in order.
        label: n labels: 0/1, class names or numbers; None without labels.
        unit: n names of the unit of independence.
        id: n names of the rows.
        time: n RFC 3339 times, or None.
        held: mask of the exam's rows; all false when there is no exam to be had.
        why_no_exam: one sentence, when there is none.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    label: NDArray[Any] | None
    unit: NDArray[Any]
    id: NDArray[Any]
    time: list[str] | None
    held: NDArray[np.bool_]
    why_no_exam: str | None
    file: str

    @property
    def digest(self) -> str:
        """SHA-256 over names, types and the hash of every row."""
        sha = hashlib.sha256(repr([(n, str(self.frame[n].dtype)) for n in self.frame]).encode())
        sha.update(pd.util.hash_pandas_object(self.frame, index=False).to_numpy().tobytes())
        return f"sha256:{sha.hexdigest()}"


def read(path: Path, settings: OwnProject, signature: Sequence[Column] | None) -> Sample:
    """Read a sample and say what each column is.

    Raises:
        NotFound: no such file.
        InvalidInput: another ending, an unreadable file, a column that is named but not there.
    """
    frame = _read(path)
    label = settings.label if settings.label in frame else None
    named = {"unit": settings.unit if settings.unit != "row" else None}
    named |= {"id": settings.id, "time": settings.time}
    for key, name in named.items():
        if name is not None and name not in frame:
            raise InvalidInput(
                f"proa.yaml: {key} = {name!r}: {path.name} has the columns {list(frame)}",
                param=key,
            )
    columns = _inputs(frame, settings, signature, path.name)
    unit = _texts(frame, named["unit"] or settings.id) if named["unit"] or settings.id else None
    ids = _texts(frame, settings.id)
    unit = ids if unit is None else unit
    time = None if settings.time is None else _times(frame[settings.time], settings.time)
    labels, why = _labels(frame, label, settings, path.name)
    held = np.zeros(len(frame), dtype=bool)
    if why is None:
        held = _held_out(unit, frame[settings.time] if settings.time else None, settings)
        why = _too_few(unit, held)
        held = held if why is None else np.zeros(len(frame), dtype=bool)
    return Sample(frame, columns, labels, unit, ids, time, held, why, path.name)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise NotFound(f"data = {str(path)!r}: no such file", param="data")
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InvalidInput(
            f"data = {path.name!r}: expected a file ending in {', '.join(_READERS)}", param="data"
        )
    try:
        frame: pd.DataFrame = reader(path)  # type: ignore[operator]
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{path.name} cannot be read: {str(error)[:300]}") from error
    if frame.empty:
        raise InvalidInput(f"{path.name} has no row", param="data")
    frame.columns = frame.columns.map(str)
    if len(frame) > MOST_ROWS:
        frame = frame.iloc[np.linspace(0, len(frame) - 1, MOST_ROWS).astype(int)]
    return frame.reset_index(drop=True)


def _inputs(
    frame: pd.DataFrame, settings: OwnProject, signature: Sequence[Column] | None, file: str
) -> tuple[Column, ...]:
    """By `columns` of the project, else by the signature, else all that have no other role."""
    if signature is not None and not settings.columns:
        missing = [column.name for column in signature if column.name not in frame]
        if missing:
            raise InvalidInput(
                f"{file} lacks the model's inputs {missing[:10]}; it has {list(frame)[:20]}",
                param=missing[0],
                code="missing_column",
            )
        return tuple(signature)
    roles = {settings.label, settings.unit, settings.id, settings.time}
    names = settings.columns or [str(name) for name in frame if name not in roles]
    missing = [name for name in names if name not in frame]
    if missing:
        raise InvalidInput(
            f"proa.yaml: columns: {missing[0]!r} is not in {file}; it has {list(frame)[:20]}",
            param="columns",
        )
    if not names:
        raise InvalidInput(f"{file} has no column beside label, unit, id and time", param="data")
    return tuple(columns_of(frame[names]))


def _texts(frame: pd.DataFrame, name: str | None) -> NDArray[Any]:
    if name is None:
        return np.array([f"row-{number}" for number in range(len(frame))], dtype=object)
    return frame[name].astype(str).to_numpy(dtype=object)


def _moments(values: pd.Series[Any]) -> pd.Series[Any]:
    """Aware times; NaT for what is none."""
    return pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601")


def _times(values: pd.Series[Any], name: str) -> list[str]:
    moments = _moments(values)
    if moments.isna().any():
        row = int(np.flatnonzero(moments.isna().to_numpy())[0])
        raise InvalidInput(
            f"column {name!r}, row {row}: {values.iloc[row]!r}: expected a time", param="time"
        )
    return [moment.isoformat() for moment in moments]


def _labels(
    frame: pd.DataFrame, name: str | None, settings: OwnProject, file: str
) -> tuple[NDArray[Any] | None, str | None]:
    """The labels as an exam wants them, and why there is no exam."""
    if name is None:
        asked = settings.label or "the line `label: COLUMN`"
        return None, f"{file} has no labels ({asked})"
    values = frame[name]
    if values.isna().any():
        missing = int(values.isna().sum())
        return None, f"{missing} of {len(values)} labels in {name!r} are missing: leave them out"
    if settings.task in ("binary", "anomaly"):
        return _zero_one(values, settings), None
    if settings.task == "multiclass":
        return values.astype(str).to_numpy(dtype=object), None
    if not pd.api.types.is_numeric_dtype(values):
        raise InvalidInput(
            f"label {name!r} is {values.dtype}: task {settings.task} expects numbers", param="label"
        )
    return values.astype(float).to_numpy(), None


def _zero_one(values: pd.Series[Any], settings: OwnProject) -> NDArray[Any]:
    if settings.classes:
        if len(settings.classes) != 2 or not set(values.astype(str)) <= set(settings.classes):
            raise InvalidInput(
                f"classes = {settings.classes}: expected the negative and the positive label of "
                f"{sorted(set(values.astype(str)))[:5]}",
                param="classes",
            )
        return (values.astype(str) == settings.classes[1]).to_numpy(dtype=float)
    if not set(values.unique()) <= {0, 1}:
        raise InvalidInput(
            f"label {settings.label!r} holds {sorted(set(values.astype(str)))[:5]}: expected 0 and "
            "1, or classes: [NEGATIVE, POSITIVE] in proa.yaml",
            param="label",
        )
    return values.astype(float).to_numpy()


def _held_out(
    unit: NDArray[Any], time: pd.Series[Any] | None, settings: OwnProject
) -> NDArray[np.bool_]:
    if time is not None:
        moments = _moments(time)
        last = moments.groupby(unit).max().sort_values()
        cut = round(len(last) * (1 - settings.holdout))
        return np.isin(unit, last.index[cut:].to_numpy())
    share = int(settings.holdout * 2**32)
    picked = {
        name: int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:4]) < share
        for name in set(unit.tolist())
    }
    return np.array([picked[name] for name in unit.tolist()], dtype=bool)


def _too_few(unit: NDArray[Any], held: NDArray[np.bool_]) -> str | None:
    rows, units = int(held.sum()), len(set(unit[held].tolist()))
    if units < 5 or rows < 20:
        return f"{rows} rows of {units} units could be held out: expected at least 20 rows, 5 units"
    if len(unit) - rows < 20:
        return f"only {len(unit) - rows} rows would be left for the reference: expected at least 20"
    return None
