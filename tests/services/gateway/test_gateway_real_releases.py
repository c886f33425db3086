"""The facts a canary counts, from a real predictor and a real assistant through a real gateway.

Faked: the monitor (it keeps events in this process) and the assistant's engine and embedder, as
`tests.services.assistant.conftest` says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from proa.http.clock import WallClock, rfc3339
from proa.ledger.tally import Tally, parse_tally
from proa.release.facts import probability_bin
from tests import classic_release
from tests.processes import Processes, wait_until
from tests.services.assistant.conftest import (
    MODEL,
    Collector,
    assistant_process,
    engine_process,
    make_release,
)

from .conftest import House


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.close()


@pytest.fixture
def processes(collector: Collector, tmp_path: Path) -> Iterator[Processes]:
    """Gone before the collector, so that last events find it."""
    started = Processes(tmp_path)
    yield started
    started.close()


def tallies(house: House, model: str, purpose: str = "user") -> dict[str, Tally]:
    query = {"model": model, "since": house.since, "purpose": purpose}
    wire = house.reader.get("/proa/v1/tallies", params=query).json()
    return {release: parse_tally(tally) for release, tally in wire["releases"].items()}


def two_predictors(
    house: House, collector: Collector, folder: Path
) -> tuple[classic_release.Built, classic_release.Built]:
    """A champion and, in its shadow, one that learnt from other rows."""
    key = folder / "events.key"
    key.write_text("any")
    with threadpool_limits(1):  # many small trainings at once would wait for each other's threads
        one, two = (
            classic_release.build(
                folder / f"release-{number}",
                examples=classic_release.data(800, seed=number),
                version=number,
                trees=4,
            )
            for number in (1, 2)
        )
    urls = []
    for release in (one, two):
        argv = release.argv(folder / f"work-{release.ref.version}", "--monitor", collector.url)
        urls.append(house.processes.start([*argv, "--key-file", key], deadline=60).url)
    house.route(
        "flight-delay",
        champion=(str(one.ref), urls[0], True, 100),
        challenger=(str(two.ref), urls[1], True, 0, True),
    )
    house.start()
    house.since = rfc3339(WallClock().now())
    return one, two


def scored(built: classic_release.Built, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What the model itself says."""
    columns = classic_release.scoring.columns_of_rows(built.spec, rows)
    return classic_release.scoring.score(built.model, built.spec, columns)


def test_two_real_predictors_one_in_the_shadow(
    house: House, collector: Collector, tmp_path: Path
) -> None:
    one, two = two_predictors(house, collector, tmp_path)
    client = house.client("call")
    bins: list[Counter[int]] = [Counter(), Counter()]
    alike, requests = [], []
    for start in range(0, 60, 3):
        rows = one.rows(3, start)
        answer = client.post(
            "/v1/models/flight-delay/predict",
            json={"rows": rows},
            headers={"x-proa-unit": f"u{start % 9}"},
        )
        assert answer.status_code == 200, answer.text
        assert "x-proa-facts" not in answer.headers
        requests.append(answer.headers["x-proa-request"])
        said = [scored(built, rows) for built in (one, two)]
        for counter, outputs in zip(bins, said, strict=True):
            counter.update(map(probability_bin, outputs["probability"]))
        labels = zip(said[0]["label"], said[1]["label"], strict=True)
        alike.append(sum(a == b for a, b in labels) / 3)
    wait_until(lambda: sum(t.calls for t in tallies(house, one.ref.name, "shadow").values()) == 20)
    users, shadow = tallies(house, one.ref.name), tallies(house, one.ref.name, "shadow")
    assert (users.keys(), shadow.keys()) == ({str(one.ref)}, {str(two.ref)})
    champion, challenger = users[str(one.ref)], shadow[str(two.ref)]
    assert (champion.calls, champion.units) == (challenger.calls, challenger.units) == (20, 3)
    assert champion.of("predictions").total == 60
    assert [champion.predictions, challenger.predictions] == bins
    assert challenger.of("agreed").mean == pytest.approx(sum(alike) / 20, abs=1e-4)
    wait_until(lambda: len(collector.events) == 40)
    by_purpose = {
        purpose: {e["request"] for e in collector.events if e["purpose"] == purpose}
        for purpose in ("user", "shadow")
    }
    assert by_purpose["user"] == by_purpose["shadow"] == set(requests)


def test_a_real_assistant_s_refusals_and_guard_hits(
    house: House, collector: Collector, processes: Processes, tmp_path: Path
) -> None:
    release = make_release(tmp_path / "release")
    engine = engine_process(processes, tmp_path)
    assistant = assistant_process(processes, tmp_path, release, engine.url, collector.url)
    house.route(MODEL, "llm", champion=(str(release.ref), assistant.url, True, 100))
    house.start()
    house.since = rfc3339(WallClock().now())
    client = house.client("call")
    for stream in (False, True):
        for question in ("Is a tuple immutable?", "My card is 4111 1111 1111 1111"):
            body = {"model": MODEL, "stream": stream, "user": f"ann-{stream}"}
            messages = [{"role": "user", "content": question}]
            answer = client.post("/v1/chat/completions", json={**body, "messages": messages})
            assert answer.status_code == 200, answer.text
    calls = house.calls()
    assert [call["refused"] for call in calls] == [False, True] * 2
    assert [call["guard_hits"] > 0 for call in calls] == [False, True] * 2
    assert [call["finish_reason"] for call in calls] == ["stop", "content_filter"] * 2, json.dumps(
        calls
    )
    tally = tallies(house, MODEL)[str(release.ref)]
    assert (tally.calls, tally.units) == (4, 2)
    assert tally.of("refusals").mean == tally.of("guard_hits").mean == 0.5
    assert tally.of("length_stops").calls == 4
    assert tally.of("tokens_out").total == sum(call["tokens_out"] for call in calls) > 0
