"""Small snapshots for Evidently's UI: written by a child that opens no connection, and read by
Evidently's own UI, as a process that knows nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from proa.findings.observation import Observation
from proa_monitor.reports import QUIET
from proa_monitor.snapshots import Snapshots, figures_of
from proa_monitor.windows import Key
from tests.processes import Processes
from tests.services.monitor import no_connections

KEY = Key("flight-delay", "flight-delay/7@sha256:" + "0" * 64, "champion")


def seen(drift: float, features: int = 30) -> list[Observation]:
    found = [
        Observation("feature_drift", f"feature_{n}", n == 29, drift * n, 0.1, "psi", "it moved")
        for n in range(features)
    ]
    found.append(Observation("quality", "roc_auc", False, 0.7, None, "points", "as before"))
    return [*found, Observation("volume", "", None, None, None, "rows", "too few")]


def test_what_matters_most_comes_first() -> None:
    figures = figures_of(seen(0.01))
    assert len(figures) == 20
    assert next(iter(figures.items())) == ("drift/feature_drift feature_29", pytest.approx(2.9))
    assert figures_of(seen(float("nan"), 1)) == {"quality/quality roc_auc": 0.7}


def test_a_full_queue_is_counted_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proa_monitor.snapshots._WAITING", 2)
    snapshots = Snapshots(tmp_path / "s")
    days = ["2013-04-01", "2013-04-02", "2013-04-03", "2013-04-02"]
    taken = [snapshots.offer(KEY, day, f"{day}T00:00:00Z", seen(0.01)) for day in days]
    assert taken == [True, True, False, True], "a window that waits already takes no room"
    assert snapshots.dropped == 1
    (tmp_path / "file").write_text("")
    broken = Snapshots(tmp_path / "file")
    assert not broken.offer(KEY, days[0], "2013-04-02T00:00:00Z", seen(0.01))


def test_evidentlys_ui_shows_them(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_connections.forbid(monkeypatch, tmp_path / "hook", "snapshot_job")
    way_out = "import socket; socket.create_connection(('127.0.0.1', 9))  # snapshot_job"
    tried = subprocess.run([sys.executable, "-c", way_out], capture_output=True, check=False)
    assert tried.returncode == no_connections.CODE

    snapshots = Snapshots(tmp_path / "s", kept=3)
    for number in (1, 2, 3, 4, 5, 5):  # the last one is judged twice
        window, end = f"2013-04-0{number}", f"2013-04-0{number + 1}T00:00:00Z"
        assert snapshots.offer(KEY, window, end, seen(number / 100))
    assert snapshots.offer(KEY, "2013-04-05", "2013-04-06T00:00:00Z", seen(1.0))
    (snapshots.waiting / "damaged.json").write_text("{}")
    asyncio.run(snapshots.write())
    assert snapshots.failures == 0
    assert not list(snapshots.waiting.iterdir()), "not even what is damaged"
    monkeypatch.undo()
    (project,) = (snapshots.folder / "workspace").iterdir()
    files = list((project / "snapshots").iterdir())
    assert len(files) == 3
    assert max(path.stat().st_size for path in files) <= 10_000

    command = ["python", "-m", "evidently.cli", "ui", "--workspace", str(project.parent)]
    _, url = processes.start([*command, "--port", "{port}"], ready="/api/version", env=QUIET)
    with httpx.Client(base_url=url, timeout=30) as client:
        (shown,) = client.get("/api/projects").json()
        assert (shown["id"], shown["name"]) == (project.name, "flight-delay")
        asked = {
            "metric": "evidently:metric_v2:Figure",
            "metric_labels": {"name": "feature_drift feature_29"},
            "tags": [],
            "metadata": {"release": "flight-delay/7"},
        }
        path = f"/api/v2/snapshots/{project.name}/data_series_batch"
        answer = client.post(path, json={"series_filter": [asked]})
        assert answer.status_code == 201, answer.text
        (series,) = answer.json()["series"]
        assert series["values"] == pytest.approx([29 * 0.03 / 0.1, 29 * 0.04 / 0.1, 290])
        board = json.loads((project / "dashboard.json").read_text())
        assert {p["values"][0]["metric"] for p in board["panels"]} == {asked["metric"]}
