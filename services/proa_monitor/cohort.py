"""One UTC day of one release: the state of its quality, of its slices, and of protected groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import orjson

from proa.http.clock import parse_time
from proa.ledger.database import Row
from proa.quality.answered import AnsweredRow
from proa.quality.maturity import DelayDay
from proa.quality.state import QualityState

__all__ = ["OTHER", "Cohort", "cohort_of"]

_SEGMENTS: Final = 20
"""Values of one column that have a state of their own; the others share one."""
OTHER: Final = "(other)"


@dataclass(frozen=True, slots=True)
class Cohort:
    """One day.

    Attributes:
        slices: `carrier=UA` → state.
        groups: attribute → group → state.
    """

    day: str
    whole: QualityState
    slices: Mapping[str, QualityState] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, QualityState]] = field(default_factory=dict)

    def delay_day(self, now: str) -> DelayDay:
        """The day as `maturity` looks at it at a moment of event time."""
        end = parse_time(f"{self.day}T00:00:00Z") + timedelta(days=1)
        age = (parse_time(now) - end).total_seconds()
        return DelayDay(age, self.whole.rows, self.whole.delays)

    def to_json(self) -> dict[str, Any]:
        return {
            "whole": self.whole.to_json(),
            "slices": {name: state.to_json() for name, state in self.slices.items()},
            "groups": {
                attribute: {name: state.to_json() for name, state in groups.items()}
                for attribute, groups in self.groups.items()
            },
        }

    @classmethod
    def from_json(cls, day: str, value: Mapping[str, Any]) -> Cohort:
        return cls(
            day,
            QualityState.from_json(value["whole"]),
            {name: QualityState.from_json(one) for name, one in value["slices"].items()},
            {
                attribute: {name: QualityState.from_json(one) for name, one in groups.items()}
                for attribute, groups in value["groups"].items()
            },
        )


def cohort_of(day: str, found: Sequence[Row]) -> Cohort:
    """The cohort of joined rows.

    Args:
        found: event, place, form, said, decided, segments, groups, reasons, time, and of a label
            its value, time and id; a row with several labels comes once for each.
    """
    newest: dict[tuple[str, int], Row] = {}
    for row in found:
        place = (row[0], row[1])
        before = newest.get(place)
        if before is None or (row[10], row[11]) > (before[10], before[11]):
            newest[place] = row
    # a release answers in one form; should a bundle be wrong, the larger part is what counts
    forms = Counter(row[2] for row in newest.values())
    form = max(forms, key=lambda name: (forms[name], name), default="")
    rows = [(row, _answered(row)) for _, row in sorted(newest.items()) if row[2] == form]
    return Cohort(
        day,
        QualityState.of([answered for _, answered in rows]),
        {
            f"{name}={value}": QualityState.of(some, whole=False)
            for name, values in _grouped(rows, 5).items()
            for value, some in values.items()
        },
        {
            attribute: {name: QualityState.of(some, whole=False) for name, some in groups.items()}
            for attribute, groups in _grouped(rows, 6).items()
        },
    )


def _answered(row: Row) -> AnsweredRow:
    _, _, form, said, decided, _, _, reasons, time, value, seen, _ = row
    return AnsweredRow(
        form=form,
        said=said,
        decided=decided,
        truth=None if value is None else orjson.loads(value),
        delay=None if seen is None else (parse_time(seen) - parse_time(time)).total_seconds(),
        reasons=None if reasons is None else orjson.loads(reasons),
    )


def _grouped(
    rows: Sequence[tuple[Row, AnsweredRow]], column: int
) -> dict[str, dict[str, list[AnsweredRow]]]:
    """Rows by name and value of a JSON object in a column; beyond the most frequent, together."""
    found: dict[str, dict[str, list[AnsweredRow]]] = defaultdict(lambda: defaultdict(list))
    for row, answered in rows:
        if row[column] is not None:
            for name, value in orjson.loads(row[column]).items():
                found[name][value].append(answered)
    for values in found.values():
        ranked = sorted(values, key=lambda value: (-len(values[value]), value))
        for rare in ranked[_SEGMENTS:]:
            values[OTHER].extend(values.pop(rare))
    return found
