"""What nobody should send, through a real monitor: bounded, counted, a finding, never a crash."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from proa.events.event import label_event
from proa.http.ids import new_id
from proa.ledger.store import CallStore
from tests.processes import wait_until
from tests.services.monitor.monitored import Home, Monitor, Start, answer_of, day, prediction

ROWS = 20_000


def resident(monitor: Monitor) -> float:
    """MiB."""
    status = Path(f"/proc/{monitor.proc.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def kinds(monitor: Monitor, model: str = "flight-delay", query: str = "") -> set[tuple[str, str]]:
    found = monitor.get(f"/v1/findings?model={model}{query}")["findings"]
    return {(finding["type"], finding["subject"]) for finding in found}


def flood(home: Home, number: int) -> Any:
    """One call of many rows, each with a carrier of its own."""
    pick = random.Random(number)
    return prediction(
        home,
        pick,
        time=day("2013-04-02"),
        rows=ROWS,
        inputs={
            "wind": [10.0] * ROWS,
            "hour": [12] * ROWS,
            "carrier": [f"c{number}-{row}" for row in range(ROWS)],
        },
        outputs={"probability": [0.5] * ROWS},
    )


def test_a_poisoned_category_is_a_finding_and_costs_no_memory(monitor: Monitor, home: Home) -> None:
    pick = random.Random(1)
    monitor.take([prediction(home, pick, time=day("2013-04-01")) for _ in range(200)])
    monitor.take([flood(home, 0)])
    before = resident(monitor)
    for number in range(1, 11):
        monitor.take([flood(home, number)])
    monitor.take([prediction(home, pick, time=day("2013-04-04")) for _ in range(200)])
    wait_until(lambda: ("category_flood", "carrier") in kinds(monitor), 60)
    # 200,000 values of 8 characters would be 13 MiB as a set of strings, per window and slice.
    assert resident(monitor) - before < 120
    assert monitor.ask("/readyz").status_code == 200
    state = (monitor.home.events / "state.db").stat().st_size
    monitor.restart()
    assert monitor.get("/v1/models/flight-delay")["rows"] == 400 + 11 * ROWS
    assert state < 200 << 20


def test_odd_columns_odd_releases_and_odd_order_hide_nothing(monitor: Monitor, home: Home) -> None:
    pick = random.Random(2)
    stranger = f"flight-delay/9@sha256:{'9' * 64}"
    sent: list[Any] = []
    for number in (3, 1, 2, 5):  # out of order, and a day without a call between
        sent += [prediction(home, pick, time=day(f"2013-04-{number:02}")) for _ in range(120)]
    for event in sent[:120]:  # of 3 April
        event["inputs"] |= {"wind": ["gale"], "surprise": [1]}
        del event["inputs"]["hour"]
    sent += [prediction(home, pick, time=day("2013-04-03"), release=stranger) for _ in range(30)]
    sent += [answer_of(home, pick, time=day("2013-04-03"), release=home.help)]
    sent += [
        label_event(model="flight-delay", kind="classic", request=new_id(), value=[]),  # wrong type
        label_event(model="flight-delay", kind="classic", request=new_id(), value="?"),
        label_event(model="never-called", kind="classic", entity="x", value=True),
    ]
    verdict = monitor.take(sent)
    assert verdict["accepted"] == len(sent) - 1
    assert [line["line"] for line in verdict["rejected"]] == [len(sent) - 2]
    expected = {("invalid_values", "wind"), ("schema", "hour"), ("schema", "")}
    wait_until(lambda: expected <= kinds(monitor), 60)
    by_day = {
        (f["type"], f["subject"]): f["since"][:10]
        for f in monitor.get("/v1/findings?model=flight-delay")["findings"]
    }
    assert {by_day[one] for one in expected} == {"2013-04-03"}
    assert monitor.metric("proa_monitor_unknown_releases") == 1
    assert (monitor.metric("proa_monitor_judging_failures_total", model="flight-delay") or 0) == 0


def call(request: str, **more: Any) -> Any:
    from proa.http.clock import WallClock, rfc3339
    from proa.ledger.call import Call

    told: dict[str, Any] = {
        "request": request,
        "door": "user",
        "started": rfc3339(WallClock().now()),
        "latency_ms": 3.0,
        "key": "k",
        "team": "t",
        "feature": "f",
        "purpose": "user",
        "kind": "classic",
        "model": "flight-delay",
        "status": 200,
    }
    return Call(**(told | more))


def test_calls_and_events_that_miss_each_other(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    own = home.fresh(tmp_path)
    (own.root / "ledger.db").unlink()
    (own.root / "ledger.db").write_bytes(home.ledger.read_bytes())
    ledger = CallStore(own.ledger)
    monitor = start_monitor(own, "--match-calls", "--match-seconds", "0.3")
    pick = random.Random(3)
    both, lost, stray = ([new_id() for _ in range(n)] for n in (20, 3, 2))
    ledger.insert([call(request) for request in (*both, *lost)])
    ledger.insert([call(new_id(), status=503), call(new_id(), purpose="gate")])
    monitor.take([prediction(home, pick, request=request) for request in (*both, *stray)])
    monitor.take([prediction(home, pick, request=new_id(), purpose="gate")])
    model = {"model": "flight-delay"}
    lost_metric, stray_metric = "calls_without_event", "events_without_call"
    wait_until(lambda: monitor.metric(f"proa_monitor_{lost_metric}_total", **model) == 3, 20)
    wait_until(lambda: monitor.metric(f"proa_monitor_{stray_metric}_total", **model) == 2, 20)
    assert kinds(monitor) >= {("call_without_event", ""), ("event_without_call", "")}
    quiet = [new_id() for _ in range(5)]
    ledger.insert([call(request) for request in quiet])
    monitor.take([prediction(home, pick, request=request) for request in quiet])
    wait_until(lambda: not kinds(monitor, query="&open=true"), 20)
    assert monitor.metric(f"proa_monitor_{lost_metric}_total", **model) == 3
    ledger.close()
