"""`python -m proa_controller`: the composition root of the controller on one machine."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry

from proa.embedded.daemon import ensure_supervisor
from proa.embedded.home import Home
from proa.embedded.platform_file import read_platform
from proa.embedded.workloads import WorkloadFiles
from proa.errors import Conflict
from proa.http.clock import WallClock
from proa.http.serving import Health, operations, serve
from proa.ledger.journal import Journal
from proa.ledger.keys import KeyStore
from proa.release.bundle import BundleStore
from proa.release.registry import Registry
from proa.rollout.freeze import read_freezes
from proa_controller.app import make_app
from proa_controller.core import Controller
from proa_controller.embedded import ProcessLauncher, ProcessWorkloads
from proa_controller.gateways import Gateways
from proa_controller.metrics import ControllerMetrics
from proa_controller.states import States, only_writer
from proa_controller.truths import LabelTruths
from proa_controller.watcher import Watcher
from proa_controller.world import World

log = logging.getLogger("proa.controller")


def main() -> None:
    """Read the command line and run until SIGTERM, as the only controller of this home."""
    parser = argparse.ArgumentParser(prog="proa_controller", description="The rollout controller.")
    parser.add_argument("--home", type=Path, required=True, help="the platform's home folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tick-seconds", type=float, default=0.2)
    parser.add_argument("--alias-seconds", type=float, default=2.0)
    parser.add_argument("--slot-seconds", type=float, default=300.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = Home(options.home)
    try:
        with only_writer(home.rollouts):
            _run(home, options)
    except Conflict as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from error


def _run(home: Home, options: argparse.Namespace) -> None:
    """Put the parts together and serve."""
    registry = CollectorRegistry()
    controller = compose(home)
    metrics = ControllerMetrics(registry, controller)
    loop = Loop(controller, options.tick_seconds, keep=lambda: ensure_supervisor(home))
    watcher = Watcher(
        controller, Registry(read_platform(home).urls["mlflow"]), options.alias_seconds
    )
    health = Health()
    keys = KeyStore(home.ledger)
    app = make_app(
        controller, keys, operations(health, registry), slot_seconds=options.slot_seconds
    )

    async def start() -> None:
        loop.start()
        watcher.start()

    async def stop() -> None:
        watcher.stop()
        loop.stop()
        keys.close()

    metrics.publish()
    serve(app, host=options.host, port=options.port, health=health, on_start=start, on_drain=stop)


def compose(home: Home) -> Controller:
    """The controller of a home folder, its parts chosen."""
    platform = read_platform(home)
    bundles = BundleStore(home.bundles)
    key = home.key("controller").read_text().strip()
    gateway = httpx.Client(
        base_url=platform.urls["gateway"],
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(2.0),
    )
    monitor = httpx.Client(
        base_url=platform.urls["monitor"],
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(10.0, connect=1.0),
    )
    world = World(
        workloads=ProcessWorkloads(WorkloadFiles(home)),
        launcher=ProcessLauncher(home, platform, bundles),
        routes=home.routes_file,
        gateways=Gateways([gateway]),
        bundles=bundles,
        engines=lambda: frozenset(read_platform(home).engines),
        truths=LabelTruths(monitor),
    )
    return Controller(
        states=States(home.rollouts, home.rollouts / "evidence"),
        journal=Journal(home.journal),
        bundles=bundles,
        world=world,
        clock=WallClock(),
        freezes=lambda: read_freezes(home.freeze_file),
    )


class Loop:
    """The thread that ticks, and keeps the supervisor running as the supervisor keeps this one."""

    def __init__(
        self, controller: Controller, seconds: float, *, keep: Callable[[], object]
    ) -> None:
        self._controller = controller
        self._seconds = seconds
        self._keep = keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End after the tick under way."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._keep()
                self._controller.tick()
            except Exception:
                log.exception("a tick failed and is tried again")


if __name__ == "__main__":
    main()
