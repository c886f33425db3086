"""The training set as one step writes it and the next reads it: parquet and its description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from proa.release import scoring
from proa.release.manifest import ClassicSpec, Column, DataSnapshot
from proa.training import TrainingData


@dataclass(frozen=True)
class Dataset:
    """Joined, labelled rows with the description of every input column.

    Attributes:
        frame: the inputs, and `label`, `unit`, `time`, `entity` under the names of the project.
        data: what a train function gets.
        snapshot: digest, rows and window, for the manifest.
    """

    frame: pd.DataFrame
    data: TrainingData
    snapshot: DataSnapshot
    names: dict[str, str]


def save(
    folder: Path, frame: pd.DataFrame, columns: list[Column], names: dict[str, str], about: str
) -> DataSnapshot:
    """Write the training set.

    Args:
        names: the frame's columns that play `label`, `unit`, `time` (and `entity`, if any).
        about: one sentence for the manifest's data section.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frame = frame.sort_values([names["time"], *filter(None, [names.get("entity")])])
    frame = frame.reset_index(drop=True)
    frame.to_parquet(folder / "rows.parquet", index=False)
    times = frame[names["time"]]
    snapshot = DataSnapshot(
        digest=_digest(frame),
        rows=len(frame),
        start=times.min().isoformat(),
        end=times.max().isoformat(),
        description=about,
    )
    about_file = {
        "columns": [column.model_dump() for column in columns],
        "names": names,
        "snapshot": snapshot.model_dump(),
    }
    (folder / "dataset.json").write_text(json.dumps(about_file, indent=1))
    return snapshot


def load(folder: Path) -> Dataset:
    """Read what `save` wrote."""
    about = json.loads((folder / "dataset.json").read_text())
    frame = pd.read_parquet(folder / "rows.parquet")
    columns = tuple(Column(**column) for column in about["columns"])
    names = about["names"]
    data = TrainingData(
        features=inputs(frame, columns),
        label=frame[names["label"]],
        unit=frame[names["unit"]].astype(str),
        time=frame[names["time"]],
        columns=columns,
    )
    return Dataset(frame, data, DataSnapshot(**about["snapshot"]), names)


def inputs(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """The model's input, checked and built by the code that the predictor runs."""
    spec = ClassicSpec(task="regression", model="model", columns=list(columns))
    values: dict[str, Any] = {c.name: frame[c.name] for c in columns if c.name in frame}
    return scoring.frame(spec, scoring.checked(spec, values))


def _digest(frame: pd.DataFrame) -> str:
    """SHA-256 over names, types and the hash of every row."""
    sha = hashlib.sha256(repr([(name, str(frame[name].dtype)) for name in frame]).encode())
    sha.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return f"sha256:{sha.hexdigest()}"
