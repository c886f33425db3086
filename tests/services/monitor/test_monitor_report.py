"""Evidently's report on demand, for real: of a finding and of a release, made and looked into."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest

from tests.processes import wait_until
from tests.services.monitor import no_connections
from tests.services.monitor.monitored import Home, Monitor, answer_of, day, prediction


def page_of(monitor: Monitor, answer: dict[str, object]) -> str:
    page = monitor.ask(str(answer["html_url"]).removeprefix(monitor.url))
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert Path(str(answer["path"])).read_text(encoding="utf-8") == page.text
    return page.text


def null_burst(monitor: Monitor) -> Any:
    found = monitor.get("/v1/findings?model=flight-delay&type=null_burst")["findings"]
    return next((one for one in found if one["subject"] == "hour"), None)


def test_reports_of_both_kinds(
    home: Home,
    start_monitor: Callable[..., Monitor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_connections.forbid(monkeypatch, tmp_path / "hook", "report_job")
    monitor = start_monitor(home.fresh(tmp_path))
    pick = random.Random(1)
    calm, windy = day("2013-04-01"), day("2013-04-02")
    events = [prediction(home, pick, time=calm) for _ in range(60)]  # another window
    events += [prediction(home, pick, time=windy, shift=9) for _ in range(60)]
    events += [prediction(home, pick, time=windy, purpose="gate") for _ in range(9)]
    events += [answer_of(home, pick, time=windy) for _ in range(30)]
    for event in events[60:120]:
        event["inputs"]["hour"] = [None]
    events += [prediction(home, pick, time=day("2013-04-03")) for _ in range(3)]
    monitor.take(events)

    finding = wait_until(lambda: null_burst(monitor), 60, what="a finding of hour")
    headers = {"authorization": f"Bearer {home.keys['read']}"}
    url = f"{monitor.url}/v1/findings/{finding['id']}/report"
    answer = monitor.client.post(url, headers=headers, timeout=300)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["rows"], report["window"], report["release"]) == (60, "2013-04-02", home.flight)
    assert report["left_out"] == {"hour": "only nulls in the window"}
    assert report["reference_rows"] > 1000
    assert report["seconds"] > 0
    text = page_of(monitor, report)
    assert "carrier" in text
    assert escape(finding["message"]) in text, "the page says what was found"
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", text)

    monitor.restart()
    talk = monitor.report("python-help", track="champion").json()
    assert talk["rows"] == 30
    assert "retrieval_score" in page_of(monitor, talk)

    refused = monitor.report("flight-delay")
    assert refused.status_code == 422
    assert "at least 10" in refused.json()["error"]["message"]
    assert monitor.ask("/readyz").status_code == 200
