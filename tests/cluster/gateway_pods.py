"""The charts' gateways and models in pods, without a controller: the test writes the routes.

Real: Kubernetes, kube-proxy, the gateways with every setting that charts/proa gives them, Postgres,
charts/predictor and charts/assistant. Faked: what serves a release (tests/standins/release_pod.py)
and the controller, whose timing a test of the gateways must decide itself.
"""

from __future__ import annotations

import contextlib
import copy
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proa.errors import Unavailable
from proa.ledger.migrations import migrate
from proa.ledger.open import Ledger, open_ledger
from proa.ledger.postgres import Postgres
from tests.charts import render
from tests.cluster.access import Cluster, Object
from tests.cluster.installing import apply_everywhere

DIGEST = "sha256:" + "ab" * 32
SMALL = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "384Mi"}}
# Enough that other pods of a busy machine do not starve what carries the calls.
CARRIES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "384Mi"}}
START_SECONDS = 300
PIECES, PACE_MS = 20, 300
"""Of a stream: six seconds."""


@dataclass
class GatewayPods:
    """Two gateways of the chart `proa` in one namespace, and models beside them.

    Attributes:
        url: of the user door, through its Service.
    """

    cluster: Cluster
    namespace: str
    url: str
    ledger: Ledger
    models: dict[str, Any] = field(default_factory=dict)
    generation: int = 0

    def key(self, *rights: str) -> str:
        """A new key; gateways may take a moment to know it."""

        def make() -> str | None:
            with contextlib.suppress(Unavailable):
                return self.ledger.keys.create(team="t", feature="f", rights=rights).text
            return None

        return str(self.cluster.wait(make, 60, "the ledger takes a key"))

    def install(
        self, model: str, kind: str, replicas: int, *, version: int = 1, name: str = "", **more: Any
    ) -> None:
        """Deployment and Service of one release, as the controller would leave them.

        Args:
            kind: classic or llm.
            name: of both, when it is not the model's.
        """
        chart = {"classic": "predictor", "llm": "assistant"}[kind]
        name = name or model
        extra = [f"--pieces={PIECES}", f"--pace-ms={PACE_MS}"] if kind == "llm" else []
        values = {
            "model": {"name": name},
            "image": {"repository": "proa-test-release", "tag": "0"},
            "replicas": replicas,
            "bundles": {"url": "s3://nowhere/proa"},
            "resources": CARRIES,
            "startup": {"timeoutSeconds": START_SECONDS},
            "fetch": {"resources": SMALL},
            "extraArgs": extra,
            **more,
        }
        found = copy.deepcopy(self._render(chart, name, values))
        template = render.one(found, "Deployment", name)["spec"]["template"]
        release = f"{model}/{version}@{DIGEST}"
        template["metadata"].setdefault("annotations", {})["proa.dev/release"] = release
        key = {"metadata": {"name": f"proa-{chart}-key", "namespace": self.namespace}}
        secret = {"apiVersion": "v1", "kind": "Secret", **key}
        secret["stringData"] = {f"{chart}.key": "a key"}
        apply_everywhere(self.cluster, [secret, *found])
        self.cluster.ready(self.namespace, f"deployment/{name}", START_SECONDS)

    def route(self, model: str, kind: str, **weights: tuple[str, int, int]) -> None:
        """Write the routes: track → Service, version, weight."""
        tracks = {
            track: {
                "release": f"{model}/{version}@{DIGEST}",
                "url": f"http://{service}.{self.namespace}.svc:8080",
                "ready": True,
                "weight": weight,
            }
            for track, (service, version, weight) in weights.items()
        }
        self.models[model] = {"kind": kind, "tracks": tracks}
        self.generation += 1
        document = {
            "schema_version": 1,
            "generation": self.generation,
            "models": self.models,
        }
        metadata = {"name": "proa-routes", "namespace": self.namespace}
        data = {"routes.json": json.dumps(document)}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self.cluster.apply(self.namespace, body)

    def pods(self, name: str) -> list[Object]:
        """The pods of a Deployment that are not on their way out."""
        found = self.cluster.get(self.namespace, "pods", selector=f"app.kubernetes.io/name={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def evict(self, pod: Object) -> None:
        """As a drain of its node does; waits while its disruption budget forbids it."""
        name = pod["metadata"]["name"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"

        def evicted() -> bool:
            done = self.cluster.run("create", "--raw", path, "-f", "-", given=json.dumps(body))
            assert done.returncode == 0 or "disruption budget" in done.stderr, done.stderr
            return done.returncode == 0

        self.cluster.wait(evicted, 180, f"{name} may be evicted")

    def _render(self, chart: str, name: str, values: dict[str, Any]) -> list[Object]:
        case = render.Case(
            chart, name, render.over(render.least(chart), values), (), self.namespace
        )
        return [one for one in render.objects(case) if one["kind"] != "Pod"]  # no helm test


@contextmanager
def gateway_pods(cluster: Cluster, namespace: str, home: Path) -> Iterator[GatewayPods]:
    """Two gateways and their ledger, Ready."""
    password = secrets.token_urlsafe(24)
    inside = f"proa-postgres.{namespace}.svc:5432"
    made = {
        "proa-postgres": {
            "postgres-password": password,
            "ledger-url": f"postgresql://proa:{password}@{inside}/proa",
        },
        "proa-engine-key": {"engine.key": secrets.token_urlsafe(24)},
    }
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": data,
        }
        for name, data in made.items()
    ]
    apply_everywhere(cluster, [*objects, *_platform(namespace)])
    cluster.ready(namespace, "statefulset/proa-postgres", START_SECONDS)
    place = urlsplit(cluster.address(namespace, "proa-postgres", 5432)).netloc
    url = f"postgresql://proa:{password}@{place}/proa"
    cluster.wait(lambda: _migrated(url), 60, "the ledger is reached through its Service")
    ledger = open_ledger(url)
    try:
        cluster.ready(namespace, "deployment/proa-gateway", START_SECONDS)
        door = cluster.address(namespace, "proa-gateway", 8080)
        yield GatewayPods(cluster, namespace, door, ledger)
    finally:
        ledger.close()


def _migrated(url: str) -> bool:
    database = Postgres(url, connections=1)
    try:
        with contextlib.suppress(Unavailable):
            migrate(database)
            return True
        return False
    finally:
        database.close()


def _platform(namespace: str) -> list[Object]:
    """What charts/proa renders for its gateways and its Postgres."""
    values = {
        "postgres": {
            "existingSecret": "",
            "bundled": True,
            "resources": CARRIES,
            "image": {"repository": "proa-test-postgres", "tag": "15"},
        },
        "gateway": {"resources": CARRIES, "startup": {"timeoutSeconds": START_SECONDS}},
    }
    case = render.Case("proa", "gateways", render.over(render.least("proa"), values), (), namespace)
    wanted = ("gateway", "postgres")
    return [
        one
        for one in render.objects(case)
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/component") in wanted
    ]
