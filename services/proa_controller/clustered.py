"""The controller in a cluster, its parts chosen: Deployments, ConfigMaps, a Lease, the ledger."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from proa.cluster.api import Cluster, connect
from proa.cluster.lease import Election
from proa.cluster.watch import Watched
from proa.errors import InvalidInput
from proa.http.clock import WallClock
from proa.ledger.open import ledger_url, open_ledger
from proa.release.bundle import BundleStore
from proa.release.registry import Registry
from proa_controller.configmap_routes import ConfigMapRoutes
from proa_controller.configmap_states import ConfigMapStates
from proa_controller.core import Controller
from proa_controller.deployed import release_in
from proa_controller.deployments import DeploymentWorkloads
from proa_controller.discovery import ClusterEngines, ClusterGateways
from proa_controller.findings import MonitorFindings
from proa_controller.gateways import Gateways
from proa_controller.kubeflow_runs import KubeflowRuns, Pipelines
from proa_controller.leadership import Leadership
from proa_controller.notices import Notices
from proa_controller.process import Process
from proa_controller.templates import RUNTIMES, TemplateLauncher, images_in
from proa_controller.truths import LabelTruths
from proa_controller.world import World

__all__ = ["Where", "in_cluster"]

_KINDS = {"predictor": "classic", "assistant": "llm"}


@dataclass(frozen=True, slots=True)
class Where:
    """The addresses in the flags, parsed."""

    models: tuple[str, ...]
    engines: tuple[str, ...]
    engine_label: str
    routes: tuple[str, str]
    lease: tuple[str, str]

    @classmethod
    def of(cls, asked: argparse.Namespace) -> Where:
        """Read the flags.

        Raises:
            InvalidInput: names the flag.
        """
        label = parse_qs(urlsplit(asked.engines).query).get("label", [])
        if len(label) != 1:
            raise InvalidInput(f"--engines={asked.engines}: expected …?label=KEY", param="engines")
        return cls(
            models=_namespaces("workloads", "deployments", asked.workloads),
            engines=_namespaces("engines", "configmaps", asked.engines),
            engine_label=label[0],
            routes=_object("routes", asked.routes, "configmap://"),
            lease=_object("lease", asked.lease),
        )


@contextmanager
def in_cluster(asked: argparse.Namespace) -> Iterator[Process]:
    """The process over a cluster.

    Raises:
        InvalidInput: a flag cannot be read.  Unavailable: no cluster is configured.
    """
    where = Where.of(asked)
    ledger = open_ledger(ledger_url(asked.ledger, asked.ledger_file))
    try:
        yield _process(asked, where, connect(), ledger)
    finally:
        ledger.close()


def _process(asked: argparse.Namespace, where: Where, cluster: Cluster, ledger: Any) -> Process:
    changes = _Changes()
    identity = os.environ.get("POD_NAME") or socket.gethostname()
    election = Election(cluster, *where.lease, identity)
    writer = cluster.fenced(lambda: election.left)
    workloads = DeploymentWorkloads(writer, where.models, changed=changes)
    states = ConfigMapStates(writer, where.models, owner=lambda n: workloads.champions().get(n))
    routes = ConfigMapRoutes(writer, *where.routes)
    key = Path(asked.key_file).read_text().strip()
    gateways = ClusterGateways(cluster, asked.gateways, key)
    engines = ClusterEngines(cluster, where.engines, where.engine_label)
    runtimes = Watched(cluster, "configmaps", where.models, label=RUNTIMES)
    notices = Notices(writer, about=lambda n: workloads.champions().get(n))
    bundles = BundleStore.from_url(asked.bundles)
    world = World(
        workloads=workloads,
        launcher=TemplateLauncher(lambda: images_in(runtimes.items())),
        routes=routes,
        gateways=Gateways(gateways, known_ready=True),
        bundles=bundles,
        engines=engines,
        truths=None if asked.monitor is None else LabelTruths(asked.monitor, key),
    )
    controller = Controller(
        states=states,
        journal=ledger.journal,
        evidence=ledger.evidence,
        bundles=bundles,
        world=world,
        clock=WallClock(),
        tell=notices,
    )
    copies = (workloads, states, routes, gateways, engines, runtimes)
    leadership = Leadership(election, copies, take_over=controller.take_over)

    def start(changed: Callable[[], None]) -> None:
        changes.tell = changed
        for part in (*copies, notices, election):
            part.start()

    def close() -> None:
        election.stop()
        for part in (notices, *copies):
            part.stop()

    return Process(
        controller=controller,
        keys=ledger.keys,
        aliases=Registry(asked.mlflow),
        before=_before(controller, workloads, leadership),
        start=start,
        synced=lambda: all(part.synced for part in copies),
        close=close,
        leadership=leadership,
        ledger=ledger,
        findings=None if asked.monitor is None else MonitorFindings(asked.monitor, key),
        worklist=ledger.worklist,
        runner=None if asked.pipelines is None else KubeflowRuns(_pipelines(asked)),
    )


def _pipelines(asked: argparse.Namespace) -> Pipelines:
    return Pipelines(
        asked.pipelines,
        namespace=asked.pipelines_namespace,
        token_file=asked.pipelines_token_file,
        ca_file=asked.pipelines_ca_file,
        experiment=asked.pipelines_experiment,
    )


def _before(
    controller: Controller, workloads: DeploymentWorkloads, leadership: Leadership
) -> Callable[[], bool]:
    def before() -> bool:
        """Only who leads acts; what charts have installed since is taken in first."""
        if not leadership.ready():
            return False
        for name, item in workloads.champions().items():
            component = item["metadata"]["labels"].get("app.kubernetes.io/component", "")
            running = release_in(item["spec"]["template"])
            controller.adopt(name, _KINDS.get(component, "classic"), running)
        return True

    return before


class _Changes:
    """Passes on that something changed, once somebody wants to know."""

    tell: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.tell is not None:
            self.tell()


def _rest(flag: str, scheme: str, value: str) -> str:
    found, _, rest = value.partition("://")
    if found != scheme or not rest:
        raise InvalidInput(f"--{flag}={value}: expected {scheme}://…", param=flag)
    return rest


def _namespaces(flag: str, scheme: str, value: str) -> tuple[str, ...]:
    names = tuple(filter(None, _rest(flag, scheme, value).partition("?")[0].split(",")))
    if not names:
        raise InvalidInput(f"--{flag}={value}: expected {scheme}://NAMESPACE,…", param=flag)
    return names


def _object(flag: str, value: str, scheme: str = "") -> tuple[str, str]:
    namespace, _, name = value.removeprefix(scheme).partition("/")
    if not value.startswith(scheme) or not namespace or not name:
        raise InvalidInput(f"--{flag}={value}: expected {scheme}NAMESPACE/NAME", param=flag)
    return namespace, name
