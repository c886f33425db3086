"""The controller of one machine, its parts chosen: files of a home, processes, SQLite."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from proa.embedded.daemon import ensure_supervisor
from proa.embedded.home import Home
from proa.embedded.platform_file import read_platform
from proa.embedded.workloads import WorkloadFiles
from proa.http.clock import WallClock
from proa.ledger.evidence import FileEvidence
from proa.ledger.journal import Journal
from proa.ledger.keys import KeyStore
from proa.ledger.worklist import Worklist
from proa.release.bundle import BundleStore
from proa.release.registry import Registry
from proa.rollout.freeze import read_freezes
from proa_controller.core import Controller
from proa_controller.embedded import ProcessLauncher, ProcessWorkloads
from proa_controller.findings import MonitorFindings
from proa_controller.gateways import Gateways
from proa_controller.process import Process
from proa_controller.process_runs import ProcessRuns
from proa_controller.routes import RoutesFile
from proa_controller.states import FileStates, only_writer
from proa_controller.truths import LabelTruths
from proa_controller.world import World

__all__ = ["at_home", "compose"]


@contextmanager
def at_home(asked: argparse.Namespace) -> Iterator[Process]:
    """The process over the home folder `asked.home`.

    Raises:
        Conflict: another controller writes there.
    """
    home = Home(asked.home)
    with only_writer(home.rollouts):
        keys = KeyStore(home.ledger)

        def keep() -> bool:
            """The supervisor keeps this process running as this one keeps the supervisor."""
            ensure_supervisor(home)
            return True

        urls = read_platform(home).urls
        yield Process(
            controller=compose(home),
            keys=keys,
            aliases=Registry(urls["mlflow"]),
            findings=MonitorFindings(urls["monitor"], home.key("controller").read_text().strip()),
            runner=ProcessRuns(home),
            worklist=Worklist(home.root / "worklist.db"),
            before=keep,
            close=keys.close,
        )


def compose(home: Home) -> Controller:
    """The controller of a home folder."""
    platform = read_platform(home)
    bundles = BundleStore(home.bundles)
    key = home.key("controller").read_text().strip()
    gateway = httpx.Client(
        base_url=platform.urls["gateway"],
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(2.0),
    )
    world = World(
        workloads=ProcessWorkloads(WorkloadFiles(home)),
        launcher=ProcessLauncher(home, platform, bundles),
        routes=RoutesFile(home.routes_file),
        gateways=Gateways([gateway]),
        bundles=bundles,
        engines=lambda: frozenset(read_platform(home).engines),
        truths=LabelTruths(platform.urls["monitor"], key),
    )
    return Controller(
        states=FileStates(home.rollouts),
        journal=Journal(home.journal),
        evidence=FileEvidence(home.rollouts / "evidence"),
        bundles=bundles,
        world=world,
        clock=WallClock(),
        freezes=lambda: read_freezes(home.freeze_file),
    )
