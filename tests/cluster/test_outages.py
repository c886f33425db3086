"""What rollouts and calls need is away for a while: the API server, the ledger's database.

Real: API server, kubelet, pods, Postgres, gateway and controller. The stand-ins of `rollout_house`
serve the releases.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from proa.errors import Unavailable
from proa.ledger.migrations import migrate
from proa.ledger.open import open_ledger
from proa.ledger.postgres import Postgres
from tests.cluster.access import Cluster
from tests.cluster.load import Load
from tests.cluster.report import Report
from tests.cluster.rollout_house import rollout_house
from tests.postgres import Server
from tests.processes import wait_until

AWAY_SECONDS = 120


def test_the_api_server_is_away_in_a_canary(
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    restart_api_server: Callable[..., None],
    report: Report,
) -> None:
    """Calls go on by the last good routes; the rollout ends where it would have ended."""
    with rollout_house(cluster, namespace, tmp_path) as house:
        house.install("m")
        house.champion("m")
        two = house.release("m")
        house.gate(two)
        with Load(house.gateway.url, house.key, classic="m", rate=30) as load:
            house.promote(two)
            house.phase("m", "canary", 120)
            restart_api_server(pause=20.0)
            house.settled("m", two)
        assert load.failed == Counter()
        assert house.actions("m").count("promoted") == 2
        assert house.ask("GET", "/v1/journal/verify")["lines"] > 0
    figure, bar = "API server away for 20 s in a canary", "same end state, 0 failed"
    report.add(figure, str(load), bar=bar)


def test_the_ledger_is_away_for_two_minutes(
    cluster: Cluster, namespace: str, tmp_path: Path, postgres: Server, report: Report
) -> None:
    """Traffic stays with the last good release, a rollback works, and nothing is missing after."""
    url = postgres.create()
    database = Postgres(url)
    migrate(database)
    database.close()
    with rollout_house(cluster, namespace, tmp_path, ledger=url) as house:
        house.install("m")
        one = house.champion("m")
        two = house.champion("m")
        before = house.actions("m")
        with Load(house.gateway.url, house.key, classic="m", rate=20) as load:
            postgres.stop()
            away = time.monotonic()
            try:
                house.undo("m")
                wait_until(lambda: house.running("m") == str(one), 60, every=0.5)
                served = lambda: house.predict("m").headers.get("x-proa-release")  # noqa: E731
                wait_until(lambda: served() == str(one), 60, every=0.5)
                wait_until(lambda: time.monotonic() - away >= AWAY_SECONDS, 180, every=1)
            finally:
                postgres.start()
            house.settled("m", one)
        assert load.failed == Counter()

        def since() -> list[str]:
            try:
                return house.actions("m")[len(before) :]
            except Unavailable:  # it looks for the database every few seconds
                return []

        told = wait_until(since, 60, every=0.5)
        assert told.count("undone") == 1, told
        assert house.ask("GET", "/v1/journal/verify")["lines"] >= len(before) + len(told)
        ledger = open_ledger(url)

        def counted() -> int:
            counts = ledger.calls.counts(model="m")
            return sum(release.calls for release in counts.values())

        try:
            # Each stored once: those of the load, and those that asked who serves.
            wait_until(lambda: counted() >= load.answered, 60, every=0.5)
        finally:
            ledger.close()
    assert str(two) != str(one)
    figure, bar = "Postgres away for two minutes", "the last good release serves, 0 failed"
    report.add(figure, str(load), bar=bar)
