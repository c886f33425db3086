"""A running monitor exports what charts/proa/METRICS.md says: no name, type or label besides."""

from __future__ import annotations

import random

from prometheus_client.parser import text_string_to_metric_families

from tests import metrics_page
from tests.processes import wait_until
from tests.services.monitor.monitored import Home, Monitor, answer_of, day, prediction


def test_metrics_are_as_documented(monitor: Monitor, home: Home) -> None:
    pick = random.Random(1)
    events = [
        prediction(home, pick, time=day(f"2013-04-0{n}")) for n in (1, 2, 3) for _ in range(60)
    ]
    events += [answer_of(home, pick, time=day("2013-04-01")) for _ in range(30)]
    monitor.take(events)
    assert monitor.send(b"{}").status_code == 200
    judged = "proa_monitor_last_judged_timestamp_seconds"
    wait_until(
        lambda: bool(monitor.metric(judged, model="flight-delay")), 60, what="the first judgement"
    )

    text = monitor.client.get(f"{monitor.url}/metrics").text
    page = metrics_page.sections()["Monitor"]
    exported = {line.split()[2]: line.split()[3] for line in text.splitlines()
                if line.startswith("# TYPE proa_")}  # fmt: skip
    assert exported == {name: family.type for name, family in page.items()}
    seen = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            known = metrics_page.documented(sample.name)
            if known is not None:
                assert set(sample.labels) - {"le"} == set(known.labels), sample.name
                seen.add(known.name)
    assert {"proa_model_calls_total", "proa_finding_open", "proa_window_rows", judged} <= seen
    assert len(seen) > 35
