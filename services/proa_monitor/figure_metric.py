"""A figure that somebody else computed, as a metric of Evidently 0.7. Imported by the job alone.

Evidently's own metrics compute from rows, with plots: 1.2 MB and seconds per snapshot. This one
reads a column of one row. Whoever opens a snapshot needs no code of ours.
"""

from __future__ import annotations

from typing import Any

from evidently.core.metric_types import SingleValueCalculation, SingleValueMetric

__all__ = ["Figure"]


class Figure(SingleValueMetric):  # type: ignore[misc]
    """`group` is a panel of the dashboard, `name` a line in it."""

    group: str
    name: str


class FigureCalculation(SingleValueCalculation[Figure]):  # type: ignore[misc]
    """Evidently finds it by its type argument."""

    def calculate(self, context: Any, current_data: Any, reference_data: Any) -> Any:
        column = f"{self.metric.group}/{self.metric.name}"
        return self.result(float(current_data.as_dataframe()[column].iloc[0])), None

    def display_name(self) -> str:
        return f"{self.metric.group}: {self.metric.name}"
