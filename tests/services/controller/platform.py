"""A small platform for tests about rollouts: real supervisor, gateway and controller.

Left out: MLflow, monitor, features, engine: rollouts must work while they are down. Releases are
processes of `tests/standins/release_server.py` (runtime `image`), since what they answer does not
matter here and they start in 0.1 s.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from proa.embedded.daemon import ensure_supervisor
from proa.embedded.home import Home
from proa.embedded.local_keys import make_keys
from proa.embedded.parts import static_workloads
from proa.embedded.platform_file import Platform, read_platform, write_platform
from proa.embedded.ports import PortChoice
from proa.embedded.up import down
from proa.embedded.workloads import WorkloadFiles
from proa.fleet import Endpoints, Fleet
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from tests.processes import wait_until

SERVER = Path(__file__).resolve().parents[2] / "standins" / "release_server.py"


@dataclass
class SmallPlatform:
    """A running platform without MLflow; releases get their numbers here."""

    home: Home
    fleet: Fleet
    versions: int = 100

    @classmethod
    def start(cls) -> SmallPlatform:
        home = Home(Path(tempfile.mkdtemp(prefix="proa-")) / "home")
        home.root.mkdir()
        home.create()
        ports = PortChoice({}, auto=True).resolve(None)
        platform = Platform(home=home, ports=ports)
        make_keys(home)
        write_platform(platform)
        files = WorkloadFiles(home)
        for workload in static_workloads(home, ports):
            if workload.name in ("gateway", "controller"):
                files.apply(workload)
        ensure_supervisor(home)
        urls = platform.urls
        endpoints = Endpoints(
            gateway=urls["gateway"],
            controller=urls["controller"],
            monitor=urls["monitor"],
            mlflow=urls["mlflow"],
            bundles=home.bundles.as_uri(),
        )
        small = cls(home, Fleet(endpoints, home.key("admin").read_text().strip()))
        try:
            both = ("gateway", "controller")
            wait_until(lambda: all(small.complete(name) for name in both), deadline=60)
        except BaseException:
            small.stop()
            raise
        return small

    def stop(self) -> None:
        self.fleet.close()
        down(self.home)
        shutil.rmtree(self.home.root.parent)

    def start_mlflow(self) -> None:
        """Add the real MLflow server (10 to 20 s)."""
        platform = read_platform(self.home)
        for workload in static_workloads(self.home, platform.ports):
            if workload.name == "mlflow":
                WorkloadFiles(self.home).apply(workload)
        wait_until(lambda: self.complete("mlflow"), deadline=180)

    def create(self, name: str, number: int) -> ReleaseRef:
        """A release made as people make it: bundle, MLflow, journal."""
        manifest = manifest_of(name, number).model_dump(mode="json")
        with tempfile.TemporaryDirectory() as folder:
            return self.fleet.create_from_folder(Path(folder), manifest)

    def complete(self, name: str) -> bool:
        """Whether a workload serves its newest template."""
        status = WorkloadFiles(self.home).status(name)
        return status is not None and status.complete

    def pid(self, name: str) -> int:
        status = WorkloadFiles(self.home).status(name)
        assert status is not None
        assert status.pid is not None
        return status.pid

    def release(self, name: str, *options: str) -> ReleaseRef:
        """A new release of a model, announced to the controller."""
        self.versions += 1
        manifest = manifest_of(name, self.versions, *options)
        digest = BundleStore(self.home.bundles).put(manifest, self.home.root)
        ref = ReleaseRef(name, self.versions, digest)
        self.ask("POST", f"/v1/models/{name}/releases", {"release": str(ref), "reason": "test"})
        return ref

    def gate(self, ref: ReleaseRef, *, good: bool = True) -> dict[str, Any]:
        """Take the slot, hand in evidence of a small exam, free the slot."""
        slot = self.ask("POST", f"/v1/models/{ref.name}/gate", {"release": str(ref)})
        try:
            body = {"slot": slot["slot"], "evidence": evidence(slot, ref, good=good)}
            return dict(self.ask("POST", f"/v1/models/{ref.name}/verdicts", body))
        finally:
            self.ask("DELETE", f"/v1/models/{ref.name}/gate/{slot['slot']}")

    def promote(self, ref: ReleaseRef, **policy: Any) -> dict[str, Any]:
        """Ask for a rollout without MLflow; returns at once."""
        body = {"release": str(ref), "reason": "test", "policy": policy}
        return dict(self.ask("POST", f"/v1/models/{ref.name}/promote", body))

    def champion(self, name: str) -> ReleaseRef:
        """A model with its first release promoted."""
        ref = self.release(name)
        self.gate(ref)
        self.promote(ref)
        assert self.fleet.settle(name, seconds=60)["champion"] == str(ref)
        return ref

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the controller as the local user."""
        return self.fleet._controller(method, path, body)

    def predict(self, name: str, unit: str = "u") -> httpx.Response:
        """One user call through the gateway."""
        key = self.home.key("admin").read_text().strip()
        return httpx.post(
            f"{self.fleet.endpoints.gateway}/v1/models/{name}/predict",
            json={"rows": [{}]},
            headers={"authorization": f"Bearer {key}", "x-proa-unit": unit},
            timeout=20,
        )


def manifest_of(name: str, number: int, *options: str) -> Manifest:
    """A release whose runtime is a process; `number` makes it unlike the others."""
    command = [sys.executable, str(SERVER), "--port", "{port}", *options]
    return check_manifest(
        {
            "name": name,
            "kind": "classic",
            "runtime": {"kind": "image", "python": "3.11", "command": command},
            "classic": {"task": "binary", "model": "model", "columns": []},
            "parameters": {"number": number},
        }
    )


def evidence(slot: dict[str, Any], ref: ReleaseRef, *, good: bool) -> dict[str, Any]:
    """Evidence of an exam with a hundred rows over ten days, as the runner makes it."""
    from proa.exam.evidence import Outcome, make_evidence
    from proa.exam.rules import rules_from_json

    def results(right: bool, shift: float) -> list[Outcome]:
        return [
            Outcome(
                id=f"row-{number}",
                unit=f"day-{number % 10}",
                suite="rows",
                label=float(number % 2),
                value=(0.8 if (number % 2 == 1) == right else 0.2) + shift,
                decision=None,
            )
            for number in range(100)
        ]

    rules = rules_from_json(
        {
            "version": 1,
            "kind": "classic",
            "task": "binary",
            "unit": "day",
            "data": "x:y",
            "primary": {"metric": "roc_auc", "margin": 0.05, "higher_is_better": True},
            "floors": [{"metric": "roc_auc", "min": 0.6}],
        }
    )
    champion = slot["champion"]
    return make_evidence(
        model=ref.name,
        rules=rules,
        data="sha256:" + "d" * 64,
        runtime=slot["runtime"],
        candidate=ref.digest,
        candidate_results=results(good, 0.001 * ref.version % 0.05),
        champion=None if champion is None else ReleaseRef.parse(champion).digest,
        champion_results=None if champion is None else results(True, 0.0),
    )
