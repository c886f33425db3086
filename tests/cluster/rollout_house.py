"""A platform for tests about rollouts on a cluster: models in pods, gateway and controller here.

Real: the API server, its controllers, the kubelet and containers, charts/predictor and Helm, our
gateway and controller as processes of this machine (so that a test can `kill -9` one to the
millisecond). Faked: what serves a release (`tests/standins/release_pod.py`), the bundle in the pod,
and the EndpointSlice of the gateways' Service, whose addresses are this machine's.
Left out, unless a test adds it: MLflow, monitor, engines: rollouts must work while they are down.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from proa.fleet import Endpoints, Fleet
from proa.http.rights import ALL, INTERNAL, READ
from proa.ledger.open import open_ledger
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from tests.cluster.access import Cluster
from tests.cluster.gateway_house import own_address
from tests.processes import Processes, Started, free_port, wait_until
from tests.services.controller.platform import evidence

IMAGE = "proa-test-release"
CHART = Path(__file__).resolve().parents[2] / "charts" / "predictor"
SMALL = {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}}
QUICK = {
    "steps": [10, 50],
    "minimum_units": 20,
    "max_seconds": 120,
    "warm_seconds": 600,
    "error_margin": 0.7,
    "share_margin": 0.7,
    "latency_ratio": 50,
    "distribution_margin": 1.0,
}
"""Statistics have tests of their own: here a step passes when it was really served."""


@dataclass
class RolloutHouse:
    """One namespace with its own gateway, controller and ledger.

    Attributes:
        ledger: a migrated database's URL; else SQLite in `home`.
    """

    cluster: Cluster
    namespace: str
    home: Path
    processes: Processes
    mlflow: str = "http://127.0.0.1:9"
    ledger: str = ""
    versions: int = 0
    controllers: list[Started] = field(default_factory=list)

    def start(self) -> RolloutHouse:
        """Start gateway and controller."""
        self.bundles = BundleStore(self.home / "bundles")
        self.ledger = self.ledger or f"sqlite:///{self.home}/ledger.db"
        self.env = {"KUBECONFIG": str(self.cluster.kubeconfig), "HOME": str(self.home)}
        ledger = open_ledger(self.ledger)
        self.key = ledger.keys.create(team="t", feature="test", rights=ALL).text
        own = ledger.keys.create(team="proa", feature="controller", rights=[READ, INTERNAL]).text
        ledger.close()
        self.key_file = self.home / "controller.key"
        self.key_file.write_text(own)
        self.gateway = self.start_gateway()
        self.tell_gateways([self.gateway])
        controller = self.start_controller()
        endpoints = Endpoints(
            gateway=self.gateway.url,
            controller=controller.url,
            monitor="http://127.0.0.1:9",
            mlflow=self.mlflow,
            bundles=(self.home / "bundles").as_uri(),
        )
        self.fleet = Fleet(endpoints, self.key)
        return self

    def close(self) -> None:
        """End what was started here, the namespace stays."""
        if hasattr(self, "fleet"):
            self.fleet.close()
        self.processes.close()

    # Processes

    def start_gateway(self) -> Started:
        number, port = len(self.processes.running), free_port()
        flags = {
            "host": "0.0.0.0",
            "engine-port": free_port(),
            "ledger": self.ledger,
            "spool": self.home / f"spool-{number}",
            "routes": f"configmap://{self.namespace}/proa-routes",
            "engines": f"configmaps://{self.namespace}?label=proa.dev/engine",
        }
        argv = ["python", "-m", "proa_gateway", "--port", "{port}", *_flags(flags)]
        return self.processes.start(argv, self.env, port=port, ready=None)

    def start_controller(self, *, name: str = "controller-a", port: int | None = None) -> Started:
        """A controller process of this pod name; waits until it answers."""
        flags = {
            "workloads": f"deployments://{self.namespace}",
            "engines": f"configmaps://{self.namespace}?label=proa.dev/engine",
            "routes": f"configmap://{self.namespace}/proa-routes",
            "lease": f"{self.namespace}/proa-controller",
            "ledger": self.ledger,
            "mlflow": self.mlflow,
            "bundles": (self.home / "bundles").as_uri(),
            "gateways": f"http://gateway-pods.{self.namespace}.svc:{self.gateway.url.split(':')[-1]}",
            "key-file": self.key_file,
            "alias-seconds": 0.5,
        }
        argv = ["python", "-m", "proa_controller", "--port", "{port}", *_flags(flags)]
        env = {**self.env, "POD_NAME": name}
        started = self.processes.start(argv, env, port=port, ready="/readyz", deadline=60)
        self.controllers.append(started)
        return started

    def restart_controller(self) -> None:
        """`kill -9`, and a new container of the same pod."""
        old = self.controllers[-1]
        self.processes.kill(old.proc)
        self.start_controller(port=int(old.url.split(":")[-1]))

    def tell_gateways(self, gateways: list[Started], *, ready: bool = True) -> None:
        """Write the EndpointSlice of the gateways' headless Service."""
        port = int(self.gateway.url.split(":")[-1])
        metadata = {
            "name": "gateway-pods-1",
            "labels": {"kubernetes.io/service-name": "gateway-pods"},
        }
        self.cluster.apply(
            self.namespace,
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata,
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
                "endpoints": [
                    {"addresses": [own_address()], "conditions": {"ready": ready}} for _ in gateways
                ],
            },
        )

    # Models

    def install(self, model: str, *, helm: int = 4, upgrade: bool = False, **values: Any) -> None:
        """`helm install MODEL charts/predictor`, with stand-ins instead of our images."""
        settings = {
            "model": {"name": model},
            "image": {"repository": IMAGE, "tag": "0"},
            "replicas": 2,
            "bundles": {"url": "s3://nowhere/proa"},
            "resources": SMALL,
            "fetch": {"resources": SMALL},
            "drain": {"lingerSeconds": 5, "timeoutSeconds": 5},
            "networkPolicy": {"enabled": False},
            **values,
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "proa-predictor-key"},
            "stringData": {"predictor.key": "a key"},
        }
        self.cluster.apply(self.namespace, secret)
        verb = "upgrade" if upgrade else "install"
        arguments = (verb, model, str(CHART), "-n", self.namespace, "-f", "-", "--wait")
        done = self.cluster.helm(helm, *arguments, given=json.dumps(settings))
        assert done.returncode == 0, f"{done.stderr}\n{self.cluster.explain(self.namespace)}"

    def release(self, model: str, version: int | None = None) -> ReleaseRef:
        """A new release, announced; its version tells what becomes of it (release_pod.py)."""
        self.versions += 1
        number = version or self.versions
        digest = self.bundles.put(manifest_of(model, number), self.home)
        ref = ReleaseRef(model, number, digest)
        self.ask("POST", f"/v1/models/{model}/releases", {"release": str(ref), "reason": "test"})
        return ref

    def create(self, model: str) -> ReleaseRef:
        """A release as people make it: bundle, MLflow, journal. Needs a house with MLflow."""
        self.versions += 1
        manifest = manifest_of(model, self.versions).model_dump(mode="json")
        with tempfile.TemporaryDirectory() as folder:
            return self.fleet.create_from_folder(Path(folder), manifest)

    def gate(self, ref: ReleaseRef, *, good: bool = True) -> dict[str, Any]:
        """Take the slot, hand in evidence of a small exam, free the slot."""
        slot = self.ask("POST", f"/v1/models/{ref.name}/gate", {"release": str(ref)})
        try:
            body = {"slot": slot["slot"], "evidence": evidence(slot, ref, good=good)}
            return dict(self.ask("POST", f"/v1/models/{ref.name}/verdicts", body))
        finally:
            self.ask("DELETE", f"/v1/models/{ref.name}/gate/{slot['slot']}")

    def promote(self, ref: ReleaseRef, **policy: Any) -> None:
        """Ask for a rollout; returns at once."""
        settings = QUICK | policy
        body = {"release": str(ref), "reason": "test", "policy": settings}
        self.ask("POST", f"/v1/models/{ref.name}/promote", body)

    def champion(self, model: str) -> ReleaseRef:
        """A new release, judged and promoted at once."""
        ref = self.release(model)
        self.gate(ref)
        self.promote(ref, steps=[])
        self.settled(model, ref)
        return ref

    def settled(self, model: str, ref: ReleaseRef, seconds: float = 300) -> dict[str, Any]:
        """Wait until `ref` is champion, nothing is under way and every gateway knows."""

        def done() -> Any:
            status = self.status(model)
            ok = status["champion"] == str(ref) and status["phase"] == "idle" and status["routed"]
            return status if ok and self.running(model) == str(ref) else None

        try:
            found: dict[str, Any] = wait_until(done, seconds, every=0.2)
        except AssertionError as error:
            told = f"{self.status(model)}\n{self.history(model)}"
            raise AssertionError(f"{error}\n{told}\n{self.log()}") from None
        return found

    # What is

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.fleet._controller(method, path, body)

    def status(self, model: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/v1/models/{model}"))

    def history(self, model: str) -> list[str]:
        """The journal's actions with their reasons."""
        lines = self.ask("GET", f"/v1/models/{model}/history")["lines"]
        return [
            f"{line['action']} {line['release']} {line['who']}: {line['reason']}" for line in lines
        ]

    def actions(self, model: str) -> list[str]:
        return [line.split()[0] for line in self.history(model)]

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(self.cluster.get(self.namespace, "deployment", name))

    def undo(self, model: str, *more: str) -> None:
        """What a person does who knows nothing of proa."""
        self.cluster.kubectl("rollout", "undo", f"deployment/{model}", "-n", self.namespace, *more)

    def phase(self, model: str, phase: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a phase."""

        def there() -> dict[str, Any] | None:
            status = self.status(model)
            return status if status["phase"] == phase else None

        return wait_until(there, seconds, what=f"{model} is {phase}", every=0.05) or {}

    def running(self, name: str) -> str | None:
        """The release in a Deployment's template."""
        metadata = self.deployment(name)["spec"]["template"]["metadata"]
        found = metadata.get("annotations", {}).get("proa.dev/release")
        return None if found is None else str(found)

    def events(self, name: str) -> dict[str, str]:
        """Reason → message of the Events on a Deployment."""
        items = self.cluster.get(self.namespace, "events")
        return {
            item["reason"]: item["message"]
            for item in items
            if item["involvedObject"]["name"] == name
            and item["involvedObject"]["kind"] == "Deployment"
        }

    def state(self, model: str) -> dict[str, Any]:
        """What the controller remembers of a model."""
        found = self.cluster.get(self.namespace, "configmap", f"proa-rollout-{model}")
        return dict(json.loads(found["data"]["rollout.json"]))

    def log(self) -> str:
        return self.processes.log(self.controllers[-1].proc)[-3000:]

    def predict(self, model: str, unit: str = "u") -> httpx.Response:
        """One user call through the gateway."""
        return httpx.post(
            f"{self.gateway.url}/v1/models/{model}/predict",
            json={"rows": [{}]},
            headers={"authorization": f"Bearer {self.key}", "x-proa-unit": unit},
            timeout=20,
        )


@contextmanager
def rollout_house(
    cluster: Cluster, namespace: str, home: Path, **more: Any
) -> Iterator[RolloutHouse]:
    """A started house in an existing namespace."""
    processes = Processes(home)
    house = RolloutHouse(cluster, namespace, home, processes, **more)
    try:
        yield house.start()
    finally:
        house.close()


def manifest_of(model: str, number: int) -> Manifest:
    """A classic release on the platform's own runtime; nothing of it is read in these tests."""
    return check_manifest(
        {
            "name": model,
            "kind": "classic",
            "runtime": {"kind": "platform", "python": "3.11", "libraries": {}},
            "classic": {
                "task": "binary",
                "model": "model",
                "model_format": "mlflow",
                "columns": [],
            },
            "parameters": {"number": number},
        }
    )


def _flags(flags: dict[str, Any]) -> list[str]:
    return [f"--{key}={value}" for key, value in flags.items()]
