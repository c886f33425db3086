"""`Workloads` over supervised processes; the same suite runs over Deployments in tests/cluster."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proa.embedded.daemon import ensure_supervisor
from proa.embedded.home import Home
from proa.embedded.up import down
from proa.embedded.workload import Template
from proa.embedded.workloads import WorkloadFiles
from proa.release.reference import ReleaseRef
from proa_controller.embedded import ProcessWorkloads
from tests.contract.rollout.workloads import Bench, WorkloadsContract

SERVER = Path(__file__).resolve().parents[2] / "standins" / "release_server.py"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = Home(tmp_path_factory.mktemp("supervised") / "home").create()
    ensure_supervisor(home)
    names = (f"m{number}" for number in itertools.count())
    yield Bench(ProcessWorkloads(WorkloadFiles(home)), lambda: next(names), template, 30)
    down(home)


def template(ref: ReleaseRef) -> Template:
    bad = ["--exit", "78"] if ref.version == 901 else []
    return Template(
        command=(sys.executable, str(SERVER), "--port", "{port}", *bad),
        env={"PROA_RELEASE": str(ref)},
        release=str(ref),
        labels={},
        startup_seconds=20,
        drain_seconds=5,
    )


class TestProcesses(WorkloadsContract):
    """The suite over processes."""
