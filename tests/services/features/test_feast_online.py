"""The real feature server over loopback: what the predictor's online path relies on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from proa.errors import NotFound, ProaError, Unavailable
from proa.features import online
from tests.processes import Processes, wait_until
from tests.services.features.airports import START, VIEWS, definitions, trips, weather

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NOON = START + timedelta(hours=12)
Read = Callable[..., online.OnlineFeatures]


def serve(processes: Processes, folder: Path, port: int | None = None) -> Any:
    argv = ["python", "-m", "proa.features.server", "--folder", folder, "--port", "{port}"]
    return processes.start(argv, port=port, deadline=90)


def read(url: str, trip_ids: list[Any], now: datetime = NOON) -> online.OnlineFeatures:
    async def ask() -> online.OnlineFeatures:
        async with aiohttp.ClientSession() as session:
            return await online.read(session, url, VIEWS, {"trip_id": trip_ids}, now=now)

    return asyncio.run(ask())


def error_of(url: str, trip_ids: list[Any], now: datetime = NOON) -> ProaError:
    with pytest.raises(ProaError) as caught:
        read(url, trip_ids, now)
    return caught.value


def fill(folder: Path, until: datetime) -> None:
    """What a pipeline run does to the store, in this process."""
    from proa.features import store

    store.apply(folder, definitions)
    store.write(folder, "trip_v1", trips(200))
    store.write(folder, "weather_v1", weather(48))
    store.materialize(folder, until=until)


def test_a_server_that_started_empty_serves_what_is_applied_later(
    processes: Processes, tmp_path: Path
) -> None:
    folder = tmp_path / "feast"
    url = serve(processes, folder).url
    first = error_of(url, ["t1"])
    assert (type(first), first.code) == (Unavailable, "features_unavailable")
    assert "trip_v1" in first.message

    fill(folder, NOON)

    def readable() -> online.OnlineFeatures | None:
        try:
            return read(url, ["t1", "t0", "t1"])
        except Unavailable:
            return None

    found = wait_until(readable, 10, what="the applied views are served")
    assert found.columns == {
        "origin": ["JFK", "EWR", "JFK"],
        "miles": [1, 0, 1],
        "temp": [112.0, 12.0, 112.0],
    }
    assert found.ages == {"trip_v1": [43200.0] * 3, "weather_v1": [0.0] * 3}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One filled store and its server for the tests that only read."""
    running = Processes(tmp_path_factory.mktemp("processes"))
    folder = tmp_path_factory.mktemp("home") / "feast"
    # apart from this process: pytest's marks on warnings do not reach a module's fixture
    code = (
        "from datetime import datetime; from pathlib import Path;"
        "from tests.services.features.test_feast_online import fill;"
        f"fill(Path({str(folder)!r}), datetime.fromisoformat({NOON.isoformat()!r}))"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=root, timeout=120)
    yield folder, serve(running, folder)
    running.close()


def test_an_unknown_entity_is_named(served: Any) -> None:
    error = error_of(served[1].url, ["t1", "nobody"])
    assert (type(error), error.code) == (NotFound, "unknown_entity")
    assert error.message == "trip_id 'nobody' has no row in feature view trip_v1"


def test_age_is_counted_from_the_callers_clock(served: Any) -> None:
    """Feast itself calls these rows PRESENT for ever."""
    assert read(served[1].url, ["t1"], NOON + timedelta(hours=3)).ages["weather_v1"] == [10800.0]
    error = error_of(served[1].url, ["t1"], NOON + timedelta(hours=3, seconds=1))
    assert (type(error), error.code) == (Unavailable, "stale_feature")
    assert error.message.startswith("feature view weather_v1: the row of airport 'JFK' is 10801 s")


def test_values_of_another_type_do_not_match(served: Any) -> None:
    error = error_of(served[1].url, [7])
    assert error.code in ("unknown_entity", "features_unavailable")


def test_only_reading_is_served(served: Any) -> None:
    for path in ("/push", "/write-to-online-store", "/materialize", "/materialize-incremental"):
        assert httpx.post(served[1].url + path, json={}).status_code == 404, path
    for path in ("/docs", "/openapi.json", "/chat"):
        assert httpx.get(served[1].url + path).status_code == 404, path
    assert "process_resident_memory_bytes" in httpx.get(f"{served[1].url}/metrics").text


def test_many_readers_at_once_get_their_own_rows(served: Any) -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session:

            async def one(number: int) -> None:
                keys = {"trip_id": [f"t{number}", f"t{number + 1}"]}
                found = await online.read(
                    session, served[1].url, VIEWS, keys, now=NOON, timeout=30.0
                )
                assert found.columns["miles"] == [number, number + 1]
                assert found.columns["temp"] == [[12.0, 112.0], [112.0, 12.0]][number % 2]

            await asyncio.gather(*(one(number) for number in range(150)))

    asyncio.run(ask())


def test_a_half_written_registry_does_not_stop_the_server(served: Any) -> None:
    folder, (_, url) = served
    registry = folder / "registry.db"
    whole = registry.read_bytes()
    registry.write_bytes(whole[: len(whole) // 2])
    log_says = "registry not readable yet"
    try:
        running = served[1].proc
        wait_until(
            lambda: log_says in Path(f"/proc/{running.pid}/fd/1").read_text(errors="replace"),
            10,
            what="the server met the torn registry",
        )
        assert read(url, ["t1"]).columns["miles"] == [1]
    finally:
        registry.write_bytes(whole)
    assert read(url, ["t1"]).columns["miles"] == [1]


def test_killed_it_comes_back_on_the_same_port(processes: Processes, tmp_path: Path) -> None:
    folder = tmp_path / "feast"
    started = serve(processes, folder)
    processes.kill(started.proc)
    port = int(started.url.rpartition(":")[2])
    again = serve(processes, folder, port)
    assert httpx.get(f"{again.url}/readyz").status_code == 200
    assert processes.stop(again.proc) == 0


def test_a_server_that_is_down_is_named(processes: Processes, tmp_path: Path) -> None:
    error = error_of("http://127.0.0.1:9", ["t1"])
    assert error.code == "features_unavailable"
    assert "http://127.0.0.1:9" in error.message
