"""Services of the cluster as their endpoints, followed through the Kubernetes API.

`http://SERVICE.NAMESPACE.svc:PORT` becomes the addresses in that Service's EndpointSlices; a call
goes straight to one of them. kube-proxy would spread connections, not calls, and keep a connection
to a pod that is long on its way out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from proa.cluster.api import Cluster, Object
from proa.cluster.watch import Watched
from proa_gateway.balance import AVOID_SECONDS, Endpoint, choose, eligible, renewed
from proa_gateway.slices import SERVICE_LABEL, ServicePort, addresses_of, service_of

__all__ = ["Service", "Services"]


class Service:
    """One Service's endpoints; used by one event loop alone.

    Attributes:
        known: there are slices of it; without any, only its DNS name is left to try.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.known = False
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self._turn = 0

    def update(self, slices: Collection[Object], port: int) -> None:
        """Take in its slices as they are now."""
        addresses = addresses_of(slices, port)
        self.known = bool(addresses) or any(not piece.get("endpoints") for piece in slices)
        self._endpoints = renewed(self._endpoints, eligible(addresses))

    def choose(self, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """The endpoint for the next call, whose `in_flight` the caller counts; None: none left."""
        endpoint = choose(self._endpoints.values(), now=self._clock(), tried=tried)
        if endpoint is not None:
            self._turn += 1
            endpoint.chosen = self._turn
        return endpoint

    def avoid(self, endpoint: Endpoint) -> None:
        """Nobody could be reached there: for a while it comes last."""
        endpoint.avoided_until = self._clock() + AVOID_SECONDS


class Services:
    """Every Service that was asked for, by URL.

    Endpoints change in the loop that `start` was called in; each namespace has a thread that
    follows it, and is followed for good.
    """

    def __init__(self, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watches: dict[str, Watched] = {}
        self._ports: dict[str, ServicePort | None] = {}
        self._services: dict[ServicePort, Service] = {}

    def start(self) -> None:
        """From now on news are taken in; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        for namespace in self._watches:
            self._renew(namespace)

    @property
    def known(self) -> bool:
        """Whether the endpoints of every namespace asked for were listed once."""
        return all(watch.synced for watch in self._watches.values())

    def follow(self, urls: Iterable[str]) -> None:
        """Begin to follow the Services that these URLs name; others are of no concern."""
        for url in urls:
            self.of(url)

    def of(self, url: str) -> Service | None:
        """The Service of a URL; None for an address that is no Service's."""
        try:
            wanted = self._ports[url]
        except KeyError:
            wanted = self._ports[url] = service_of(url)
        if wanted is None:
            return None
        return self._services.get(wanted) or self._add(wanted)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.stop()

    def _add(self, wanted: ServicePort) -> Service:
        service = self._services[wanted] = Service(self._clock)
        namespace = wanted.namespace
        if namespace in self._watches:
            slices = _by_service(self._watches[namespace].items())
            service.update(slices.get(wanted.name, []), wanted.port)
            return service
        watch = self._watches[namespace] = Watched(
            self._cluster,
            "endpointslices",
            [namespace],
            label=SERVICE_LABEL,
            changed=lambda: self._on_change(namespace),
        )
        watch.start()
        return service

    def _on_change(self, namespace: str) -> None:
        """In the watch's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._renew, namespace)

    def _renew(self, namespace: str) -> None:
        slices = _by_service(self._watches[namespace].items())
        for wanted, service in self._services.items():
            if wanted.namespace == namespace:
                service.update(slices.get(wanted.name, []), wanted.port)


def _by_service(items: Mapping[tuple[str, str], Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for item in items.values():
        labels = item["metadata"].get("labels") or {}
        found.setdefault(labels.get(SERVICE_LABEL, ""), []).append(item)
    return found
