"""The whole platform on a cluster, installed by its charts as manifests/samples/laptop says.

Real: every chart, image and process of ours, MLflow, Postgres, Prometheus. Faked: the engine
(tests/standins/engine.py) and the models' content, which is small and made up.
"""

from __future__ import annotations

import base64
import configparser
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from proa.fleet import Endpoints, Fleet
from proa.release.reference import ReleaseRef
from tests.cluster import seed
from tests.cluster.access import Cluster
from tests.services.controller.platform import evidence

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "manifests/samples/laptop"
NAMES = ("gateway", "controller", "monitor", "mlflow", "postgres", "prometheus")
MODELS = ("predictor", "assistant", "engine")


@dataclass
class Platform:
    """One installation in one namespace.

    Attributes:
        images: short name → name with tag, as `images_of` returns it.
        home: a folder for the releases that the tests make.
        helm: the version of Helm that installs.
        commands: what was said on the command line to install it, in words.
    """

    cluster: Cluster
    namespace: str
    images: Mapping[str, str]
    home: Path
    helm: int = 4
    commands: list[str] = field(default_factory=list)

    # Installing

    def install(self) -> None:
        """The four `helm install` of the sample; without `--wait`, in the order of the sample."""
        self._install("proa", "proa", self._platform_values())
        self._install("smollm2", "vllm", self._engine_values())
        self._install("flight-delay", "predictor", {})
        self._install("python-help", "assistant", {})

    def ready(self, deadline: float = 300) -> None:
        """Wait until every workload of the namespace is rolled out."""
        for kind in ("statefulset", "deployment"):
            for item in self.cluster.get(self.namespace, kind):
                name = f"{kind}/{item['metadata']['name']}"
                self.cluster.ready(self.namespace, name, deadline)

    def _install(self, release: str, chart: str, more: Mapping[str, Any]) -> None:
        sample = SAMPLE / f"values-{chart}.yaml"
        arguments = ("install", release, str(ROOT / "charts" / chart), "-n", self.namespace)
        done = self.cluster.helm(
            self.helm, *arguments, "-f", str(sample), "-f", "-", given=yaml.safe_dump(dict(more))
        )
        assert done.returncode == 0, f"helm install {release}: {done.stderr}"
        self.commands.append(f"helm install {release}")

    def _platform_values(self) -> dict[str, Any]:
        return {
            "postgres": {"image": self._image("postgres")},
            "prometheus": {"image": self._image("prometheus")},
        }

    def _engine_values(self) -> dict[str, Any]:
        """The stand-in in the place of vLLM: the chart cannot tell."""
        return {
            "image": self._image("engine"),
            "engine": {"command": ["python3", "/app/engine.py"]},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {}},
        }

    def _image(self, short: str) -> dict[str, str]:
        repository, _, tag = self.images[short].rpartition(":")
        return {"repository": repository, "tag": tag}

    # Using

    def secret(self, name: str, entry: str) -> str:
        data = self.cluster.get(self.namespace, "secret", name)["data"]
        return base64.b64decode(data[entry]).decode()

    def url(self, part: str, port: int = 8080) -> str:
        return self.cluster.address(self.namespace, f"proa-{part}", port)

    def fleet(self) -> Fleet:
        """The verbs, with the administrator's key; releases go to a folder of this machine."""
        endpoints = Endpoints(
            gateway=self.url("gateway"),
            controller=self.url("controller"),
            monitor=self.url("monitor"),
            # It answers only to names that it knows.
            mlflow=self.cluster.forward(self.namespace, "proa-mlflow", 5000),
            bundles=(self.home / "bundles").as_uri(),
        )
        return Fleet(endpoints, self.secret("proa-admin-key", "admin.key").strip())

    def mlflow_login(self, patch: pytest.MonkeyPatch) -> None:
        """Log in at MLflow as the platform's user, in this process."""
        given = configparser.ConfigParser()
        given.read_string(self.secret("proa-mlflow", "credentials"))
        section = given["mlflow"]
        patch.setenv("MLFLOW_TRACKING_USERNAME", section["mlflow_tracking_username"])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", section["mlflow_tracking_password"])

    def engine_identity(self) -> str:
        """What the engine serves its model as."""
        found = self.cluster.get(self.namespace, "configmap", selector="proa.dev/engine")
        return str(found[0]["metadata"]["labels"]["proa.dev/engine"])

    def carry(self) -> None:
        """Copy the releases made here into the claim of the bundle store."""
        store, image = self.home / "bundles", self.images["gateway"]
        seed.fill_claim(self.cluster, self.namespace, "proa-bundles", store, image=image)

    def judge(self, ref: ReleaseRef) -> None:
        """Take the slot, hand in evidence of a small exam, free the slot."""
        with self.fleet() as fleet:
            ask: Callable[..., Any] = fleet._controller
            slot = ask("POST", f"/v1/models/{ref.name}/gate", {"release": str(ref)})
            try:
                body = {"slot": slot["slot"], "evidence": evidence(slot, ref, good=True)}
                ask("POST", f"/v1/models/{ref.name}/verdicts", body)
            finally:
                ask("DELETE", f"/v1/models/{ref.name}/gate/{slot['slot']}")

    def proa(self, *arguments: str, deadline: float = 240) -> str:
        """`kubectl proa ARGUMENTS`, as a person types it."""
        command = Path(sys.executable).parent / "kubectl-proa"
        tools = f"{Path(self.cluster.kubectl_command).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [str(command), "-n", self.namespace, *arguments],
            env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "PATH": tools},
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )
        assert done.returncode == 0, f"kubectl proa {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def ask(self, path: str, body: Any, key: str) -> httpx.Response:
        """One user's request at the user door."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url('gateway')}{path}", json=body, headers=headers, timeout=60)

    # Measuring

    def usage(self) -> tuple[float, float]:
        """Memory in bytes (working set) and processor seconds of all containers so far."""
        memory = seconds = 0.0
        for item in self.cluster.get("default", "nodes"):
            path = f"/api/v1/nodes/{item['metadata']['name']}/proxy/stats/summary"
            told = yaml.safe_load(self.cluster.kubectl("get", "--raw", path))
            for pod in told["pods"]:
                name = pod["podRef"]["name"]
                if pod["podRef"]["namespace"] != self.namespace or name.startswith("smollm2"):
                    continue
                for container in pod.get("containers", []):
                    memory += container.get("memory", {}).get("workingSetBytes", 0)
                    seconds += container.get("cpu", {}).get("usageCoreNanoSeconds", 0) / 1e9
        return memory, seconds
