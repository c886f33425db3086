"""`python -m proa_controller`: the composition root; on one machine by `--home`, else in a cluster.

What each is made of stands in `home` and `clustered`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry

from proa.errors import ProaError
from proa.http.serving import Health, metrics_listener, operations, serve
from proa_controller.app import make_app
from proa_controller.loop import Loop
from proa_controller.metrics import ControllerMetrics
from proa_controller.process import Process
from proa_controller.retrainer import Retrainer
from proa_controller.watcher import Watcher
from proa_controller.worklist import Collector

log = logging.getLogger("proa.controller")

_HOME_SECONDS = 0.2
_CLUSTER_SECONDS = 1.0
_SYNC_SECONDS = 0.1
_HOME_RETRAINING_SECONDS = 2.0
_RETRAINING_SECONDS = 30.0
_UNREAD = "the cluster was not read yet"
_CLUSTER = ("workloads", "engines", "routes", "lease", "mlflow", "bundles", "gateways", "key_file")


def main() -> None:
    """Read the command line and run until SIGTERM."""
    parser = _parser()
    asked = parser.parse_args()
    missing = [name for name in _CLUSTER if getattr(asked, name) is None]
    if missing if asked.home is None else len(missing) < len(_CLUSTER):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in _CLUSTER)
        parser.error(f"expected either --home, or all of {flags}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("httpx", "urllib3"):  # faults reach people in words of ours
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        with _chosen(asked) as process:
            _run(process, asked)
    except ProaError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from error


def _chosen(asked: argparse.Namespace) -> AbstractContextManager[Process]:
    if asked.home is not None:
        from proa_controller.home import at_home

        return at_home(asked)
    from proa_controller.clustered import in_cluster

    return in_cluster(asked)


def _run(process: Process, asked: argparse.Namespace) -> None:
    """Put the parts together and serve."""
    registry, health = CollectorRegistry(), Health()
    controller, leadership = process.controller, process.leadership
    # A cluster's changes are watched, and poke the loop; a home's are looked for.
    seconds = asked.tick_seconds or (_HOME_SECONDS if leadership is None else _CLUSTER_SECONDS)
    loop = Loop(controller, seconds, before=process.before)
    retrainer = _retrainer(process, asked)
    parts = (retrainer, _collector(process, asked), _watcher(process, asked))
    threads = [part for part in parts if part is not None]
    metrics = ControllerMetrics(registry, controller, leadership, retrainer, process.worklist)
    common = operations(health, registry, metrics=asked.metrics_port is None)
    app = make_app(
        controller,
        process.keys,
        common,
        slot_seconds=asked.slot_seconds,
        leadership=leadership,
        worklist=process.worklist,
    )
    waiting: list[asyncio.Task[None]] = []

    async def start() -> None:
        if process.ledger is not None:
            from proa.ledger.open import get_ready

            waiting.append(asyncio.create_task(get_ready(process.ledger, health)))
        process.start(loop.poke)
        health.set_unready(_UNREAD, "cluster")
        waiting.append(asyncio.create_task(_until_synced(process, health)))
        loop.start()
        for thread in threads:
            thread.start()

    async def stop() -> None:
        for task in waiting:
            task.cancel()
        with ExitStack() as stack:
            stack.callback(process.close)
            for thread in threads:
                stack.callback(thread.stop)
            loop.stop()

    metrics.publish()
    serve(
        app,
        host=asked.host,
        port=asked.port,
        also=metrics_listener(registry, asked.host, asked.metrics_port),
        health=health,
        drain_seconds=asked.drain_seconds,
        on_start=start,
        on_drain=stop,
    )


def _watcher(process: Process, asked: argparse.Namespace) -> Watcher:
    leadership = process.leadership
    return Watcher(
        process.controller,
        process.aliases,
        asked.alias_seconds,
        may=None if leadership is None else lambda: leadership.leading,
    )


def _retrainer(process: Process, asked: argparse.Namespace) -> Retrainer | None:
    """Who follows findings; nobody where there is no monitor, or nowhere to run."""
    findings, runner, leadership = process.findings, process.runner, process.leadership
    if findings is None or runner is None:
        return None
    fast = _RETRAINING_SECONDS if leadership is not None else _HOME_RETRAINING_SECONDS
    return Retrainer(
        process.controller,
        findings,
        runner,
        asked.retraining_seconds or fast,
        may=None if leadership is None else lambda: leadership.leading,
    )


def _collector(process: Process, asked: argparse.Namespace) -> Collector | None:
    """Who fills the worklist; nobody where there is no monitor."""
    leadership = process.leadership
    if process.findings is None or process.worklist is None:
        return None
    return Collector(
        process.controller,
        process.findings,
        process.worklist,
        asked.worklist_seconds,
        may=None if leadership is None else lambda: leadership.leading,
    )


async def _until_synced(process: Process, health: Health) -> None:
    """Not ready before what this process answers from was seen once."""
    while not process.synced():
        health.set_unready(_UNREAD, "cluster")
        await asyncio.sleep(_SYNC_SECONDS)
    health.set_ready("cluster")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="proa_controller", description="The rollout controller.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, help="/metrics apart; by default on --port")
    parser.add_argument("--drain-seconds", type=float, default=20.0)
    parser.add_argument("--tick-seconds", type=float)
    parser.add_argument("--alias-seconds", type=float, default=2.0)
    parser.add_argument("--retraining-seconds", type=float, help="between looks at findings")
    parser.add_argument("--worklist-seconds", type=float, default=30.0, help="the same")
    parser.add_argument("--slot-seconds", type=float, default=300.0)
    parser.add_argument("--home", type=Path, help="one machine: the platform's home folder")
    cluster = parser.add_argument_group(
        "in a cluster, all but --monitor, --pipelines… and one of --ledger"
    )
    cluster.add_argument("--workloads", help="deployments://NAMESPACE,…: where models run")
    cluster.add_argument("--engines", help="configmaps://NAMESPACE,…?label=KEY")
    cluster.add_argument("--routes", help="configmap://NAMESPACE/NAME")
    cluster.add_argument("--lease", help="NAMESPACE/NAME: who leads")
    cluster.add_argument("--ledger", metavar="URL", help="sqlite:////path/ledger.db")
    cluster.add_argument("--ledger-file", type=Path, metavar="FILE", help="holds the URL")
    cluster.add_argument("--mlflow", metavar="URL", help="log-in: ~/.mlflow/credentials")
    cluster.add_argument("--bundles", metavar="URL", help="file:///folder or s3://bucket/prefix")
    cluster.add_argument("--gateways", help="http://HEADLESS-SERVICE.NAMESPACE.svc:PORT")
    cluster.add_argument("--monitor", metavar="URL", help="asked for findings, labels of a shadow")
    cluster.add_argument("--pipelines", metavar="URL", help="Kubeflow's API: where findings run")
    cluster.add_argument("--pipelines-namespace", metavar="NAME", help="the profile's")
    cluster.add_argument("--pipelines-experiment", metavar="NAME", help="else the model's name")
    for name, what in (("token", "a bearer token"), ("ca", "whom to trust")):
        cluster.add_argument(f"--pipelines-{name}-file", type=Path, metavar="FILE", help=what)
    cluster.add_argument("--key-file", metavar="FILE", help="this process' key for the gateways")
    return parser


if __name__ == "__main__":
    main()
