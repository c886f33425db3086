"""A shadow judged by later labels: events and labels through a real monitor, `kill -9` between."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proa.events.event import Event, prediction_event
from proa.http.clock import WallClock, rfc3339
from proa.http.ids import new_id
from proa.ledger.tally import Sums
from tests.services.monitor.monitored import Home, Monitor

CHAMPION = "flight-delay/1@sha256:" + "1" * 64
CANDIDATE = "flight-delay/2@sha256:" + "2" * 64


def answered(
    request: str, probability: float, *, shadow: bool, entity: str | None = None, rows: int = 1
) -> Event:
    return prediction_event(
        request=request,
        model="flight-delay",
        release=CANDIDATE if shadow else CHAMPION,
        track="challenger" if shadow else "champion",
        rows=rows,
        inputs={"wind": [1.0] * rows},
        outputs={"probability": [probability] * rows, "label": [probability > 0.5] * rows},
        latency_ms=1.0,
        purpose="shadow" if shadow else "user",
        entity=None if entity is None else [entity] * rows,
        unit=f"unit-{request[-2:]}",
    )


def post(monitor: Monitor, labels: list[dict[str, Any]], *, key: str = "events") -> Any:
    headers = {"authorization": f"Bearer {monitor.home.keys[key]}"}
    url = f"{monitor.url}/v1/models/flight-delay/labels"
    return monitor.client.post(url, json={"labels": labels}, headers=headers)


def truth(monitor: Monitor, since: str) -> dict[str, Any]:
    query = f"since={since}&champion={CHAMPION}&candidate={CANDIDATE}"
    found: dict[str, Any] = monitor.get(f"/v1/models/flight-delay/truth?{query}")
    return found


def test_labels_join_both_answers_and_survive_kill_9(monitor: Monitor, home: Home) -> None:
    since, pick = rfc3339(WallClock().now()), random.Random(4)
    requests = [new_id() for _ in range(60)]
    truths = [pick.random() < 0.5 for _ in requests]
    sent = []
    for request, came in zip(requests, truths, strict=True):
        # The champion is right by 0.6, the challenger by 0.8.
        sent.append(answered(request, 0.6 if came else 0.4, shadow=False, entity=f"e-{request}"))
        sent.append(answered(request, 0.8 if came else 0.2, shadow=True, entity=f"e-{request}"))
    sent.append(answered(new_id(), 0.9, shadow=True))  # a copy whose original never came
    monitor.take(sent)
    assert truth(monitor, since)["labels"] == 0
    pairs = list(zip(requests, truths, strict=True))
    by_request = [{"request": request, "value": came} for request, came in pairs[:30]]
    by_entity = [{"entity": f"e-{request}", "value": int(came)} for request, came in pairs[30:50]]
    stray = [{"request": new_id(), "value": True}, {"entity": "nobody", "value": True}]
    for labels in (by_request, by_entity, stray):
        assert post(monitor, labels).json()["accepted"] == len(labels)
    monitor.kill()
    monitor.start()
    found = truth(monitor, since)
    assert (found["labels"], found["metric"], found["unmatched"]) == (50, "brier", 2)
    assert found["champion_loss"] == pytest.approx(0.16)
    excess = Sums(**found["excess"])
    assert excess.calls == 50
    assert excess.mean == pytest.approx(0.04 - 0.16)


def test_a_label_that_could_mean_several_rows_is_not_guessed(monitor: Monitor) -> None:
    since, request = rfc3339(WallClock().now()), new_id()
    monitor.take(
        [answered(request, 0.6, shadow=shadow, entity="e", rows=2) for shadow in (False, True)]
    )
    post(monitor, [{"request": request, "value": True}])
    found = truth(monitor, since)
    assert (found["labels"], found["unmatched"]) == (0, 1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "expected"),
        ([{"value": 1}], "labels[0]: expected request or entity"),
        ([{"request": "r", "value": 1, "when": 2}], "unknown 'when'"),
        ([{"request": "r"}], "labels[0]: expected an object with a value"),
    ],
)
def test_bad_labels_are_named(monitor: Monitor, labels: list[dict[str, Any]], message: str) -> None:
    answer = post(monitor, labels)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_labels_need_their_right(monitor: Monitor) -> None:
    assert post(monitor, [{"request": "r", "value": 1}], key="read").status_code == 403
