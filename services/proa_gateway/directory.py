"""Where everything is, as of now: routes, engines, and in a cluster the endpoints of both."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from proa.http.serving import Health
from proa.ledger.prices import CallPrice
from proa_gateway.documents import cluster_of, documents_of
from proa_gateway.engines import EngineEntries, EngineTable, parse_engines
from proa_gateway.last_good import CHECK_SECONDS, LastGood, only
from proa_gateway.routes import RouteTable, parse_routes

if TYPE_CHECKING:
    from proa.cluster.api import Cluster
    from proa_gateway.services import Services

__all__ = ["Directory"]

WAIT_SECONDS: Final = 10.0
"""How long readiness waits for engines and endpoints, once the routes were read."""


class Directory:
    """Routes, engines and endpoints, each its last good state.

    Args:
        routes, engines: URLs, see `documents`.
        keys: the folder of the key files that ConfigMaps may name.
        call_price: of a classic call, where the engines' document is no file that says it.

    Attributes:
        services: None outside of a cluster.
    """

    def __init__(self, routes: str, engines: str, *, keys: Path, call_price: CallPrice) -> None:
        cluster = cluster_of(routes, engines)
        self.services = _services(cluster)
        self.routes = LastGood(
            documents_of(routes, what="--routes", key="routes.json", cluster=cluster),
            only(parse_routes, url=routes),
            empty=RouteTable(0, {}),
            changed=self._follow,
        )
        in_file = engines.startswith("file:")
        self.engines = LastGood(
            documents_of(engines, what="--engines", key="engines.json", cluster=cluster),
            only(parse_engines, url=engines) if in_file else EngineEntries(call_price, keys=keys),
            empty=EngineTable({}, call_price),
            changed=self._follow,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def known(self) -> bool:
        """Whether everything was read once, be it that there is nothing."""
        endpoints = self.services is None or self.services.known
        return self.routes.known and self.engines.known and endpoints

    def start(self, health: Health) -> None:
        """Read what there is and keep up with it; needs a running loop.

        Without routes nothing can be answered: until they were read once `health` is not ready.
        """
        if self.services is not None:
            self.services.start()
        self._check()
        for watched in (self.routes, self.engines):
            self._tasks.append(asyncio.create_task(watched.watch()))
        if not self.known:
            health.set_unready("the routes were not read yet", "routes")
            self._tasks.append(asyncio.create_task(self._get_ready(health)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for source in (self.routes, self.engines, self.services):
            if source is not None:
                source.close()

    async def _get_ready(self, health: Health) -> None:
        read: float | None = None
        while not self.known and (read is None or perf_counter() - read < WAIT_SECONDS):
            await asyncio.sleep(CHECK_SECONDS)
            self._check()
            if read is None and self.routes.known:
                read = perf_counter()
        health.set_ready("routes")

    def _check(self) -> None:
        self.routes.check()
        self.engines.check()

    def _follow(self, table: RouteTable | EngineTable) -> None:
        if self.services is not None:
            self.services.follow(table.urls())


def _services(cluster: Cluster | None) -> Services | None:
    if cluster is None:
        return None
    from proa_gateway.services import Services

    return Services(cluster)
