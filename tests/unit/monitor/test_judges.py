"""What judges see in one window. Faked: quality, opinions and costs, which know nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from proa_monitor.judges import Judges, Occasion, Past
from proa_monitor.traffic import Traffic
from proa_monitor.window_parts import Parts
from tests.unit.monitor.test_evaluator import ONE, REFERENCE


def parts(rows: int) -> Parts:
    made = Parts.of(REFERENCE)
    assert made.counts is not None
    assert REFERENCE.profile is not None
    columns = {"wind": [10.0], "carrier": ["A"], "outputs.probability": [0.5]}
    made.counts.add_columns(
        REFERENCE.profile, {name: value * rows for name, value in columns.items()}
    )
    return made


class Unknown:
    """Knows nothing of a model."""

    def observe(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def of(self, *_: Any) -> None:
        return None


@pytest.mark.parametrize(("shared", "holds"), [(False, True), (True, None)])
def test_traffic_that_goes_to_another_release_is_no_loss_of_rows(
    shared: bool, holds: bool | None
) -> None:
    unknown = cast(Any, Unknown())
    past: Past = [(f"2013-03-{day:02}", parts(200)) for day in range(4, 26, 7)]
    asked = Occasion(
        *("m", ONE, "champion", "2013-04-01", "2013-04-02T00:00:00.000000Z"),
        reference=REFERENCE,
        parts=parts(2),
        traffic=Traffic(),
        seasons=past,
        before=past,
        traffic_before=(),
        shared=shared,
    )
    seen = Judges(unknown, unknown, unknown).observe(asked, None)
    (volume,) = (one for one in seen if one.type == "volume")
    assert volume.holds is holds
