"""Questions by entity: a real feature server (Feast) in front of a real predictor.

The release reads two views; the second one's key is a feature of the first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from proa.release import scoring
from tests import classic_release
from tests.processes import Processes, free_port
from tests.services.features.airports import START, VIEWS

INFER = "/v2/models/flight-delay/infer"
NOON = START + timedelta(hours=12)
AT_NOON = {"x-proa-event-time": NOON.isoformat()}
COLUMNS = [
    {"name": "origin", "type": "string"},
    {"name": "miles", "type": "long"},
    {"name": "temp", "type": "double"},
]
_FILL = (
    "import sys; from datetime import datetime; from pathlib import Path;"
    "from tests.services.features.test_feast_online import fill;"
    "fill(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]))"
)


def examples() -> tuple[dict[str, list[Any]], Any]:
    """Trips as the store has them."""
    random = np.random.default_rng(0)
    miles, cold = random.integers(0, 200, 600), random.normal(50, 30, 600)
    columns = {
        "origin": random.choice(["EWR", "JFK"], 600).tolist(),
        "miles": miles.tolist(),
        "temp": cold.tolist(),
    }
    return columns, random.random(600) < 1 / (1 + np.exp(-(miles - cold) / 40))


class Fleet(NamedTuple):
    """A release, a client of its predictor, and how to start another one."""

    release: classic_release.Built
    client: httpx.Client
    running: Processes
    features: Any
    work: Path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The feature server with materialized trips and weather, and the predictor."""
    home = tmp_path_factory.mktemp("entity")
    running = Processes(tmp_path_factory.mktemp("processes"))
    folder = home / "feast"
    root = Path(__file__).parents[3]
    argv = [sys.executable, "-W", "ignore", "-c", _FILL, str(folder), NOON.isoformat()]
    subprocess.run(argv, check=True, cwd=root, timeout=180, env=dict(os.environ))
    server = ["python", "-m", "proa.features.server", "--folder", folder, "--port", "{port}"]
    features = running.start(server, deadline=90)
    release = classic_release.build(
        home,
        columns=COLUMNS,
        entity="trip_id",
        feature_views=[view.model_dump() for view in VIEWS],
        examples=examples(),
    )
    argv = release.argv(home / "work", "--features", features.url)
    url = running.start(argv, deadline=60).url
    with httpx.Client(base_url=url, timeout=30) as client:
        yield Fleet(release, client, running, features, home / "work")
    running.close()


def by_entity(*trips: Any) -> dict[str, Any]:
    tensor = {"name": "trip_id", "shape": [len(trips)], "datatype": "BYTES", "data": list(trips)}
    return {"inputs": [tensor]}


def error(fleet: Fleet, body: Any, headers: dict[str, str], status: int) -> dict[str, Any]:
    path = INFER if "inputs" in body else "/v1/predict"
    answer = fleet.client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["error"]
    return found


def test_an_entity_is_answered_as_its_raw_columns_are(fleet: Fleet) -> None:
    asked = by_entity("t1", "t0")
    found = fleet.client.post(INFER, json=asked, headers=AT_NOON).json()["outputs"][0]["data"]
    raw = {"origin": ["JFK", "EWR"], "miles": [1, 0], "temp": [112.0, 12.0]}
    truth = scoring.score(fleet.release.model, fleet.release.spec, raw)["probability"]
    assert found == truth
    plain = {"entities": [{"trip_id": "t1"}, {"trip_id": "t0"}]}
    rows = fleet.client.post("/v1/predict", json=plain, headers=AT_NOON).json()["predictions"]
    assert [row["probability"] for row in rows] == truth


def test_raw_columns_may_say_whom_they_are_about(fleet: Fleet) -> None:
    row = {"trip_id": "t1", "origin": "JFK", "miles": 1, "temp": 112.0}
    answer = fleet.client.post("/v1/predict", json={"rows": [row]})
    assert answer.status_code == 200, answer.text


def test_an_unknown_entity_is_named(fleet: Fleet) -> None:
    found = error(fleet, by_entity("t1", "nobody"), AT_NOON, 404)
    assert found["code"] == "unknown_entity"
    assert "trip_id 'nobody' has no row in feature view trip_v1" in found["message"]


def test_a_stale_feature_is_refused_with_its_age(fleet: Fleet) -> None:
    later = {"x-proa-event-time": (NOON + timedelta(hours=4)).isoformat()}
    found = error(fleet, by_entity("t1"), later, 503)
    assert found["code"] == "stale_feature"
    assert "weather_v1" in found["message"]
    assert "14400 s old, allowed are 10800 s" in found["message"]


def test_without_event_time_the_age_is_counted_from_now(fleet: Fleet) -> None:
    """The rows are of January 2013."""
    assert error(fleet, by_entity("t1"), {}, 503)["code"] == "stale_feature"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"entities": [{}]}, "entities[0] = {}: expected an object with trip_id"),
        ({"entities": [{"trip_id": "t1", "x": 1}]}, "expected an object with trip_id"),
        ({"entities": []}, "0 rows"),
        ({"entities": [{"trip_id": None}]}, "trip_id[0] is null"),
        ({"rows": [{"trip_id": "t1"}]}, "missing columns 'origin', 'miles', 'temp'"),
    ],
)
def test_a_wrong_question_by_entity(fleet: Fleet, body: dict[str, Any], words: str) -> None:
    assert words in error(fleet, body, AT_NOON, 400)["message"]


def test_without_a_feature_server_raw_columns_are_still_answered(fleet: Fleet) -> None:
    """One predictor was started without features, one with a server that is down."""
    row = {"origin": "JFK", "miles": 1, "temp": 112.0}
    down = f"http://127.0.0.1:{free_port()}"
    for more, status, code in (((), 400, "no_features"), (("--features", down), 503, None)):
        url = fleet.running.start(fleet.release.argv(fleet.work, *more), deadline=60).url
        answer = httpx.post(url + INFER, json=by_entity("t1"), headers=AT_NOON)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == (code or "features_unavailable")
        assert httpx.post(f"{url}/v1/predict", json={"rows": [row]}).status_code == 200
