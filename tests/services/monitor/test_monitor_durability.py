"""Nothing acknowledged is lost or doubled: `kill -9` at random moments, a full disk, lost state.

Real processes and files; the release's model files alone are made up.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import httpx
import orjson
import pytest

from proa.release.bundle import BundleStore
from proa_monitor.known import KnownIds, write_ids
from proa_monitor.segments import read_segment, segment_folders
from proa_monitor.spool import spool_files, whole_lines
from tests.processes import wait_until
from tests.services.monitor.monitored import Home, Monitor, Start, answer_of, day, prediction

SMALL = ("--file-bytes", "40000")
"""A spool file is closed, and compacted, every 40 events or so."""


def stored(events: Path) -> Counter[str]:
    """How often each event id lies on disk, in segments and in spool files without one."""
    segments = segment_folders(events / "segments")
    ids = Counter(row["id"] for f in segments.values() for row in read_segment(f))
    for number, path in spool_files(events / "spool").items():
        if number not in segments:
            for lines in whole_lines(path):
                ids.update(orjson.loads(line)["id"] for line in lines)
    return ids


def views(monitor: Monitor) -> list[Any]:
    return [monitor.get(f"/v1/models/{name}") for name in ("flight-delay", "python-help")]


def mixed(home: Home, seed: int, count: int) -> list[Any]:
    """Predictions and answers on several days, out of order."""
    pick = random.Random(seed)
    events = []
    for _ in range(count):
        make = prediction if pick.random() < 0.7 else answer_of
        events.append(make(home, pick, time=day(f"2013-04-{pick.randrange(1, 6):02}")))
    return events


def lose_state(monitor: Monitor) -> None:
    for path in monitor.home.events.glob("state.db*"):
        path.unlink()


def edit(state: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(state)) as connection, connection:
        connection.execute(sql)


THROUGH_999 = "UPDATE monitor_meta SET body = replace(body, '\"through\":', '\"through\":999')"


class Sender(threading.Thread):
    """Sends batches until told to stop, each until it is acknowledged, as the emitter does."""

    def __init__(self, monitor: Monitor) -> None:
        super().__init__(daemon=True)
        self.monitor, self.enough = monitor, threading.Event()
        self.acknowledged: list[str] = []
        self.problems: list[str] = []

    def run(self) -> None:
        pick = random.Random(0)
        while not self.enough.is_set():
            batch = mixed(self.monitor.home, pick.randrange(10**9), pick.randrange(1, 120))
            self._deliver(batch)

    def _deliver(self, batch: list[Any]) -> None:
        body = b"\n".join(map(orjson.dumps, batch))
        headers = {"authorization": f"Bearer {self.monitor.home.keys['service']}"}
        while True:
            try:
                url = f"{self.monitor.url}/v1/events"
                answer = httpx.post(url, content=body, headers=headers, timeout=10)
            except httpx.HTTPError:
                time.sleep(0.02)  # between two tries, as a client would
                continue
            verdict = answer.json()
            if answer.status_code != 200 or verdict["rejected"]:
                self.problems.append(answer.text[:300])
                return
            if verdict["accepted"] + verdict["duplicates"] != len(batch):
                self.problems.append(answer.text[:300])
            self.acknowledged += [event["id"] for event in batch]
            return


def test_killed_at_any_moment_it_loses_and_doubles_nothing(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path), *SMALL)
    sender = Sender(monitor)
    sender.start()
    pick = random.Random(42)
    for _ in range(6):
        before = len(sender.acknowledged)
        wait_until(lambda n=before: len(sender.acknowledged) > n + 30, 30)  # type: ignore[misc]
        time.sleep(pick.uniform(0, 0.3))  # the random moment itself
        monitor.kill()
        monitor.start()
    sender.enough.set()
    sender.join(60)
    assert not sender.is_alive()
    assert sender.problems == []
    assert len(sender.acknowledged) > 200
    monitor.wait_for_metric("proa_monitor_spool_files_waiting", 0)
    shown = views(monitor)
    assert monitor.stop() == 0

    on_disk = stored(monitor.home.events)
    assert set(on_disk.values()) == {1}
    assert set(on_disk) == set(sender.acknowledged)
    assert sum(view["calls"] for view in shown) == len(sender.acknowledged)
    counted = [w["calls"] for v in shown for r in v["releases"] for w in r["windows"]]
    assert sum(counted) == len(sender.acknowledged)

    lose_state(monitor)
    monitor.start()
    assert views(monitor) == shown


def test_state_lost_or_damaged_is_counted_again(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path), *SMALL)
    for seed in range(5):
        monitor.take(mixed(home, seed, 60))
    shown = views(monitor)
    requests = monitor.get("/v1/requests")
    assert requests["count"] == 300
    state = monitor.home.events / "state.db"
    for damage in (
        lambda: lose_state(monitor),
        lambda: state.write_bytes(b"no database" * 100),
        lambda: edit(state, """UPDATE monitor_meta SET body = '{"through":9}'"""),
        lambda: edit(state, THROUGH_999),
        lambda: edit(state, "UPDATE monitor_windows SET parts = x'00'"),
    ):
        assert monitor.stop() == 0
        damage()
        monitor.start()
        assert views(monitor) == shown
        assert monitor.get("/v1/requests")["requests"] == requests["requests"]
    monitor.wait_for_metric("proa_monitor_spool_files_waiting", 0)
    assert monitor.get("/v1/requests")["requests"] == requests["requests"]
    assert monitor.get("/v1/requests?model=python-help")["count"] == shown[1]["calls"]


def test_duplicates_are_known_over_restarts_and_compaction(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    monitor = start_monitor(home.fresh(tmp_path), *SMALL)
    events = mixed(home, 1, 200)
    assert [monitor.take(events[k : k + 50])["accepted"] for k in range(0, 200, 50)] == [50] * 4
    monitor.kill()
    monitor.start()
    assert monitor.take(events) == {"accepted": 0, "duplicates": 200, "rejected": []}
    monitor.wait_for_metric("proa_monitor_spool_files_waiting", 0)
    assert (monitor.metric("proa_monitor_segments") or 0) >= 2
    assert monitor.take(events[::-1])["duplicates"] == 200
    monitor.restart()
    assert monitor.take(events)["duplicates"] == 200
    assert sum(view["calls"] for view in views(monitor)) == 200


def test_segments_are_plain_parquet(home: Home, start_monitor: Start, tmp_path: Path) -> None:
    monitor = start_monitor(home.fresh(tmp_path), "--file-seconds", "0.1")
    events = mixed(home, 2, 50)
    monitor.take(events)
    monitor.wait_for_metric("proa_monitor_segments", 1)
    pattern = str(monitor.home.events / "segments" / "**" / "events.parquet")
    with duckdb.connect() as db:
        segments = db.read_parquet(pattern)
        query = "id, \"time\", body->>'$.outputs.probability[0]', latency_ms"
        rows = segments.filter("model = 'flight-delay'").project(query).fetchall()
    expected = {e["id"]: e for e in events if e["model"] == "flight-delay"}
    assert {row[0] for row in rows} == set(expected)
    for event_id, moment, probability, latency in rows:
        event = expected[event_id]
        assert moment.isoformat()[:10] == event["time"][:10]
        assert float(probability) == event["outputs"]["probability"][0]
        assert latency == event["latency_ms"]
    (folder,) = segment_folders(monitor.home.events / "segments").values()
    read = {row["id"]: row for row in read_segment(folder)}
    for event in events:
        kept = dict(read[event["id"]])
        kept.pop("ingested")
        assert kept == orjson.loads(orjson.dumps(event))


def test_a_bundle_that_comes_late_is_caught_up_with(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    own = home.fresh(tmp_path)
    (own.root / "bundles").unlink()
    own.bundles.mkdir()
    monitor = start_monitor(own, *SMALL)
    first = [e for e in mixed(home, 3, 300) if e["model"] == "flight-delay"]
    monitor.take(first[:100])
    monitor.restart()
    monitor.take(first[100:])
    assert monitor.metric("proa_monitor_unknown_releases") == 1
    shutil.copytree(home.bundles, own.bundles, dirs_exist_ok=True)
    wait_until(lambda: monitor.get("/v1/models/flight-delay")["releases"][0]["watched"], 20)
    pick = random.Random(4)
    monitor.take([prediction(home, pick, time=day("2013-04-02")) for _ in range(50)])

    def rows() -> int:
        (release,) = monitor.get("/v1/models/flight-delay")["releases"]
        return sum(w["drift"]["rows"] for w in release["windows"])

    wait_until(lambda: rows() == len(first) + 50, 20)
    shown = monitor.get("/v1/models/flight-delay")
    monitor.restart()
    assert monitor.get("/v1/models/flight-delay") == shown


def test_a_full_disk_is_said_and_nothing_half_is_kept(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    """`ulimit -f` stands in for the full disk: the write comes back short in the same way."""
    monitor = start_monitor(home.fresh(tmp_path), file_blocks=600)
    events = mixed(home, 5, 1000)
    accepted: list[str] = []
    refused = None
    for start in range(0, 1000, 20):
        answer = monitor.send(events[start : start + 20])
        if answer.status_code == 200:
            accepted += [event["id"] for event in events[start : start + 20]]
        else:
            refused = answer
            break
    assert refused is not None
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "spool_unwritable"
    assert monitor.ask("/healthz").status_code == 200
    assert monitor.metric("proa_monitor_writable") == 0
    assert set(stored(monitor.home.events)) == set(accepted)
    monitor.kill()
    monitor.file_blocks = None
    monitor.start()
    verdict = monitor.take(events)
    assert (verdict["accepted"], verdict["duplicates"]) == (1000 - len(accepted), len(accepted))


def test_two_monitors_never_share_a_folder(monitor: Monitor) -> None:
    other = subprocess.run(
        [sys.executable, "-c", LOCK, str(monitor.home.events)], capture_output=True, text=True
    )
    assert "another monitor writes to" in other.stdout


LOCK = """
import sys
from pathlib import Path
from proa.errors import Conflict
from proa_monitor.spool import lock_folder
try:
    lock_folder(Path(sys.argv[1]), seconds=0.1)
except Conflict as error:
    print(error.message)
"""


def test_a_torn_last_line_was_never_acknowledged(monitor: Monitor, home: Home) -> None:
    events = mixed(home, 6, 10)
    monitor.take(events)
    monitor.kill()
    (spool,) = spool_files(monitor.home.events / "spool").values()
    with spool.open("ab") as file:
        file.write(orjson.dumps(mixed(home, 7, 1)[0])[:-20])
    monitor.start()
    assert sum(view["calls"] for view in views(monitor)) == 10
    monitor.wait_for_metric("proa_monitor_spool_files_waiting", 0)
    assert sum(stored(monitor.home.events).values()) == 10


def test_a_bundle_store_that_lies_is_not_believed(
    home: Home, start_monitor: Start, tmp_path: Path
) -> None:
    own = home.fresh(tmp_path)
    (own.root / "bundles").unlink()
    shutil.copytree(home.bundles, own.bundles)
    digest = home.flight.partition("@")[2]
    store = BundleStore(own.bundles)
    manifest = store.manifest(digest)
    profile = next(f for f in manifest.files if f.path == manifest.profile).sha256[7:]
    blob = own.bundles / "sha256" / profile[:2] / profile
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b"wind", b"kind"))
    monitor = start_monitor(own)
    monitor.take([prediction(home, random.Random(8))])
    (release,) = monitor.get("/v1/models/flight-delay")["releases"]
    assert release["watched"] is False
    assert "holds other bytes under the digest" in release["note"]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_ids_on_disk_are_found_again(tmp_path: Path, count: int) -> None:
    pick = random.Random(9)
    ids = ["".join(pick.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=26)) for _ in range(count)]
    known = KnownIds()
    write_ids(tmp_path / "1.ids", ids)
    known.attach(1, tmp_path / "1.ids")
    assert all(event_id in known for event_id in ids)
    assert "0" * 26 not in known
    assert "Z" * 26 not in known
