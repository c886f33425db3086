"""MLflow's server as `up` runs it: its database has all tables before the port answers anybody.

    python -m uvicorn --factory proa.embedded.mlflow_server:app

MLflow's app makes the tables with its first request, and two first requests at once (the probe of
readiness, the controller) make them twice, which leaves a broken database. `mlflow server` does
this in a parent process of its own.
"""

from __future__ import annotations

from typing import Any

__all__ = ["app"]


def app() -> Any:
    """MLflow's ASGI app over the stores that the variables of `mlflow server` name."""
    from mlflow.server.fastapi_app import app as server
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores()
    return server
