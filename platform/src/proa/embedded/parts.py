"""The static processes of a platform on one machine, as workloads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from proa.embedded.engine_choice import KEY_FILE, EngineSpec
from proa.embedded.home import Home
from proa.embedded.ports import HOST, PortPlan
from proa.embedded.supervisor import ORDER_LABEL
from proa.embedded.workload import Template, Workload

__all__ = ["ENGINE_KEY", "RESERVED", "engine_workload", "static_workloads"]

RESERVED: Final = frozenset(
    {"mlflow", "features", "monitor", "gateway", "controller", "supervisor"}
)
"""Names of workloads and logs that no model may have; nor may one begin with `engine-`."""
ENGINE_KEY: Final = "engine"
"""Name of the key file that gateway and engines share."""
# The highest stop first: who calls stops before who is called, and the monitor outlives those who
# send it events. Models carry no label: they stop before all of these.
_ORDER: Final[Mapping[str, str]] = {
    "mlflow": "1",
    "features": "1",
    "monitor": "2",
    "engine": "3",
    "gateway": "4",
    "controller": "5",
}


def static_workloads(
    home: Home, ports: PortPlan, *, judge: Mapping[str, Any] | None = None
) -> list[Workload]:
    """MLflow, features, monitor, gateway and controller.

    Args:
        judge: the platform's `judge`, see `platform_file.Platform`.
    """
    return [
        _mlflow(home, ports),
        _features(home, ports),
        _monitor(home, ports, judge),
        _gateway(home, ports),
        _controller(home, ports),
    ]


def engine_workload(home: Home, engine: EngineSpec) -> Workload:
    """The engine on its unix socket: nobody but this user reaches it, and only with its key."""
    key_file = str(home.key(ENGINE_KEY))
    template = Template(
        command=tuple(part.replace(KEY_FILE, key_file) for part in engine.command),
        env=engine.env,
        listen="uds",
        ready=engine.ready,
        labels={ORDER_LABEL: _ORDER["engine"]},
        startup_seconds=engine.startup_seconds,
        drain_seconds=engine.drain_seconds,
    )
    return Workload(f"engine-{engine.identity}", template)


def _mlflow(home: Home, ports: PortPlan) -> Workload:
    """MLflow's tracking server as one process.

    `mlflow server` is a parent that imports MLflow, starts this same command with these same
    variables and waits: twice the memory and twice the start, and a killed parent leaves the
    server behind with the port (measured with 3.17: 520 MB and 13 s against 265 MB and 7 s).
    What the parent does for the database, `mlflow_server` does.
    """
    artifacts = home.mlflow / "artifacts"
    template = Template(
        command=(
            *(sys.executable, "-m", "uvicorn", "--host", "{host}", "--port", "{port}"),
            *("--no-access-log", "--timeout-graceful-shutdown", "5"),
            *("--factory", "proa.embedded.mlflow_server:app"),
        ),
        env={
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{home.mlflow / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts.as_uri(),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        },
        cwd=str(home.mlflow),
        port=ports.mlflow,
        # Unlike /health it needs the database.
        ready="/api/2.0/mlflow/experiments/get?experiment_id=0",
        labels={ORDER_LABEL: _ORDER["mlflow"]},
        startup_seconds=180.0,
        drain_seconds=10.0,
    )
    return Workload("mlflow", template)


def _features(home: Home, ports: PortPlan) -> Workload:
    command = ("-m", "proa.features.server", "--folder", str(home.feast))
    return _service(
        "features",
        (*command, "--host", "{host}", "--port", "{port}"),
        port=ports.features,
        drain_seconds=5.0,
    )


def _monitor(home: Home, ports: PortPlan, judge: Mapping[str, Any] | None) -> Workload:
    command: tuple[str, ...] = (
        *("-m", "proa_monitor", "--host", "{host}", "--port", "{port}"),
        *("--events", str(home.events), "--bundles", home.bundles.as_uri()),
        *("--reports", str(home.reports), "--ledger", f"sqlite:///{home.ledger}"),
        *("--journal", str(home.journal), "--match-calls"),
    )
    if judge:
        command += (
            *("--judge-url", f"http://{HOST}:{ports.engine}", "--judge-engine", judge["engine"]),
            *("--judge-key-file", str(home.key("monitor")), "--judge-share", str(judge["share"])),
        )
    return _service("monitor", command, port=ports.monitor)


def _gateway(home: Home, ports: PortPlan) -> Workload:
    command = (
        *("-m", "proa_gateway", "--host", "{host}", "--port", "{port}"),
        *("--engine-port", str(ports.engine)),
        *("--ledger", f"sqlite:///{home.ledger}", "--spool", str(home.spool)),
        *("--routes", home.routes_file.as_uri(), "--engines", home.platform_file.as_uri()),
    )
    return _service("gateway", command, port=ports.gateway)


def _controller(home: Home, ports: PortPlan) -> Workload:
    command = (
        *("-m", "proa_controller", "--host", "{host}", "--port", "{port}"),
        *("--home", str(home.root)),
    )
    return _service("controller", command, port=ports.controller)


def _service(
    name: str, arguments: tuple[str, ...], *, port: int, drain_seconds: float = 25.0
) -> Workload:
    template = Template(
        command=(sys.executable, *arguments),
        port=port,
        labels={ORDER_LABEL: _ORDER[name]},
        startup_seconds=120.0,
        drain_seconds=drain_seconds,
    )
    return Workload(name, template)
