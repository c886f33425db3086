"""MLflow as `up` starts it, on an empty database. Nothing is faked."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.mlflow_server import start_mlflow
from tests.processes import Processes, wait_until

ASKED = ("experiments/get?experiment_id=0", "registered-models/search?max_results=1")


def test_first_requests_at_once_do_not_break_an_empty_database(
    processes: Processes, tmp_path: Path
) -> None:
    """The probe of readiness and the controller both ask as soon as the port answers."""
    mlflow = start_mlflow(processes, tmp_path, wait=False)
    address = ("127.0.0.1", int(mlflow.url.rpartition(":")[2]))

    def listens() -> bool:
        assert mlflow.proc.poll() is None, processes.log(mlflow.proc)
        with socket.socket() as client:
            return client.connect_ex(address) == 0

    wait_until(listens, 180)
    api = f"{mlflow.url}/api/2.0/mlflow"
    with httpx.Client(trust_env=False, timeout=60) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: client.get(f"{api}/{ASKED[n % 2]}"), range(8)))
    said = processes.log(mlflow.proc)
    assert [answer.status_code for answer in answers] == [200] * 8, said[-3000:]
