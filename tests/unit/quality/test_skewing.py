"""Skew that a pipeline posts, and the rows it asks the offline path about."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from proa.errors import InvalidInput
from proa.events.event import prediction_event
from proa.release.manifest import FeatureView
from proa_monitor.skewing import served_rows, skew_seen
from proa_pipelines.skew import offline_rows

RELEASE = "flight-delay/1@sha256:" + "1" * 64
ROWS = [{"wind": float(k), "carrier": "UA"} for k in range(30)]


def body(**changes: Any) -> dict[str, Any]:
    base = {"release": RELEASE, "time": "2013-04-02T10:00:00Z", "online": ROWS, "offline": ROWS}
    return base | changes


def test_rows_side_by_side_make_observations() -> None:
    seen = skew_seen("flight-delay", body())
    assert (seen.release, seen.track, seen.time) == (RELEASE, "", "2013-04-02T10:00:00.000000Z")
    assert {one.subject: one.holds for one in seen.observations} == {
        "carrier": False,
        "wind": False,
    }
    shifted = [row | {"wind": float(k) + 1} for k, row in enumerate(ROWS)]
    seen = skew_seen("flight-delay", body(online=shifted, track="champion"))
    held = [one for one in seen.observations if one.holds]
    assert [one.subject for one in held] == ["wind"]
    assert held[0].effect == 1.0
    assert held[0].evidence["largest"] == 1.0


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"release": "other/1@sha256:" + "1" * 64}, "release"),
        ({"release": None}, "release"),
        ({"track": "canary"}, "track"),
        ({"time": "yesterday"}, "time"),
        ({"online": "rows"}, "online"),
        ({"offline": [1]}, "offline"),
        ({"offline": []}, "offline"),
        ({"online": [{}] * 5001}, "online"),
        ({"extra": 1}, "skew"),
    ],
)
def test_another_shape_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        skew_seen("flight-delay", body(**changes))
    assert refused.value.param == param


def test_served_rows_say_whom_and_when() -> None:
    event = prediction_event(
        request="r",
        model="flight-delay",
        release=RELEASE,
        track="champion",
        rows=2,
        inputs={"wind": [1.0, 2.0]},
        outputs={},
        latency_ms=1.0,
        entity=["a", None],
        time="2013-04-02T10:00:00.000000Z",
    )
    row = {
        "entity": "a",
        "time": "2013-04-02T10:00:00.000000Z",
        "release": RELEASE,
        "track": "champion",
        "inputs": {"wind": 1.0},
    }
    shadow = event | {"purpose": "shadow"}
    assert served_rows([event, shadow], limit=10) == [row]
    many = [
        event | {"id": str(k), "request": f"r{k}", "entity": [f"e{k}", None]} for k in range(50)
    ]
    some = served_rows(many, limit=5)
    assert len(some) == 5
    assert served_rows(reversed(many), limit=5) == some


def test_offline_rows_are_those_that_were_served() -> None:
    views = [FeatureView(view="schedule_v1", features=["wind"], join_key="flight_id")]

    def join(examples: pd.DataFrame) -> pd.DataFrame:
        assert list(examples["flight_id"]) == ["a", "b"]
        assert str(examples["time"].dtype).endswith("UTC]")
        return examples.assign(wind=[1.0, float("nan")])

    rows = [{"entity": name, "time": "2013-04-02T10:00:00Z"} for name in ("a", "b")]
    assert offline_rows(rows, views, join) == [{"wind": 1.0}, {"wind": None}]
    with pytest.raises(InvalidInput, match="2 rows were served, 1 were joined"):
        offline_rows(rows, views, lambda examples: join(examples).head(1))
