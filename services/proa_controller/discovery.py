"""What of the platform the controller finds in a cluster: gateways, engines."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from proa.cluster.api import Cluster, Object
from proa.cluster.watch import Watched
from proa.errors import InvalidInput

__all__ = ["ClusterEngines", "ClusterGateways", "service_of"]

log = logging.getLogger("proa.controller")

_SERVICE: Final = "kubernetes.io/service-name"
_ENGINES: Final = "engines.json"
_TIMEOUT: Final = httpx.Timeout(2.0)


def service_of(url: str) -> tuple[str, str, int]:
    """Name, namespace and port of `http://NAME.NAMESPACE.svc:PORT`.

    Raises:
        InvalidInput: it has another form.
    """
    parts = urlsplit(url)
    labels = (parts.hostname or "").split(".")
    if len(labels) < 3 or labels[2] != "svc" or parts.port is None:
        raise InvalidInput(f"{url!r}: expected http://SERVICE.NAMESPACE.svc:PORT")
    return labels[0], labels[1], parts.port


class ClusterGateways:
    """A client per ready gateway pod, by the EndpointSlices of a headless Service.

    Args:
        url: of that Service.
        key: the controller's.
    """

    def __init__(self, cluster: Cluster, url: str, key: str) -> None:
        name, namespace, self._port = service_of(url)
        self._key = key
        self._watched = Watched(cluster, "endpointslices", [namespace], label=f"{_SERVICE}={name}")
        self._lock = threading.Lock()
        self._clients: dict[str, httpx.Client] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._watched.start()

    def stop(self) -> None:
        """End the watch and close the connections."""
        self._watched.stop()
        with self._lock:
            for client in self._clients.values():
                client.close()

    def refresh(self) -> None:
        """See what is ready now."""
        self._watched.refresh()

    @property
    def synced(self) -> bool:
        """Whether it was looked at once."""
        return self._watched.synced

    def __iter__(self) -> Iterator[httpx.Client]:
        """A client for each gateway that is ready now."""
        ready = sorted(addresses_of(self._watched.items().values()))
        with self._lock:
            for gone in self._clients.keys() - set(ready):
                self._clients.pop(gone).close()
            for address in ready:
                if address not in self._clients:
                    self._clients[address] = self._client(address)
            return iter([self._clients[address] for address in ready])

    def _client(self, address: str) -> httpx.Client:
        host = f"[{address}]" if ":" in address else address
        return httpx.Client(
            base_url=f"http://{host}:{self._port}",
            headers={"authorization": f"Bearer {self._key}"},
            timeout=_TIMEOUT,
            trust_env=False,
        )


class ClusterEngines:
    """Identities of the engines that run, by ConfigMaps of the engines' charts.

    Args:
        label: the ConfigMaps' label; each holds `engines.json`.
    """

    def __init__(self, cluster: Cluster, namespaces: Sequence[str], label: str) -> None:
        self._configs = Watched(cluster, "configmaps", namespaces, label=label)
        self._slices = Watched(cluster, "endpointslices", namespaces)

    def start(self) -> None:
        """Begin to watch."""
        self._configs.start()
        self._slices.start()

    def stop(self) -> None:
        """End the watches."""
        self._configs.stop()
        self._slices.stop()

    def refresh(self) -> None:
        """See what is there now."""
        self._configs.refresh()
        self._slices.refresh()

    @property
    def synced(self) -> bool:
        """Whether everything was seen once."""
        return self._configs.synced and self._slices.synced

    def __call__(self) -> frozenset[str]:
        """Identities with at least one pod that is ready."""
        ready: set[tuple[str, str]] = set()
        for (namespace, _), item in self._slices.items().items():
            if addresses_of([item]):
                ready.add((namespace, item["metadata"]["labels"].get(_SERVICE, "")))
        return frozenset(
            identity
            for item in self._configs.items().values()
            for identity, entry in _entries(item).items()
            if _is_ready(entry, ready)
        )


def addresses_of(slices: Iterator[Object] | Sequence[Object] | Any) -> set[str]:
    """Addresses of the ready endpoints in EndpointSlices."""
    return {
        address
        for item in slices
        for endpoint in item.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint["addresses"]
    }


def _entries(item: Object) -> Mapping[str, Any]:
    try:
        value = json.loads((item.get("data") or {}).get(_ENGINES, "{}"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        log.warning("ConfigMap %s: %s is no JSON object", where, _ENGINES)
        return {}
    return value


def _is_ready(entry: Mapping[str, Any], ready: set[tuple[str, str]]) -> bool:
    """Engines outside the cluster (a provider) are taken for running."""
    try:
        name, namespace, _ = service_of(str(entry.get("url", "")))
    except InvalidInput:
        return True
    return (namespace, name) in ready
