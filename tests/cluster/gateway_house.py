"""A gateway process on this machine that lives by a real Kubernetes API.

Real: the gateway, the API server, the watches, upstream processes that come and go. Faked: the
kubelet and the controllers that write EndpointSlices; the test writes them itself, and so decides
to the millisecond what a gateway can know when.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proa.cluster.api import Cluster, connect
from proa.errors import Conflict
from tests.processes import Processes, Started, free_port
from tests.services.gateway.conftest import House

MANAGER = "tests"


def own_address() -> str:
    """An address of this machine that an EndpointSlice may hold: loopback may not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


@dataclass
class ClusterHouse(House):
    """Routes in ConfigMap `proa-routes`, engines in any number of them, one namespace."""

    kubeconfig: Path = Path()
    namespace: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cluster: Cluster = connect(self.kubeconfig)
        self.env = {"KUBECONFIG": str(self.kubeconfig)}
        self.address = own_address()

    def sources(self) -> list[str]:
        engines = f"configmaps://{self.namespace}?label=proa.dev/engine"
        return ["--routes", f"configmap://{self.namespace}/proa-routes", "--engines", engines]

    def write(self) -> int:
        """Write routes, and engines into a ConfigMap of theirs; returns the new generation."""
        self.generation += 1
        routes = {"schema_version": 1, "generation": self.generation, "models": self.models}
        self.put("proa-routes", {"routes.json": json.dumps(routes)})
        if self.engines:
            self.put_engines("engines", self.engines)
        return self.generation

    def put_engines(self, name: str, engines: Mapping[str, Any]) -> None:
        self.put(name, {"engines.json": json.dumps(engines)}, {"proa.dev/engine": "any"})

    def put(
        self, name: str, data: Mapping[str, str], labels: Mapping[str, str] | None = None
    ) -> None:
        """Write a ConfigMap, new or not."""
        metadata = {"name": name, "namespace": self.namespace, "labels": dict(labels or {})}
        self._put("configmaps", {"metadata": metadata, "data": dict(data)})

    def delete(self, name: str) -> None:
        self.cluster.delete("configmaps", self.namespace, name)

    def put_slice(self, service: str, number: int, port: int, **conditions: bool) -> None:
        """Tell of one endpoint on this machine: ready unless said otherwise."""
        labels = {"kubernetes.io/service-name": service}
        metadata = {"name": f"{service}-{number}", "namespace": self.namespace, "labels": labels}
        told = {"ready": True, "serving": True, "terminating": False, **conditions}
        self._put(
            "endpointslices",
            {
                "metadata": metadata,
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
                "endpoints": [{"addresses": [self.address], "conditions": told}],
            },
        )

    def delete_slice(self, service: str, number: int) -> None:
        self.cluster.delete("endpointslices", self.namespace, f"{service}-{number}")

    def url_of(self, service: str) -> str:
        return f"http://{service}.{self.namespace}.svc:8080"

    def pod(self, service: str, number: int, release: str = "", *more: str) -> Started:
        """An upstream that is an endpoint of a service as soon as it answers."""
        return self._pod(service, number, "upstream", "/readyz", "--release", release, *more)

    def engine_pod(self, service: str, number: int, model: str) -> Started:
        """The same with the stand-in for vLLM."""
        return self._pod(service, number, "engine", "/health", "--model", model)

    def _pod(self, service: str, number: int, standin: str, ready: str, *more: str) -> Started:
        port = free_port()
        argv = ["python", "-m", f"tests.standins.{standin}", "--host", "0.0.0.0"]
        started = self.processes.start([*argv, "--port", "{port}", *more], port=port, ready=ready)
        self.put_slice(service, number, port)
        return started

    def _put(self, kind: str, body: dict[str, Any]) -> None:
        try:
            self.cluster.create(kind, self.namespace, body, manager=MANAGER)
        except Conflict:
            self.cluster.replace(kind, self.namespace, body, manager=MANAGER)


@contextlib.contextmanager
def cluster_house(
    kubeconfig: Path, namespace: str, processes: Processes, home: Path
) -> Iterator[ClusterHouse]:
    """Nothing started yet; the namespace exists."""
    house = ClusterHouse(processes, home, kubeconfig=kubeconfig, namespace=namespace)
    try:
        yield house
    finally:
        house.close()
