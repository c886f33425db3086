"""MLflow's real server for tests: the command of `up`, on SQLite below a folder."""

from __future__ import annotations

from pathlib import Path

from proa.embedded.home import Home
from proa.embedded.parts import static_workloads
from proa.embedded.ports import PortPlan
from tests.processes import Processes, Started


def start_mlflow(processes: Processes, folder: Path, *, wait: bool = True) -> Started:
    """Start it on a free port with an empty database; with `wait`, until it answers."""
    home = Home(folder / "home").create()
    workloads = static_workloads(home, PortPlan())
    template = next(one.template for one in workloads if one.name == "mlflow")
    command = [part.replace("{host}", "127.0.0.1") for part in template.command]
    ready = template.ready if wait else None
    return processes.start(command, template.env, ready=ready, deadline=180)
