"""The monitor's HTTP interface: a real process over loopback, a real bundle store, nothing faked
but the releases' model files, which the monitor never opens."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import orjson
import pytest

from proa.events.emitter import DROPPED, EMITTER, Emitter
from proa.events.event import label_event
from proa.http.ids import new_id
from tests.processes import Processes, wait_until
from tests.services.monitor.monitored import Home, Monitor, Start, answer_of, day, prediction


def test_events_become_windows_of_their_release(monitor: Monitor, home: Home) -> None:
    pick = random.Random(2)
    sent = [prediction(home, pick, time=day("2013-04-01")) for _ in range(150)]
    sent += [prediction(home, pick, time=day("2013-04-02"), shift=9) for _ in range(150)]
    sent += [answer_of(home, pick, shown=k % 5, time=day("2013-04-02")) for k in range(120)]
    assert monitor.take(sent) == {"accepted": 420, "duplicates": 0, "rejected": []}

    view = monitor.get("/v1/models/flight-delay")
    (release,) = view["releases"]
    assert (release["release"], release["track"], release["calls"]) == (
        home.flight,
        "champion",
        300,
    )
    windy, calm = release["windows"]
    assert (windy["name"], calm["name"]) == ("2013-04-02", "2013-04-01")
    assert calm["drift"]["state"] == "no drift"
    assert windy["drift"]["state"] == "drift"
    assert windy["drift"]["feature"] in ("wind", "outputs.probability")
    assert "changed" in windy["drift"]["meaning"]
    wind = windy["drift"]["features"]["wind"]
    assert sum(wind["counts"]) == wind["rows"] == 150
    assert len(wind["bins"]) == len(wind["counts"]) == len(wind["reference"])

    fleet = monitor.get("/v1/models")["models"]
    assert [(m["name"], m["kind"], m["calls"]) for m in fleet] == [
        ("flight-delay", "classic", 300),
        ("python-help", "llm", 120),
    ]
    talk = monitor.get("/v1/models/python-help")["releases"][0]["windows"][0]
    assert talk["tokens_out"] > 0
    assert talk["drift"]["state"] == "no drift"
    assert "retrieval_score" in talk["drift"]["features"]


def test_metrics_say_the_same(monitor: Monitor, home: Home) -> None:
    pick = random.Random(3)
    failed = {"rows": 0, "inputs": {}, "outputs": {}, "status": 500}
    events = [prediction(home, pick, shift=9) for _ in range(200)]
    events += [prediction(home, pick, **failed) for _ in range(3)]
    events += [answer_of(home, pick, refused=k < 2) for k in range(7)]
    events[0]["inputs"] |= {"carrier": ["ZZ"], "wind": [None]}
    monitor.take(events)
    flight = {"model": "flight-delay", "release": "flight-delay/1", "track": "champion"}
    assert monitor.metric("proa_model_calls_total", **flight) == 203
    assert monitor.metric("proa_model_errors_total", **flight) == 3
    assert monitor.metric("proa_model_latency_seconds_count", **flight) == 203
    assert monitor.metric("proa_window_rows", **flight) == 200
    assert monitor.metric("proa_window_feature_rows", feature="wind") == 200
    assert monitor.metric("proa_window_values", feature="carrier", bin="new") == 1
    assert (monitor.metric("proa_window_values", feature="wind", bin="null") or 0) >= 1
    assert (monitor.metric("proa_drift_ratio", **flight) or 0) > 1
    assert (monitor.metric("proa_drift_psi", feature="wind") or 0) > 0.5
    assert monitor.metric("proa_model_refusals_total", model="python-help") == 2
    assert monitor.metric("proa_model_tokens_total", direction="out") == sum(
        event["tokens_out"] for event in events[203:]
    )
    assert monitor.metric("proa_drift_enough_data", model="python-help") == 0
    assert monitor.metric("proa_drift_ratio", model="python-help") is None
    assert monitor.metric("proa_monitor_events_total", type="prediction", purpose="user") == 203


def test_the_same_event_counts_once(monitor: Monitor, home: Home) -> None:
    pick = random.Random(4)
    events = [prediction(home, pick) for _ in range(10)]
    assert monitor.take(events)["accepted"] == 10
    again = monitor.take([*events[5:], prediction(home, pick), events[0]])
    assert (again["accepted"], again["duplicates"]) == (1, 6)
    twice = prediction(home, pick)
    assert monitor.take([twice, twice]) == {"accepted": 1, "duplicates": 1, "rejected": []}
    assert monitor.metric("proa_model_calls_total") == 12
    assert monitor.metric("proa_monitor_duplicates_total") == 7


def test_each_line_has_its_verdict(monitor: Monitor, home: Home) -> None:
    pick = random.Random(5)
    good = [prediction(home, pick) for _ in range(3)]
    lines = [
        orjson.dumps(good[0]),
        b"{not json",
        b"",
        orjson.dumps(good[1] | {"latency_ms": "fast"}),
        orjson.dumps(good[1] | {"schema_version": 2}),
        orjson.dumps({k: v for k, v in good[1].items() if k != "request"}),
        orjson.dumps(good[1] | {"surprise": 1}),
        orjson.dumps(good[1] | {"question": "x" * (1 << 20)}),
        b"7",
        orjson.dumps(good[2]) + b"  \r",
    ]
    verdict = monitor.take(b"\n".join(lines))
    assert verdict["accepted"] == 2
    assert {r["line"]: r["error"].split()[0] for r in verdict["rejected"]} == {
        2: "not",
        4: "latency_ms",
        5: "schema_version",
        6: "request",
        7: "'surprise'",
        8: "the",
        9: "an",
    }
    assert monitor.metric("proa_monitor_rejected_total", key="latency_ms") == 1
    assert monitor.metric("proa_model_calls_total") == 2


def test_an_array_is_taken_too(monitor: Monitor, home: Home) -> None:
    pick = random.Random(6)
    events = [prediction(home, pick) for _ in range(3)]
    assert monitor.take(orjson.dumps([*events, 5]))["accepted"] == 3
    assert monitor.send(b"[1,").status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"  \n ", 400, "invalid_json"),
        (b"x" * (10 << 20), 413, "body_too_large"),
        (b"{}\n" * 20_001, 400, "too_many_events"),
    ],
    ids=["empty", "blank", "10 MB", "too many"],
)
def test_bodies_are_bounded(monitor: Monitor, body: bytes, status: int, code: str) -> None:
    answer = monitor.send(body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert monitor.ask("/readyz").status_code == 200


def test_keys_and_rights(monitor: Monitor, home: Home) -> None:
    event = [prediction(home, random.Random(7))]
    assert monitor.send(event, key="").status_code == 401
    assert monitor.send(event, key="read").status_code == 403
    for path in ("/v1/models", "/v1/models/x", "/v1/requests", "/v1/reports/x"):
        assert monitor.ask(path, key="").status_code == 401
        assert monitor.ask(path, key="events").status_code == 403
    assert monitor.ask("/v1/models/nobody").status_code == 404
    assert monitor.ask("/v1/nowhere").json()["error"]["code"] == "unknown_path"
    assert monitor.ask("/v1/events").status_code == 405


def test_who_may_not_set_the_time_gets_the_time_of_arrival(monitor: Monitor, home: Home) -> None:
    pick = random.Random(8)
    for moment in ("2013-04-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        monitor.take([prediction(home, pick, time=moment)], key="events")
    assert monitor.metric("proa_monitor_replaced_times_total") == 2
    (release,) = monitor.get("/v1/models/flight-delay")["releases"]
    assert len(release["windows"]) == 1
    assert release["windows"][0]["calls"] == 2
    monitor.take([prediction(home, pick, time="2013-04-01T02:00:00+02:00")], key="service")
    names = [w["name"] for w in monitor.get("/v1/models/flight-delay")["releases"][0]["windows"]]
    assert names[1:] == ["2013-04-01"]


def test_exam_traffic_is_stored_but_in_no_window(monitor: Monitor, home: Home) -> None:
    pick = random.Random(9)
    gate = [prediction(home, pick, purpose="gate", track="challenger") for _ in range(5)]
    user = [prediction(home, pick)]
    monitor.take(gate + user)
    assert monitor.metric("proa_model_calls_total") == 1
    assert monitor.metric("proa_monitor_events_total", purpose="gate") == 5
    found = monitor.get("/v1/requests?model=flight-delay")
    assert found["count"] == 6
    assert monitor.get("/v1/requests?purpose=user")["requests"] == [user[0]["request"]]


def test_requests_are_found_by_time_of_arrival(monitor: Monitor, home: Home) -> None:
    pick = random.Random(10)
    sent = [prediction(home, pick, time=day("2013-04-01")) for _ in range(4)]
    label = label_event(model="flight-delay", kind="classic", request=new_id(), value=True)
    monitor.take([*sent, label])
    assert monitor.get("/v1/requests")["requests"] == sorted(e["request"] for e in sent)
    assert monitor.get("/v1/requests?since=2999-01-01T00:00:00Z")["count"] == 0
    assert monitor.get("/v1/requests?model=python-help")["count"] == 0
    some = monitor.get("/v1/requests?limit=3")
    assert (len(some["requests"]), some["count"], some["truncated"]) == (3, 4, True)
    for query in ("since=yesterday", "limit=0", "limit=x"):
        assert monitor.ask(f"/v1/requests?{query}").status_code == 400


def test_a_release_nobody_knows_is_counted_and_said(monitor: Monitor, home: Home) -> None:
    pick = random.Random(11)
    stranger = "flight-delay/9@sha256:" + "9" * 64
    monitor.take([prediction(home, pick, release=stranger)])
    (release,) = monitor.get("/v1/models/flight-delay")["releases"]
    assert release["watched"] is False
    assert "not in the bundle store" in release["note"]
    assert release["windows"][0]["drift"] is None
    assert monitor.metric("proa_model_calls_total") == 1
    assert monitor.metric("proa_monitor_unknown_releases") == 1


def test_poisoned_columns_cost_bins_not_memory(monitor: Monitor, home: Home) -> None:
    pick = random.Random(12)
    events = []
    for k in range(500):
        event = prediction(home, pick)
        event["inputs"] = {"carrier": [f"{k}-{'x' * 500}"], "hour": ["late"], "wind": [1e308]}
        event["inputs"] |= {f"junk-{k}-{j}": [j] for j in range(20)}
        events.append(event)
    monitor.take(events)
    features = monitor.get("/v1/models/flight-delay")["releases"][0]["windows"][0]["drift"]
    assert set(features["features"]) == {
        "wind",
        "hour",
        "carrier",
        "outputs.probability",
        "outputs.label",
    }
    assert features["features"]["carrier"]["odd"] == {"new": 1.0}
    assert features["features"]["hour"]["odd"] == {"invalid": 1.0}
    assert features["features"]["wind"]["odd"] == {"above": 1.0}


def test_the_series_budget_truncates_loudly(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path), "--series", "30")
    monitor.take([prediction(home, random.Random(13)) for _ in range(120)])
    samples = monitor.metrics()
    about_models = [name for name, _ in samples if not name.startswith("proa_monitor_")]
    assert 4 < len(about_models) <= 30
    assert samples["proa_monitor_series_left_out", ()] > 0
    assert "raise --series" in monitor.processes.log(monitor.proc)


def test_the_emitter_brings_every_event_and_its_drops(monitor: Monitor, home: Home) -> None:
    pick = random.Random(14)
    emitter = Emitter(monitor.url, home.keys["service"], interval=0.02, batch=100)
    for _ in range(1000):
        assert emitter.emit(prediction(home, pick))
    assert not emitter.emit({"broken": object()})
    emitter.emit({"schema_version": 1, "type": "prediction"})
    assert emitter.close(20)
    assert (emitter.sent, emitter.dropped, emitter.rejected) == (1000, 1, 1)
    assert monitor.metric("proa_model_calls_total") == 1000
    assert monitor.metric("proa_monitor_emitter_dropped_total") == 1
    headers = {"authorization": f"Bearer {home.keys['events']}", EMITTER: "e", DROPPED: "many"}
    line = orjson.dumps(prediction(home, pick))
    url = f"{monitor.url}/v1/events"
    assert monitor.client.post(url, content=line, headers=headers).status_code == 200
    assert monitor.metric("proa_monitor_emitter_dropped_total") == 1


def test_a_bad_report_request_is_named(monitor: Monitor, home: Home) -> None:
    assert monitor.report("nobody").status_code == 404
    monitor.take([prediction(home, random.Random(15))])
    for asked, status, word in (
        ({"window": "2013-04-01"}, 404, "2013-04-01"),
        ({"release": "flight-delay/8"}, 404, "flight-delay/8"),
        ({"windows": "x"}, 400, "windows"),
        ({"window": 7}, 400, "window"),
    ):
        answer = monitor.report("flight-delay", **asked)
        assert answer.status_code == status
        assert word in answer.json()["error"]["message"]
    assert monitor.ask("/v1/reports/..%2fledger.db").status_code == 404


def test_settings_that_cannot_work_end_the_process_with_one_line(
    home: Home, processes: Processes
) -> None:
    command = [sys.executable, *home.command()[1:]]
    command[command.index("--bundles") + 1] = "gs://bucket"
    proc, _ = processes.start(command, ready=None)
    wait_until(lambda: proc.poll() is not None, 60)
    assert proc.returncode == 2
    assert processes.log(proc).strip().startswith("proa_monitor: bundle store 'gs://bucket'")
