"""What a project's functions get and give back.

* `ingest(start, end) -> {"examples": DataFrame, VIEW: DataFrame, …}`: examples due in [start, end)
  with entity, time, unit and label; one table per feature view (`data.ingest`)
* `validate(tables) -> list[str]`: facts that hold; raises when one does not (`data.validate`)
* `train(data: TrainingData, parameters: dict) -> estimator`: fitted, with scikit-learn's `predict`
  or `predict_proba` (`train.function`)
* `search(trial: Trial) -> dict`: the parameters of one trial (`train.search`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from proa.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from proa.release.manifest import Column

_Choice = TypeVar("_Choice", None, bool, int, float, str)


@dataclass(frozen=True)
class TrainingData:
    """Labelled rows, one index over all parts.

    Attributes:
        features: n rows, one column per input of the model, in the manifest's order. Texts are
            `object`, booleans `bool` (`object` with None when some are missing), numbers `float64`.
        label: n labels: bool or int 0/1 (binary), text (multiclass), float (regression).
        unit: n names of the unit of independence (a day, a user); rows of one unit stay together
            in every split.
        time: n aware times, the moments that the features were joined at.
        columns: name and type of each feature.
    """

    features: pd.DataFrame
    label: pd.Series[Any]
    unit: pd.Series[Any]
    time: pd.Series[Any]
    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: np.ndarray[Any, Any]) -> TrainingData:
        """The rows at the given positions, or where a boolean mask of n is true."""
        return TrainingData(
            self.features.iloc[rows],
            self.label.iloc[rows],
            self.unit.iloc[rows],
            self.time.iloc[rows],
            self.columns,
        )

    def split(self, share: float) -> tuple[TrainingData, TrainingData]:
        """The first `share` of the units in time, and the rest.

        Raises:
            InvalidInput: fewer than two units: nothing can be held out.
        """
        starts = self.time.groupby(self.unit.to_numpy()).min().sort_values()
        if len(starts) < 2:
            raise InvalidInput(
                f"training data: {len(starts)} unit(s) of independence, expected at least 2",
                hint="give a longer training window or another data.unit",
            )
        cut = min(max(round(len(starts) * share), 1), len(starts) - 1)
        early = self.unit.isin(starts.index[:cut]).to_numpy()
        return self.take(early), self.take(~early)


class Trial(Protocol):
    """One trial of a search. Names and meaning are Optuna's, whose `Trial` is one."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """An integer in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[_Choice]) -> _Choice:
        """One of `choices`."""
        ...
